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

from ..contracts.groups import Choice
from ..cost.quantities import ROWS
from ..quality.loss import Judge
from ..samples import Samples
from ..types import Floats
from .limits import AllocationProblem, widest_within

FACTORS = (4.0, 2.0, 2.0**0.5)
"""By how much a group counts for more, or less: first coarse, then fine."""

JUDGED = 256
"""Samples that candidates are judged on, at the most: time grows with them."""

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
        problem: whose solution it is.
        losses: logarithm of what is lost (see `quality.loss.Loss`), by parts.
    """

    problem: AllocationProblem
    losses: Floats


def exchanged(problem: AllocationProblem, judges: Sequence[Judge], count: int) -> AllocationProblem:
    """The allocation problem with the losses of groups scaled where that gives a better network.

    Not for latency: every candidate would have to be measured against the clock.

    Args:
        problem: the allocation problem.
        judges: know the original's outputs, each on another part of the samples; none: nothing is tried.
        count: how many candidates may be made; see `affordable`.

    Raises:
        Infeasible: a budget can't be met.
        CannotCut: what is left of a candidate would not fit together.
    """
    timed = any(ROWS[x.quantity.option].paired is not None for x in problem.limits)
    if not count or not judges or len(problem.allocation.ladders) < 2 or timed:
        return problem
    silent = replace(problem, progress=lambda _: None)
    choice = widest_within(silent)
    best, seen = _Judged(silent, _losses(silent, judges, choice)), {choice.digest}
    held = problem.allocation.cost.held(choice)
    order = sorted(range(len(held)), key=lambda g: -held[g])
    for factor in FACTORS:
        changed = True
        while changed:
            changed = False
            for group, times in product(order, (factor, 1 / factor)):
                other = _weighing(best.problem, group, times)
                choice = widest_within(other)
                if choice.digest in seen:
                    continue
                if len(seen) > count:
                    return replace(best.problem, progress=problem.progress)
                problem.progress(f"Exchanging channels between groups: {len(seen)} of {count}")
                seen.add(choice.digest)
                losses = _losses(other, judges, choice)
                if _is_less(losses, best.losses):
                    best, changed = _Judged(other, losses), True
    return replace(best.problem, progress=problem.progress)


def affordable(evaluations: int, samples: int, macs: int) -> int:
    """How many candidates may be made.

    Args:
        evaluations: of `--evals`.
        samples: that each is fitted to.
        macs: multiply-accumulates of the network, for one sample.
    """
    each = RUNS * samples * macs
    count = min(evaluations // ONE_IN, int(evaluations * EFFORT / max(each, 1)))
    return count if count >= FEWEST else 0


def parts(samples: Samples) -> list[Samples]:
    """Parts of samples to judge on; none where there are too few for two."""
    some = samples.first(JUDGED)
    count = min(PARTS, some.count // LEAST)
    return [replace(some, indices=some.indices[k::count]) for k in range(count)] if count > 1 else []


def _weighing(problem: AllocationProblem, group: int, times: float) -> AllocationProblem:
    """The problem in which the loss of one group counts this many times."""
    ladders = list(problem.allocation.ladders)
    ladders[group] = ladders[group].bent(times * ladders[group].curve)
    return replace(problem, allocation=replace(problem.allocation, ladders=ladders))


def _losses(problem: AllocationProblem, judges: Sequence[Judge], choice: Choice) -> Floats:
    graph = problem.maker.candidate(choice).graph
    return np.asarray(np.log(np.clip([judge.loss(graph) for judge in judges], _TINY, _HUGE)))


def _is_less(new: Floats, old: Floats) -> bool:
    gain = old - new
    return bool(gain.mean() > SURE * gain.std(ddof=1) / np.sqrt(len(gain)))
