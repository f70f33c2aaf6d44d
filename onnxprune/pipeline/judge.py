"""The verdict: what is known of a result."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..contracts.verdict import Accuracy, Drift, Drop, Size, Speed, Verdict
from ..cost.macs import macs as count_macs
from ..cost.sizes import feeds_for, sizes
from ..errors import CheckFailed, InputError
from ..execution.sessions import blaming, open_session
from ..execution.timing import Timing
from ..graph import Array, Facts, Graph, infer, load, one_sample
from ..quality.drift import accuracy, drift
from ..runtime import Session, TensorSpec, latency, random_feeds
from ..runtime import ratio as latency_ratio
from ..strategies.refusal import no_gain
from .evidence import (
    Calibration,
    Evidence,
    Feeds,
    Labelled,
    Source,
    is_classes,
    labelled,
    opened,
    sample_sizes,
)
from .prepare import Prepared
from .settings import Settings

USELESS = 1.0
"""A relative error above this is more than a model that always gives zero has."""


def judge(  # noqa: PLR0913  (all that a verdict is about)
    ready: Prepared,
    graph: Graph,
    surgery: float,
    exact: bool,
    evidence: Evidence,
    labels: Labelled | None,
    settings: Settings,
    timing: Timing,
    *,
    measure_latency: bool = True,
    drop: Drop | None = None,
    notes: tuple[str, ...] = (),
) -> Verdict:
    """Compare a result with the original.

    Args:
        ready: the original.
        graph: the result.
        surgery: the error of the surgery, as far as it is exact.
        exact: whether it is exact in all parts.
        evidence: with the samples to measure drift on.
        labels: to measure accuracy on.
        settings: how samples run.
        timing: how to measure latency, and the sizes of symbolic dimensions.
        measure_latency: run both side by side.
        drop: what is promised of the result, if anything.
        notes: to hand on.
    """
    drifted, accurate = _compared(ready, graph, evidence, labels, settings)
    return Verdict(
        before=size(ready.original, timing.dims),
        after=size(graph, timing.dims),
        surgery_error=surgery,
        exact=exact,
        drift=drifted,
        accuracy=accurate,
        drop=drop,
        speed=speed_of(ready.original, graph, timing) if measure_latency else None,
        warnings=(*ready.notes, *evidence.notes, *notes),
    )


def _compared(
    ready: Prepared, graph: Graph, evidence: Evidence, labels: Labelled | None, settings: Settings
) -> tuple[Drift | None, tuple[Accuracy, Accuracy] | None]:
    """Drift and accuracies, in sessions that are gone when others measure latency: each takes its memory."""
    before, after = open_session(ready.original), open_session(graph)
    held = evidence.held.batches(settings.batch) if evidence.held is not None else None
    drifted = drift(before, after, held) if held is not None else None
    if drifted is not None and evidence.held is not None:
        drifted = replace(drifted, samples=evidence.held.rows)
    return drifted, _accuracies(before, after, labels, settings.batch)


def require_worth(verdict: Verdict, where: str, tried: str, *, in_place: bool = False) -> None:
    """Refuse a result that nobody wants: neither smaller nor faster, or as good as random.

    Args:
        verdict: what is known of it.
        where: the original.
        tried: what was tried, in words.
        in_place: it is not meant to be smaller or faster.

    Raises:
        Infeasible: it is not smaller and not faster.
        CheckFailed: it drifts far.
    """
    refusal = None if in_place else no_gain(verdict.before, verdict.after, verdict.speed, [tried])
    if refusal is not None:
        raise refusal
    if verdict.drift is not None and _is_far(verdict.drift):
        error, worst = max((error, name) for name, error in verdict.drift.relative.items())
        raise CheckFailed(
            f"the result drifts far: '{worst}' is off by {error:.2g} of its size",
            where=where,
            hint="keep more, choose another --criterion or --repair, or --force to have it anyway",
        )


def _is_far(found: Drift) -> bool:
    """Whether no output is of any use."""
    if not found.relative or any(error <= USELESS for error in found.relative.values()):
        return False
    return all(agree < 0.5 for agree in found.top1.values())


def compare(
    original: str | os.PathLike[str] | Graph,
    pruned: str | os.PathLike[str] | Graph,
    *,
    calib: Source | Calibration | None = None,
    labels: str | os.PathLike[str] | Labelled | None = None,
    batch: int = 32,
    seed: int = 0,
    measure_latency: bool = True,
) -> Verdict:
    """Judge any two models that should do the same, on samples or, without any, on random inputs.

    Args:
        original: a file, or a graph.
        pruned: what to compare with it.
        calib: samples.
        labels: an `.npz` with inputs and `labels`, to measure accuracy on.
        batch: samples that run together.
        seed: of random inputs.
        measure_latency: run both side by side.

    Raises:
        InputError: a model can't be read or run, their inputs or outputs differ, or samples don't fit.
    """
    left, right = (m if isinstance(m, Graph) else load(m) for m in (original, pruned))
    before, after = open_session(left), open_session(right)
    for kind, a, b in (
        ("inputs", before.inputs, after.inputs),
        ("outputs", before.outputs, after.outputs),
    ):
        if [(s.name, s.dtype) for s in a] != [(s.name, s.dtype) for s in b]:
            raise InputError(f"its {kind} differ from those of {left.where}", where=right.where)
    given = None if calib is None else opened(calib, left, seed)
    dims = sample_sizes(given, left)
    with blaming(left, dims), blaming(right, dims):
        data = [assumed(infer(left), before, seed)] if given is None else given.batches(batch)
        marked = labels if labels is None or isinstance(labels, Labelled) else labelled(labels, left)
        moved = drift(before, after, data)
        timed = feeds_for(before.inputs, sizes(left, dims))
        return Verdict(
            before=size(left, dims),
            after=size(right, dims),
            surgery_error=None,
            exact=False,
            drift=moved if given is None else replace(moved, samples=given.rows),
            accuracy=_accuracies(before, after, marked, batch),
            speed=_speed(before, after, timed) if measure_latency else None,
            warnings=given.notes if given is not None else (),
        )


def size(graph: Graph, dims: Mapping[str, int] | None = None) -> Size:
    """Parameters, multiply-accumulates for one sample, and bytes."""
    costs = count_macs(graph, infer(graph, {**one_sample(graph), **(dims or {})}))
    return Size(graph.parameters(), sum(costs.values()), graph.size())


def assumed(facts: Facts, session: Session, seed: int) -> dict[str, Array]:
    """Random inputs of the shapes that were assumed."""
    specs = [TensorSpec(s.name, s.dtype, facts.shapes.get(s.name) or s.shape) for s in session.inputs]
    return random_feeds(specs, np.random.default_rng(seed))


def _accuracies(
    before: Session, after: Session, labels: Labelled | None, batch: int
) -> tuple[Accuracy, Accuracy] | None:
    if labels is None or not is_classes(labels.labels):
        return None
    return accuracy(before, labels.batches(batch)), accuracy(after, labels.batches(batch))


def speed_of(original: Graph, graph: Graph, timing: Timing) -> Speed:
    """Run two models side by side."""
    options = replace(timing.options, prepack=True)
    before, after = open_session(original, options), open_session(graph, options)
    return _speed(before, after, feeds_for(before.inputs, sizes(original, timing.dims, timing.batch)))


def _speed(before: Session, after: Session, feeds: Feeds) -> Speed:
    started = time.perf_counter()
    before.run(feeds)
    slow = time.perf_counter() - started > 0.5
    rounds, warmup = (6, 0) if slow else (None, 1)
    timings = latency([after, before], [feeds, feeds], rounds=rounds, seconds=1.0, warmup=warmup)
    measured = latency_ratio(timings.seconds[0], timings.seconds[1])
    after_s, before_s = timings.medians
    return Speed(before_s, after_s, measured.value, measured.low, measured.high)
