"""What a criterion is, and what all share: one score for each unit, out of parts that many nodes play."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ..errors import UsageError
from ..graph import Graph
from ..sites import Filters, filters
from ..stats import Need, Stats
from ..types import Analysis, Floats, Group, Scores, Units


@dataclass(frozen=True)
class Context:
    """What a criterion may look at; it changes nothing of it.

    Attributes:
        graph: the graph.
        analysis: its groups.
        stats: statistics of the graph over samples; `None` without samples.
        seed: of anything random.
    """

    graph: Graph
    analysis: Analysis
    stats: Stats | None = None
    seed: int = 0


@runtime_checkable
class Criterion(Protocol):
    """Says what each unit is worth. Any object with these three can be used.

    Attributes:
        name: as the command line spells it.
        needs: the statistics that `scores` looks up; empty if weights are enough.
    """

    @property
    def name(self) -> str:
        """As the command line spells it."""

    @property
    def needs(self) -> frozenset[Need]:
        """The statistics that `scores` looks up."""

    def scores(self, context: Context) -> Scores:
        """For each group float64 (group.size,), finite: the larger, the later the unit goes.

        The mean over the units of a layer is 1 (or all are 0), so that layers can be compared.
        """


def combined(group: Group, parts: Iterable[tuple[Units, Floats]]) -> Floats:
    """One score for each unit of a group: its mean over the nodes that have a part in it.

    Every node's values are first divided by their mean, so that a layer of large weights doesn't outvote one
    of small weights, and scores of different groups can be compared.

    Args:
        group: the group.
        parts: for each node: the units it has (distinct) and their values, not negative.

    Returns:
        float64 (group.size,).
    """
    total, votes = np.zeros(group.size), np.zeros(group.size)
    for units, values in parts:
        level = float(values.mean()) if values.size else 0.0
        index = np.searchsorted(group.units, units)
        total[index] += values / level if level > 0 else values
        votes[index] += 1
    return total / np.maximum(votes, 1)


def by_filter(context: Context, value: Callable[[Floats], Floats]) -> Scores:
    """Score units by the weights that make them.

    Args:
        context: where to find them.
        value: from float64 (units, d), the weights of one node with all that makes one unit in a row, to
            float64 (units,), not negative.
    """
    graph, analysis = context.graph, context.analysis
    return tuple(
        combined(
            group, [(units, value(rows)) for units, rows in map(unit_rows, filters(graph, analysis, group))]
        )
        for group in analysis.groups
    )


def unit_rows(made: Filters) -> tuple[Units, Floats]:
    """Distinct units, and float64 (units, d): all weights of one unit in a row, filled up with zeros."""
    units, first = np.unique(made.units, return_inverse=True)
    order = np.argsort(first, kind="stable")
    counts = np.bincount(first)
    nth = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.zeros((len(units), int(counts.max()), made.rows.shape[1]))
    rows[first[order], nth] = made.rows[order]
    return units, rows.reshape(len(units), -1)


def known(context: Context, name: str) -> Stats:
    """The statistics.

    Raises:
        UsageError: there are none.
    """
    if context.stats is None:
        raise UsageError(
            "needs samples", where=f"--criterion {name}", hint="give some with --calib, or use l1"
        )
    return context.stats
