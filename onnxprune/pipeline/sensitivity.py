"""What each group is worth to the network's own outputs, measured with its repair on samples of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..allocate import Ladder
from ..fidelity import Loss, telling
from ..graph import Array, Graph
from ..repair import projected
from ..stats import Stats
from ..types import Mask
from ..validate import masked
from .evidence import Feeds
from .prepare import Prepared, Progress
from .sessions import open_session

LEVELS = (0.5, 0.25, 0.75)
"""Shares of a group to take out, the most telling first."""


def sensitivities(
    ready: Prepared,
    ladders: Sequence[Ladder],
    stats: Stats,
    batches: Sequence[Feeds],
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
    taps = telling(ready.graph)
    with open_session(ready.graph.tapped(taps)) as session:
        expected = [session.run(feeds) for feeds in batches]
    for done, (index, rung) in enumerate(jobs):
        progress(f"Measuring what groups are worth: {done} of {len(jobs)}")
        variant = _without(ready, ladders[index], rung, stats)
        found[index][rung] = _loss(variant.tapped(taps), batches, expected)
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
    reference = masked(ready.graph, ready.facts, ready.analysis, kept)
    return projected(reference, ready.graph, ready.analysis, stats, ladder.group, kept)


def _loss(graph: Graph, batches: Sequence[Feeds], expected: Sequence[Mapping[str, Array]]) -> float:
    loss = Loss()
    with open_session(graph) as session:
        for feeds, wanted in zip(batches, expected, strict=True):
            loss.add(wanted, session.run(feeds))
    return loss.value
