"""The verdict: a result compared with the original."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from ..contracts.proof import Proved
from ..contracts.sampling import Calibration, Source
from ..contracts.timing import Timing
from ..contracts.verdict import Accuracy, Drift, Size, Speed, Verdict
from ..cost.macs import macs as count_macs
from ..cost.sizes import feeds_for, sizes
from ..errors import CheckFailed, InputError
from ..execution.sessions import blaming, open_session
from ..graph import Graph, Network, load, one_sample
from ..quality.drift import accuracy, drift
from ..runtime import Session, latency
from ..runtime import ratio as latency_ratio
from ..strategies.refusal import no_gain
from .evidence import (
    Evidence,
    Feeds,
    Labelled,
    first_sample,
    is_classes,
    labelled_if_given,
    opened,
    sample_sizes,
)
from .load import Loaded, assumed_feeds

USELESS = 1.0
"""A model that always gives zero has this relative error."""


def judged(
    loaded: Loaded,
    network: Network,
    proofs: tuple[Proved, ...],
    evidence: Evidence,
    labels: Labelled | None,
    timing: Timing,
    *,
    batch: int = 32,
    measure_latency: bool = True,
) -> Verdict:
    """Compare a result with the original.

    Args:
        loaded: the original.
        network: the result.
        proofs: of what was removed.
        evidence: with the samples to measure drift on.
        labels: to measure accuracy on.
        timing: how to measure latency, and the sizes of symbolic dimensions.
        batch: samples that run together.
        measure_latency: run both side by side.
    """
    moved, accurate = _compared(loaded.original, network.graph, evidence, labels, batch)
    return Verdict(
        before=size(loaded.origin, timing),
        after=size(network, timing),
        proofs=proofs,
        drift=moved,
        accuracy=accurate,
        speed=speed_of(loaded.original, network.graph, timing) if measure_latency else None,
    )


def _compared(
    original: Graph, result: Graph, evidence: Evidence, labels: Labelled | None, batch: int
) -> tuple[Drift | None, tuple[Accuracy, Accuracy] | None]:
    """Drift and accuracies, in sessions that are gone when others measure latency: each takes its memory."""
    before, after = open_session(original), open_session(result)
    samples, moved = evidence.judge, None
    if samples is not None:
        moved = replace(drift(before, after, samples.batches(batch)), samples=samples.rows)
    return moved, _accuracies(before, after, labels, batch)


def require_worth(verdict: Verdict, where: str, tried: str, *, in_place: bool = False) -> None:
    """Refuse a result that is neither smaller nor faster, or no better than random.

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

    Example:
        >>> import onnxprune
        >>> folded, whole = "models/digits-plain.onnx", "models/digits-plain-bn.onnx"
        >>> verdict = onnxprune.compare(whole, folded, measure_latency=False)
        >>> verdict.before.params, verdict.after.params
        (289194, 287722)
        >>> verdict.drift.relative["logits"] < 1e-5
        True
    """
    left, right = (m if isinstance(m, Graph) else load(m) for m in (original, pruned))
    with blaming(left), blaming(right):
        return _side_by_side(left, right, calib, labels, batch, seed, measure_latency)


def _side_by_side(
    left: Graph,
    right: Graph,
    calib: Source | Calibration | None,
    labels: str | os.PathLike[str] | Labelled | None,
    batch: int,
    seed: int,
    measure_latency: bool,
) -> Verdict:
    before, after = open_session(left), open_session(right)
    for kind, a, b in (
        ("inputs", before.inputs, after.inputs),
        ("outputs", before.outputs, after.outputs),
    ):
        if [(s.name, s.dtype) for s in a] != [(s.name, s.dtype) for s in b]:
            raise InputError(f"its {kind} differ from those of {left.where}", where=right.where)
    given = None if calib is None else opened(calib, left, seed)
    timing = Timing(dims=sample_sizes(given, left), sample=first_sample(given))
    first, second = Network(left, timing.dims), Network(right, timing.dims)
    data = [assumed_feeds(Network(left), seed)] if given is None else given.batches(batch)
    marked = labelled_if_given(labels, left)
    timed = feeds_for(before.inputs, sizes(left, timing.dims), sample=timing.sample)
    moved = drift(before, after, data)
    notes = [n for found in (given, marked and marked.samples) if found for n in found.notes]
    if given is None:
        notes.append("drift is measured on random inputs, which networks are not made for: give --calib")
    return Verdict(
        before=size(first, timing),
        after=size(second, timing),
        drift=moved if given is None else replace(moved, samples=given.rows),
        accuracy=_accuracies(before, after, marked, batch),
        speed=_speed(before, after, timed) if measure_latency else None,
        warnings=tuple(dict.fromkeys(notes)),
    )


def size(network: Network, timing: Timing | None = None) -> Size:
    """Parameters, multiply-accumulates for one sample, and bytes.

    Args:
        network: the network.
        timing: with sizes of symbolic dimensions; others are guessed.
    """
    graph = network.graph
    one = network.sized({**one_sample(graph), **(timing.dims if timing is not None else {})})
    return Size(graph.parameters(), sum(count_macs(one.graph, one.facts).values()), graph.size())


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
    own = sizes(original, timing.dims, timing.batch)
    return _speed(before, after, feeds_for(before.inputs, own, sample=timing.sample))


def _speed(before: Session, after: Session, feeds: Feeds) -> Speed:
    started = time.perf_counter()
    before.run(feeds)
    slow = time.perf_counter() - started > 0.5
    rounds, warmup = (6, 0) if slow else (None, 1)
    timings = latency([after, before], [feeds, feeds], rounds=rounds, seconds=1.0, warmup=warmup)
    measured = latency_ratio(timings.seconds[0], timings.seconds[1])
    after_s, before_s = timings.medians
    return Speed(before_s, after_s, measured.value, measured.low, measured.high)
