"""`prune` and `apply`: one keyword for each flag of the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import measure
from .. import plan as plans
from ..channels import Granularity
from ..criteria import Criterion
from ..criteria import get as get_criterion
from ..errors import Infeasible
from ..graph import Graph, save
from ..repair import Mode, Outcome, Surgery, repair
from ..stats import Stats
from ..types import Mask, Plan, Verdict
from .choice import choose
from .evidence import Calibration, Evidence, Feeds, Labelled, Source, gather, labelled, opened
from .judge import assumed, judge, require_worth
from .operate import operate
from .prepare import Prepared, Progress, prepare, why_nothing
from .sessions import open_session
from .settings import Budget, Settings

_READS_NORMS = frozenset({"bn-scale"})


@dataclass(frozen=True)
class Result:
    """A pruned model.

    Attributes:
        graph: the model; `save` writes it.
        plan: what was kept, to replay with `apply`.
        verdict: what is known of it.
        prepared: what it was made from.
        kept: (analysis.count,), whether each unit stayed.
        repaired: what became of the weights that are left.
    """

    graph: Graph
    plan: Plan
    verdict: Verdict
    prepared: Prepared
    kept: Mask
    repaired: Outcome

    @property
    def model(self) -> Any:
        """The `onnx.ModelProto`."""
        return self.graph.model

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the model, whole or not at all; returns the bytes written."""
        return save(self.graph, path)


def prune(  # noqa: PLR0913  (a keyword for each flag)
    model: str | os.PathLike[str] | Graph,
    *,
    ratio: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    calib: Source | Calibration | None = None,
    labels: str | os.PathLike[str] | Labelled | None = None,
    stats: str | os.PathLike[str] | Stats | None = None,
    criterion: str | Criterion | None = None,
    repair: Mode = "auto",
    round_to: int = 1,
    min_channels: int = 1,
    keep: Sequence[str] = (),
    granularity: Granularity = "auto",
    simplify: bool = True,
    seed: int = 0,
    batch: int = 32,
    memory: float = 2e9,
    evaluations: int = 200,
    force: bool = False,
    measure_latency: bool = True,
    progress: Progress = lambda _: None,
) -> Result:
    """Remove whole channels until the budget is met.

    Args:
        model: a file, or a graph.
        ratio: share of the channels of every group to remove; give this, `macs` or `params`.
        macs: share of the multiply-accumulates to keep at the most.
        params: share of the parameters to keep at the most.
        calib: samples, for scores, repair and drift; three tenths are held back.
        labels: an `.npz` with inputs and `labels`, to measure accuracy on.
        stats: statistics that `onnxprune calibrate` gathered; else they are measured on `calib`.
        criterion: see `Settings`, as for the following.
        repair: none, bias, fold, reuse, auto.
        round_to: keep a multiple of this many channels of each group.
        min_channels: keep at least this many of each group.
        keep: patterns of node or weight names whose channels must stay.
        granularity: what may go of attention.
        simplify: clean the graph first; not for `bn-scale`, as cleaning folds what it reads.
        seed: of everything random.
        batch: samples that run together.
        memory: bytes of activations to hold in memory.
        evaluations: runs of held-back samples to spend on the allocation.
        force: give a result that is not faster or drifts far, too.
        measure_latency: run both models side by side.
        progress: told what begins.

    Raises:
        UsageError: the budget or an option is wrong.
        Infeasible: nothing can be pruned, the budget can't be met, or the result is no gain.
        CheckFailed: the surgery was not exact (a bug), or the result drifts far.
        InputError: the model or the samples can't be read or don't fit.
    """
    budget = Budget(ratio, macs, params)
    sampled = calib is not None or stats is not None
    settings = Settings(
        criterion if criterion is not None else "obs" if sampled else "l1",
        repair,
        round_to,
        min_channels,
        keep,
        granularity,
        simplify and criterion not in _READS_NORMS,
        seed,
        batch,
        memory,
        evaluations,
        force,
    )
    chosen = _criterion(settings)
    ready = prepare(model, simplify=settings.simplify, granularity=granularity, keep=keep, progress=progress)
    if not ready.analysis.groups:
        raise Infeasible(why_nothing(ready), where=ready.original.where)
    data = None if calib is None else opened(calib, ready.graph, seed)
    marked = labels if labels is None or isinstance(labels, Labelled) else labelled(labels, ready.original)
    known = measure.load(stats) if isinstance(stats, str | os.PathLike) else stats
    evidence = gather(ready, chosen, data, known, batch=batch, seed=seed, progress=progress)
    progress("Choosing channels")
    kept = choose(ready, evidence, chosen, budget, settings, progress)
    plan = plans.make_plan(
        ready.graph,
        ready.analysis,
        kept,
        {**budget.given(), **settings.recorded(chosen), "calibrated": data is not None},
    )
    return _finish(ready, kept, plan, evidence, marked, settings, measure_latency, progress)


def apply(
    model: str | os.PathLike[str] | Graph,
    plan: Plan | str | os.PathLike[str],
    *,
    calib: Source | Calibration | None = None,
    labels: str | os.PathLike[str] | Labelled | None = None,
    batch: int = 32,
    memory: float = 2e9,
    measure_latency: bool = True,
    progress: Progress = lambda _: None,
) -> Result:
    """Replay a plan on the model it was made for, or on one with the same weights' names and shapes.

    Repair is replayed as well; where it was fitted to samples it needs them again, as `calib`.

    Raises:
        InputError: the plan does not fit; the message names the first difference.
        CheckFailed: the surgery was not exact.
    """
    plan = plan if isinstance(plan, Plan) else plans.read(Path(plan))
    made = plan.options
    settings = Settings(
        repair=made.get("repair", "none"),
        granularity=made.get("granularity", "auto"),
        simplify=bool(made.get("simplify", True)),
        seed=int(made.get("seed", 0)),
        batch=batch,
        memory=memory,
        force=True,
    )
    ready = prepare(model, simplify=settings.simplify, granularity=settings.granularity, progress=progress)
    kept = plans.fit(plan, ready.graph, ready.analysis)
    evidence = Evidence()
    if calib is not None:
        data = opened(calib, ready.graph, settings.seed)
        evidence = gather(ready, get_criterion("l1"), data, None, seed=settings.seed, progress=progress)
    elif made.get("calibrated") and settings.repair != "none":
        note = "the plan's repair was fitted to samples, and is left out without --calib"
        settings, evidence = replace(settings, repair="none"), Evidence(notes=(note,))
    marked = labels if labels is None or isinstance(labels, Labelled) else labelled(labels, ready.original)
    replayed = plans.make_plan(ready.graph, ready.analysis, kept, made)
    return _finish(ready, kept, replayed, evidence, marked, settings, measure_latency, progress)


def _criterion(settings: Settings) -> Criterion:
    wanted = settings.criterion
    return get_criterion(wanted) if isinstance(wanted, str) else wanted or get_criterion("l1")


def _finish(
    ready: Prepared,
    kept: Mask,
    plan: Plan,
    evidence: Evidence,
    labels: Labelled | None,
    settings: Settings,
    measure_latency: bool,
    progress: Progress,
) -> Result:
    """Surgery, proof, repair and verdict."""
    if kept.all():
        return _untouched(ready, kept, plan, evidence, labels, settings)
    progress("Rewriting the graph, and proving it")
    pruned, error = operate(ready, kept, _inputs(ready, evidence, settings))
    progress("Repairing weights")
    outcome = _repaired(ready, kept, pruned, evidence, settings, progress)
    progress("Comparing with the original")
    verdict = judge(ready, outcome.graph, error, evidence, labels, settings, measure_latency=measure_latency)
    if not settings.force:
        require_worth(verdict, ready.original.where, f"repair '{outcome.mode}'")
    return Result(outcome.graph, plan, verdict, ready, kept, outcome)


def _untouched(
    ready: Prepared,
    kept: Mask,
    plan: Plan,
    evidence: Evidence,
    labels: Labelled | None,
    settings: Settings,
) -> Result:
    """The original, where nothing is to be removed.

    Raises:
        Infeasible: something was to be removed, and no group is large enough for so little.
    """
    if not settings.force:
        raise Infeasible(
            "no group is large enough to lose so little: nothing would be removed",
            where=ready.original.where,
            hint="ask for more pruning, or --force to have the model as it is",
        )
    verdict = judge(ready, ready.original, 0.0, evidence, labels, settings, measure_latency=False)
    return Result(ready.original, plan, verdict, ready, kept, Outcome(ready.original, "none"))


def _inputs(ready: Prepared, evidence: Evidence, settings: Settings) -> Feeds:
    """A real sample where there is one, else random numbers."""
    if evidence.fit is not None:
        return next(iter(evidence.fit.batches(settings.batch)))
    with open_session(ready.original) as session:
        return assumed(ready.facts, session, settings.seed)


def _repaired(
    ready: Prepared,
    kept: Mask,
    pruned: Graph,
    evidence: Evidence,
    settings: Settings,
    progress: Progress,
) -> Outcome:
    surgery = Surgery(ready.graph, ready.facts, ready.analysis, kept, pruned)
    if evidence.fit is None or evidence.choice is None:
        return repair(surgery, settings.repair)
    return repair(
        surgery,
        settings.repair,
        list(evidence.fit.batches(settings.batch)),
        list(evidence.choice.batches(settings.batch)),
        memory=settings.memory,
        seed=settings.seed,
        progress=lambda done, total: progress(f"Repairing weights: {done} of {total}"),
    )
