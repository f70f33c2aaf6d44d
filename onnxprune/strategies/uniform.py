"""Without a cost: the same share of each group, what a rule keeps of it, or the best of all units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..contracts.groups import Choice, Group, Scores
from ..contracts.selection import keep_best
from ..types import Floats


def by_ratio(
    groups: Sequence[Group], scores: Scores, ratio: float, *, round_to: int = 1, min_channels: int = 1
) -> Choice:
    """Remove a share of the units of every group, those of lowest score.

    Args:
        groups: which units there are.
        scores: for every group, float64 (group.size,).
        ratio: share to remove, in (0, 1).
        round_to: keep a multiple of this many, the nearest, where a group has at least as many.
        min_channels: keep at least this many.
    """

    def share(score: Floats) -> int:
        return len(score) - math.floor(ratio * len(score) + 1e-9)

    return by_rule(groups, scores, share, round_to=round_to, min_channels=min_channels)


def by_rule(
    groups: Sequence[Group],
    scores: Scores,
    rule: Callable[[Floats], int],
    *,
    round_to: int = 1,
    min_channels: int = 1,
) -> Choice:
    """Keep the units of highest score in every group, as many as a rule says.

    Args:
        groups: which units there are.
        scores: for every group, float64 (group.size,).
        rule: from the scores of a group to how many units stay.
        round_to: keep a multiple of this many, the nearest, where a group has at least as many.
        min_channels: keep at least this many.
    """
    kept = {}
    for group, score in zip(groups, scores, strict=True):
        keep = rule(score)
        if round_to > 1:
            keep = max(round_to, round(keep / round_to) * round_to)
        kept[group.id] = keep_best(group, score, min(max(keep, min_channels), group.size))
    return Choice(kept)


def by_rank(groups: Sequence[Group], scores: Scores, ratio: float) -> Choice:
    """Remove a share of all units of all groups together, those of lowest score; of equal ones the first.

    Args:
        groups: which units there are; they may be emptied.
        scores: for every group, float64 (group.size,), comparable across groups.
        ratio: share to remove, in (0, 1).
    """
    together = np.concatenate(scores)
    stays = np.ones(together.size, bool)
    stays[np.argsort(together, kind="stable")[: round(ratio * together.size)]] = False
    ends = np.cumsum([group.size for group in groups])
    return Choice({g.id: part for g, part in zip(groups, np.split(stays, ends[:-1]), strict=True)})
