"""Sensitivity analysis: what the network's own outputs lose with each group, measured with its repair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing

from ..contracts.groups import Choice, Group
from ..execution.prefix import ActivationStore, Prefix, behind
from ..graph import Array, Network
from ..quality.loss import Judge
from ..types import Progress
from .ladder import Ladder

LEVELS = (0.5, 0.25, 0.75)
"""Shares of a group to take out, the most informative first."""


def sensitivities(
    network: Network,
    ladders: Sequence[Ladder],
    variant: Callable[[Group, Choice], Network],
    start: Callable[[Group], int],
    batches: Iterable[Mapping[str, Array]],
    evaluations: int,
    *,
    memory: float = 2e9,
    progress: Progress = lambda _: None,
) -> list[dict[int, float]]:
    """Take something out of one group at a time, repair what reads it, and see what the outputs lose.

    What comes before a group's first consumer stays as it is: it is run once for all groups behind it.

    Args:
        network: the network.
        ladders: of its groups.
        variant: the network in which one group loses units, repaired.
        start: index of the first node that is another in it.
        batches: samples to measure on.
        evaluations: at most this many runs over them; large groups and middle levels come first.
        memory: bytes of activations to hold before they go to a temporary folder.
        progress: called with how many are done.

    Returns:
        For each group: rung -> loss (see `quality.loss.Loss`).
    """
    starts = [start(ladder.group) for ladder in ladders]
    jobs = sorted(_jobs(ladders, evaluations), key=lambda job: starts[job[0]])
    found: list[dict[int, float]] = [{} for _ in ladders]
    batches = list(batches)
    judge = Judge(network.graph, batches)
    with closing(ActivationStore(memory)) as store:
        prefix = Prefix(batches, store)
        for done, (index, rung) in enumerate(jobs):
            progress(f"Measuring sensitivities: {done} of {len(jobs)}")
            group = ladders[index].group
            prefix.reach(network.graph, starts[index])
            other = variant(group, Choice({group.id: ladders[index].stays(rung)}))
            taps = behind(network.graph, judge.taps, starts[index])
            found[index][rung] = judge.loss_of(prefix.probe(other.graph, taps))
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
