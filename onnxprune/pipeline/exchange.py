"""Exchange between groups: whole candidates are made, repaired, and compared at the network's own outputs.

What a group loses was measured with all others whole; together they may lose more than that, or less. So one
group after the other is made to count for more and for less: it gets width, or gives some, and those that
lose least by it make up for that. What is surely better stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..quality.loss import Judge
from ..samples import Samples
from ..types import Floats, Mask
from .job import FITTED, JUDGED, Job, silent, tried
from .route import Route, within

FACTORS = (4.0, 2.0, 2.0**0.5)
"""By how much a group counts for more, or less: first coarse, then fine."""

PARTS, LEAST = 8, 4
"""Samples are judged in so many parts, of so many at least: a few hard ones must not decide alone."""

SURE = 1.5
"""What a candidate gains, on the mean of the parts, is more than its standard error times this: with 1.0 a
text classifier lost a fifth more on other samples, with 2.0 half of what can be gained is missed."""

ONE_IN = 8
"""A candidate for so many of `--evals`."""

EFFORT, RUNS = 2e10, 10
"""Multiply-accumulates for each of `--evals`, of a candidate that runs the samples so many times."""

FEWEST = 8
"""With fewer candidates than these nothing is tried: they hardly ever gain anything, and take minutes."""

_TINY, _HUGE = 1e-12, 1e12


@dataclass(frozen=True, eq=False)
class _Judged:
    """A candidate.

    Attributes:
        way: that leads there.
        losses: logarithm of what is lost (see `fidelity.Loss`), by parts.
    """

    way: Route
    losses: Floats


def exchanged(job: Job, way: Route) -> Route:
    """The way down, where groups count for more or less if that was found to be better.

    Not for latency: every candidate would have to be measured against the clock.

    Raises:
        Infeasible: a budget can't be met.
    """
    count = _affordable(job)
    if not count or len(way.descent.ladders) < 2 or way.goals.latency is not None:
        return way
    judges = [Judge(job.ready.graph, part.batches(job.settings.batch)) for part in _parts(job)]
    if not judges:
        return way
    kept = within(job, way)
    best, seen = _Judged(way, _losses(job, judges, kept)), {kept.tobytes()}
    held = way.descent.cost.held(kept)
    order = sorted(range(len(held)), key=lambda g: -held[g])
    for factor in FACTORS:
        changed = True
        while changed:
            changed = False
            for group, times in product(order, (factor, 1 / factor)):
                other = _weighing(best.way, group, times)
                kept = within(job, other)
                if kept.tobytes() in seen:
                    continue
                if len(seen) > count:
                    return best.way
                job.progress(f"Exchanging channels between groups: {len(seen)} of {count}")
                seen.add(kept.tobytes())
                losses = _losses(job, judges, kept)
                if _is_less(losses, best.losses):
                    best, changed = _Judged(other, losses), True
    return best.way


def _affordable(job: Job) -> int:
    """How many candidates may be made."""
    ready, evaluations = job.ready, job.settings.evaluations
    if job.evidence.fit is None or not evaluations:
        return 0
    each = RUNS * min(FITTED, job.evidence.fit.count) * ready.macs
    count = min(evaluations // ONE_IN, int(evaluations * EFFORT / max(each, 1)))
    return count if count >= FEWEST else 0


def _parts(job: Job) -> list[Samples]:
    """Parts of the samples that choose; none where there are too few for two."""
    if job.evidence.choice is None:
        return []
    samples = job.evidence.choice.first(JUDGED)
    count = min(PARTS, samples.count // LEAST)
    return [replace(samples, indices=samples.indices[k::count]) for k in range(count)] if count > 1 else []


def _weighing(way: Route, group: int, times: float) -> Route:
    """The way down where what one group loses counts this many times."""
    ladders = list(way.descent.ladders)
    ladders[group] = ladders[group].bent(times * ladders[group].curve)
    return replace(way, descent=replace(way.descent, ladders=ladders))


def _losses(job: Job, judges: Sequence[Judge], kept: Mask) -> Floats:
    graph = tried(replace(job, progress=silent), kept).graph
    return np.asarray(np.log(np.clip([judge.loss(graph) for judge in judges], _TINY, _HUGE)))


def _is_less(new: Floats, old: Floats) -> bool:
    gain = old - new
    return bool(gain.mean() > SURE * gain.std(ddof=1) / np.sqrt(len(gain)))
