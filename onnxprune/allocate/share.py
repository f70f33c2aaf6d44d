"""A share of any cost, on widths that the kernels like."""

from __future__ import annotations

from ..ops.rate import fitting
from ..types import Analysis, Mask, Scores
from .budget import assembled, descend
from .cost import Cost
from .ladder import Ladder


def by_cost(
    analysis: Analysis,
    scores: Scores,
    cost: Cost,
    share: float,
    *,
    multiple: int = 1,
    min_channels: int = 1,
    what: str = "latency",
) -> Mask:
    """Keep at most a share of any cost, where it loses least.

    Args:
        analysis: which units there are.
        scores: for every group, float64 (group.size,), comparable across groups.
        cost: what to bring down, of the same graph.
        share: of the cost to keep at the most.
        multiple: keep multiples of this, or of the largest part of it that leaves a small group some choice.
        min_channels: keep at least this many of each group.
        what: the cost in words, for messages.

    Returns:
        bool (analysis.count,), whether each unit stays.

    Raises:
        Infeasible: the budget can't be met.
    """
    ladders = _ladders(analysis, scores, multiple, min_channels)
    rungs = descend(ladders, cost, share * cost.total, what=what)
    return assembled(analysis, ladders, rungs)


def least(
    analysis: Analysis, scores: Scores, cost: Cost, *, multiple: int = 1, min_channels: int = 1
) -> float:
    """The share of the cost that is left with every group as narrow as it may be."""
    ladders = _ladders(analysis, scores, multiple, min_channels)
    return cost(assembled(analysis, ladders, [len(ladder) - 1 for ladder in ladders])) / cost.total


def _ladders(analysis: Analysis, scores: Scores, multiple: int, min_channels: int) -> list[Ladder]:
    return [
        Ladder(group, score, round_to=fitting(multiple, group.size), min_channels=min_channels)
        for group, score in zip(analysis.groups, scores, strict=True)
    ]
