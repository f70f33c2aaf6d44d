"""What each group is worth to the network's own outputs, measured with its repair on samples of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing

import numpy as np

from ..contracts.analysis import ChannelGroup
from ..contracts.stats import Stats
from ..execution.prefix import Prefix, Shelf, behind
from ..graph import Graph
from ..quality.loss import Judge
from ..reductions.channels.cut import rewrite
from ..reductions.channels.mask import masked
from ..repair import projected
from ..strategies.ladder import Ladder
from ..types import Mask
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
    memory: float = 2e9,
    progress: Progress = lambda _: None,
) -> list[dict[int, float]]:
    """Take something out of one group at a time, repair its consumers, and see what the outputs lose.

    What comes before a group's first consumer stays as it is: it is run once for all groups behind it.

    Args:
        ready: the model.
        ladders: of its groups, in their order.
        stats: moments of what consumers read, over other samples.
        batches: samples to measure on.
        evaluations: at most this many runs over them; large groups and middle levels come first.
        memory: bytes of activations to hold before they go to a temporary folder.
        progress: told how many are done.

    Returns:
        For each group: rung -> loss (see `fidelity.Loss`).
    """
    starts = [_start(ready, ladder.group) for ladder in ladders]
    jobs = sorted(_jobs(ladders, evaluations), key=lambda job: starts[job[0]])
    found: list[dict[int, float]] = [{} for _ in ladders]
    batches = list(batches)
    judge = Judge(ready.graph, batches)
    with closing(Shelf(memory)) as shelf:
        prefix = Prefix(batches, shelf)
        for done, (index, rung) in enumerate(jobs):
            progress(f"Measuring what groups are worth: {done} of {len(jobs)}")
            start = starts[index]
            prefix.reach(ready.graph, start)
            variant = _without(ready, ladders[index], rung, stats)
            found[index][rung] = judge.loss_of(prefix.probe(variant, behind(ready.graph, judge.taps, start)))
    return found


def _start(ready: Prepared, group: ChannelGroup) -> int:
    """Where the first node stands that is another without units of this group."""
    if group.approximate:
        return 0
    readers = ready.analysis.readers
    return min((r.node for r in readers if np.isin(r.place.units, group.units).any()), default=0)


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
