"""From a model and a budget to a pruned model and its verdict: the only place that composes the stages."""

from __future__ import annotations

import fnmatch
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import plan as plans
from .allocate import by_budget, by_ratio
from .channels import Granularity, analyze
from .cleanup import cleaned
from .criteria import Context, Criterion
from .criteria import get as get_criterion
from .errors import CheckFailed, Infeasible, InputError, UsageError
from .fold import folded
from .graph import Array, Facts, Graph, infer, load, require_finite, save, with_known_branches
from .ops.cost import macs as count_macs
from .rewrite import rewrite
from .runtime import ExecutionOptions, Session, TensorSpec, latency, random_feeds
from .runtime import ratio as latency_ratio
from .types import Analysis, Blocked, Mask, Plan, Size, Speed, Verdict
from .validate import accuracy, drift, masked, surgery_error

Feeds = Mapping[str, Array]
Progress = Callable[[str], None]
"""Told what begins."""


@dataclass(frozen=True)
class Budget:
    """How much stays; exactly one of them.

    Attributes:
        ratio: share of the channels of every group to remove.
        macs: share of the model's multiply-accumulates to keep.
        params: share of the model's parameters to keep.
    """

    ratio: float | None = None
    macs: float | None = None
    params: float | None = None

    def checked(self) -> Budget:
        """This budget.

        Raises:
            UsageError: there is none, or more than one, or a share outside (0, 1).
        """
        given = {k: v for k, v in asdict(self).items() if v is not None}
        if len(given) != 1:
            raise UsageError("give exactly one of --ratio, --macs and --params")
        for name, value in given.items():
            if not 0 < value < 1:
                raise UsageError(f"{value:g} is not between 0 and 1", where=f"--{name}")
        return self


@dataclass(frozen=True)
class Prepared:
    """A model ready for surgery.

    Attributes:
        original: as it was loaded.
        graph: what surgery starts from (the original, or cleaned).
        facts: shapes and values of `graph`.
        analysis: its groups.
        notes: what happened on the way.
    """

    original: Graph
    graph: Graph
    facts: Facts
    analysis: Analysis
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A pruned model.

    Attributes:
        graph: the model; `save` writes it.
        plan: what was kept, to replay with `apply`.
        verdict: what is known of it.
        prepared: what it was made from.
        kept: (analysis.count,), whether each unit stayed.
    """

    graph: Graph
    plan: Plan
    verdict: Verdict
    prepared: Prepared
    kept: Mask

    @property
    def model(self) -> Any:
        """The `onnx.ModelProto`."""
        return self.graph.model

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the model, whole or not at all; returns the bytes written."""
        return save(self.graph, path)


def prepare(
    model: str | os.PathLike[str] | Graph,
    *,
    simplify: bool = True,
    granularity: Granularity = "auto",
    keep: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> Prepared:
    """Load, clean and analyse a model.

    Args:
        model: a file, or a graph.
        simplify: clean the graph first; the result is checked in ONNX Runtime.
        granularity: what may go of attention: heads or width.
        keep: patterns (`*`, `?`) of node or weight names whose channels must stay.
        progress: told what begins.

    Raises:
        InputError: the model can't be read or run.
    """
    original = model if isinstance(model, Graph) else load(model)
    require_finite(original)
    graph, notes = original, []
    if simplify:
        progress("Cleaning the graph")
        graph, note = cleaned(original, infer(original))
        notes += [note] if note else []
    progress("Analysing channels")
    graph = folded(graph)
    facts = infer(graph)
    resolved = with_known_branches(graph, facts)
    if resolved is not graph:
        graph, facts = resolved, infer(resolved)
    analysis = analyze(graph, facts, granularity=granularity)
    return Prepared(original, graph, facts, _without(graph, analysis, keep), tuple(notes))


def _without(graph: Graph, analysis: Analysis, patterns: Sequence[str]) -> Analysis:
    if not patterns:
        return analysis
    groups, blocked = [], list(analysis.blocked)
    for group in analysis.groups:
        nodes = [graph.nodes[i] for i in group.nodes]
        names = {group.name, *(n.name for n in nodes), *(i for n in nodes for i in n.inputs)}
        pattern = next((p for p in patterns if any(fnmatch.fnmatchcase(n, p) for n in names)), None)
        if pattern is None:
            groups.append(group)
        else:
            blocked += [Blocked(i, group.size, i, f"is kept by --keep {pattern}") for i in group.nodes]
    return replace(analysis, groups=tuple(groups), blocked=tuple(blocked))


def prune(
    model: str | os.PathLike[str] | Graph,
    *,
    ratio: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    criterion: str | Criterion = "l1",
    round_to: int = 1,
    min_channels: int = 1,
    keep: Sequence[str] = (),
    simplify: bool = True,
    granularity: Granularity = "auto",
    seed: int = 0,
    samples: Iterable[Feeds] | None = None,
    labelled: Iterable[tuple[Feeds, Array]] | None = None,
    measure_latency: bool = True,
    progress: Progress = lambda _: None,
) -> Result:
    """Remove whole channels until the budget is met.

    Args:
        model: a file, or a graph.
        ratio: share of the channels of every group to remove.
        macs: share of the multiply-accumulates to keep at the most.
        params: share of the parameters to keep at the most.
        criterion: what a unit is worth: a name, or an object like those of `onnxprune.criteria`.
        round_to: keep a multiple of this many channels of each group where it has more.
        min_channels: keep at least this many of each group.
        keep: patterns of node or weight names whose channels must stay.
        simplify: clean the graph first.
        granularity: what may go of attention.
        seed: of everything random.
        samples: batches of inputs by name, to measure drift on.
        labelled: batches with classes, to measure accuracy on.
        measure_latency: run both models side by side.
        progress: told what begins.

    Raises:
        UsageError: the budget is wrong.
        Infeasible: nothing can be pruned, or the budget can't be met.
        CheckFailed: the surgery was not exact (a bug: nothing should be written).
        InputError: the model can't be read or run.
    """
    budget = Budget(ratio, macs, params).checked()
    chosen = get_criterion(criterion) if isinstance(criterion, str) else criterion
    ready = prepare(model, simplify=simplify, granularity=granularity, keep=keep, progress=progress)
    if not ready.analysis.groups:
        raise Infeasible(why_nothing(ready), where=ready.original.where)
    progress("Scoring channels")
    scores = chosen.scores(Context(ready.graph, ready.analysis, None, seed))
    if budget.ratio is not None:
        kept = by_ratio(ready.analysis, scores, budget.ratio, round_to=round_to, min_channels=min_channels)
    else:
        kept = by_budget(
            ready.graph,
            ready.facts,
            ready.analysis,
            scores,
            macs=budget.macs,
            params=budget.params,
            round_to=round_to,
            min_channels=min_channels,
        )
    options = {
        "criterion": chosen.name,
        **{k: v for k, v in asdict(budget).items() if v is not None},
        "round_to": round_to,
        "min_channels": min_channels,
        "keep": list(keep),
        "simplify": simplify,
        "granularity": granularity,
        "repair": "none",
        "seed": seed,
    }
    return _finish(ready, kept, options, seed, samples, labelled, measure_latency, progress)


def apply(
    model: str | os.PathLike[str] | Graph,
    plan: Plan,
    *,
    samples: Iterable[Feeds] | None = None,
    labelled: Iterable[tuple[Feeds, Array]] | None = None,
    measure_latency: bool = True,
    progress: Progress = lambda _: None,
) -> Result:
    """Replay a plan on the model it was made for, or on one with the same weights' names and shapes.

    Raises:
        InputError: the plan does not fit; the message names the first difference.
        CheckFailed: the surgery was not exact.
    """
    options = plan.options
    ready = prepare(
        model,
        simplify=bool(options.get("simplify", True)),
        granularity=options.get("granularity", "auto"),
        progress=progress,
    )
    kept = plans.fit(plan, ready.graph, ready.analysis)
    seed = int(options.get("seed", 0))
    return _finish(ready, kept, options, seed, samples, labelled, measure_latency, progress)


def _finish(
    ready: Prepared,
    kept: Mask,
    options: Mapping[str, Any],
    seed: int,
    samples: Iterable[Feeds] | None,
    labelled: Iterable[tuple[Feeds, Array]] | None,
    measure_latency: bool,
    progress: Progress,
) -> Result:
    """Surgery, proof and verdict."""
    progress("Rewriting the graph")
    graph = rewrite(ready.graph, ready.facts, ready.analysis, kept)
    plan = plans.make_plan(ready.graph, ready.analysis, kept, options)
    progress("Proving the surgery")
    with open_session(ready.original) as before, open_session(graph) as after:
        feeds = _random(ready.facts, before, seed)
        error, exact = 0.0, True
        if not kept.all():
            with open_session(masked(ready.graph, ready.facts, ready.analysis, kept)) as reference:
                error, exact = surgery_error(reference, after, feeds)
        if not exact:
            raise CheckFailed(
                f"the surgery is not exact: outputs differ by {error:.2g} from the masked original",
                where=ready.original.where,
                hint="this is a bug of onnxprune, please report it; nothing was written",
            )
        progress("Comparing with the original")
        verdict = Verdict(
            before=size(ready.original),
            after=size(graph),
            surgery_error=error,
            exact=exact,
            drift=drift(before, after, samples) if samples is not None else None,
            accuracy=_accuracies(before, after, labelled),
            speed=_speed(before, after, feeds) if measure_latency else None,
            warnings=ready.notes,
        )
    return Result(graph, plan, verdict, ready, kept)


def compare(
    original: str | os.PathLike[str] | Graph,
    pruned: str | os.PathLike[str] | Graph,
    *,
    samples: Iterable[Feeds] | None = None,
    labelled: Iterable[tuple[Feeds, Array]] | None = None,
    seed: int = 0,
    measure_latency: bool = True,
) -> Verdict:
    """Judge any two models that should do the same, on samples or, without any, on random inputs.

    Raises:
        InputError: a model can't be read or run, or their inputs or outputs differ.
    """
    left, right = (m if isinstance(m, Graph) else load(m) for m in (original, pruned))
    with open_session(left) as before, open_session(right) as after:
        for kind, a, b in (
            ("inputs", before.inputs, after.inputs),
            ("outputs", before.outputs, after.outputs),
        ):
            if [(s.name, s.dtype) for s in a] != [(s.name, s.dtype) for s in b]:
                raise InputError(f"its {kind} differ from those of {left.where}", where=right.where)
        feeds = _random(infer(left), before, seed)
        return Verdict(
            before=size(left),
            after=size(right),
            surgery_error=None,
            exact=False,
            drift=drift(before, after, [feeds] if samples is None else samples),
            accuracy=_accuracies(before, after, labelled),
            speed=_speed(before, after, feeds) if measure_latency else None,
        )


def _accuracies(before: Session, after: Session, labelled: Iterable[tuple[Feeds, Array]] | None) -> Any:
    if labelled is None:
        return None
    batches = list(labelled)
    return accuracy(before, batches), accuracy(after, batches)


def size(graph: Graph) -> Size:
    """Parameters, multiply-accumulates for one sample-sized batch, and bytes."""
    return Size(graph.parameters(), sum(count_macs(graph, infer(graph)).values()), graph.size())


def _random(facts: Facts, session: Session, seed: int) -> dict[str, Array]:
    """Random inputs of the shapes that were assumed."""
    specs = [TensorSpec(s.name, s.dtype, facts.shapes.get(s.name) or s.shape) for s in session.inputs]
    return random_feeds(specs, np.random.default_rng(seed))


def _speed(before: Session, after: Session, feeds: Feeds) -> Speed:
    started = time.perf_counter()
    before.run(feeds)
    slow = time.perf_counter() - started > 0.5
    timings = latency([after, before], [feeds, feeds], rounds=4 if slow else None, seconds=0.5, warmup=1)
    measured = latency_ratio(timings.seconds[0], timings.seconds[1])
    after_s, before_s = timings.medians
    return Speed(before_s, after_s, measured.value, measured.low, measured.high)


class open_session:  # noqa: N801  (reads as a function)
    """A session for a graph; one too large for protobuf goes through a temporary folder."""

    def __init__(self, graph: Graph, options: ExecutionOptions | None = None) -> None:
        self._graph = graph
        self._options = options
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Session:
        try:
            data = self._graph.serialized()
        except InputError:
            self._folder = tempfile.TemporaryDirectory(prefix="onnxprune-")
            path = Path(self._folder.name) / "model.onnx"
            save(self._graph, path)
            return Session(path, self._options)
        return Session(data, self._options)

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def why_nothing(ready: Prepared) -> str:
    """Why a model has no prunable channels, in words."""
    blocked = ready.analysis.blocked
    if not blocked:
        return "no layer has channels that could be removed"
    largest = max(blocked, key=lambda b: b.channels)
    graph = ready.graph
    by = str(graph.nodes[largest.by]) if largest.by >= 0 else "the graph's end"
    return f"nothing can be pruned: {graph.nodes[largest.node]} is blocked at {by}: {largest.reason}"


def batched(feeds: Feeds, labels: Array | None, size: int) -> Iterator[tuple[Feeds, Array | None]]:
    """Slices of arrays along their first axis."""
    count = len(next(iter(feeds.values())))
    for start in range(0, count, size):
        part = slice(start, start + size)
        yield {k: v[part] for k, v in feeds.items()}, None if labels is None else labels[part]
