"""What each group is worth to the network's own outputs, measured with its repair on samples of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..allocate import Ladder
from ..fidelity import Judge
from ..graph import Graph
from ..repair import projected
from ..rewrite import rewrite
from ..stats import Stats
from ..types import Mask
from ..validate import masked
from .evidence import Feeds
from .prepare import Prepared, Progress

LEVELS = (0.5, 0.25, 0.75)
"""Shares of a group to take out, the most telling first."""


def sensitivities(
    ready: Prepared,
    ladders: Sequence[Ladder],
    stats: Stats,
    batches: Iterable[Feeds],
    evaluations: int,
    progress: Progress = lambda _: None,
) -> list[dict[int, float]]:
    """Take something out of one group at a time, repair its consumers, and see what the outputs lose.

    Args:
        ready: the model.
        ladders: of its groups, in their order.
        stats: moments of what consumers read, over other samples.
        batches: samples to measure on.
        evaluations: at most this many runs over them; large groups and middle levels come first.
        progress: told how many are done.

    Returns:
        For each group: rung -> loss (see `fidelity.Loss`).
    """
    jobs = _jobs(ladders, evaluations)
    found: list[dict[int, float]] = [{} for _ in ladders]
    judge = Judge(ready.graph, batches)
    for done, (index, rung) in enumerate(jobs):
        progress(f"Measuring what groups are worth: {done} of {len(jobs)}")
        variant = _without(ready, ladders[index], rung, stats)
        found[index][rung] = judge.loss(variant)
    return found


def _jobs(ladders: Sequence[Ladder], evaluations: int) -> list[tuple[int, int]]:
    order = sorted(range(len(ladders)), key=lambda g: -ladders[g].group.size)
    jobs: dict[tuple[int, int], None] = {}
    for level in LEVELS:
        for g in order:
            size = ladders[g].group.size
            wanted = size * (1 - level)
            rungs = range(1, len(ladders[g]))
            if rungs:
                jobs.setdefault((g, min(rungs, key=lambda r: abs(ladders[g].counts[r] - wanted))))
    return list(jobs)[:evaluations]


def _without(ready: Prepared, ladder: Ladder, rung: int, stats: Stats) -> Graph:
    kept: Mask = np.ones(ready.analysis.count, bool)
    kept[ladder.group.units] = ladder.stays(rung)
    if ladder.group.approximate:  # what a normalisation makes of zeros is not what it makes without them
        return rewrite(ready.graph, ready.facts, ready.analysis, kept)
    reference = masked(ready.graph, ready.facts, ready.analysis, kept)
    return projected(reference, ready.graph, ready.analysis, stats, ladder.group, kept)
