"""Every group on its own: the same share of each, or what a rule keeps."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..contracts.analysis import Analysis
from ..contracts.groups import Scores
from ..contracts.selection import keep_best
from ..types import Floats, Mask


def by_ratio(
    analysis: Analysis, scores: Scores, ratio: float, *, round_to: int = 1, min_channels: int = 1
) -> Mask:
    """Remove a share of the units of every group, those of lowest score.

    Args:
        analysis: which units there are.
        scores: for every group, float64 (group.size,).
        ratio: share to remove, in (0, 1).
        round_to: keep a multiple of this many, the nearest, where a group has at least as many.
        min_channels: keep at least this many.

    Returns:
        bool (analysis.count,), whether each unit stays.
    """

    def share(score: Floats) -> int:
        return len(score) - math.floor(ratio * len(score) + 1e-9)

    return by_rule(analysis, scores, share, round_to=round_to, min_channels=min_channels)


def by_rule(
    analysis: Analysis,
    scores: Scores,
    rule: Callable[[Floats], int],
    *,
    round_to: int = 1,
    min_channels: int = 1,
) -> Mask:
    """Keep the units of highest score in every group, as many as a rule says.

    Args:
        analysis: which units there are.
        scores: for every group, float64 (group.size,).
        rule: from the scores of a group to how many units stay.
        round_to: keep a multiple of this many, the nearest, where a group has at least as many.
        min_channels: keep at least this many.

    Returns:
        bool (analysis.count,), whether each unit stays.
    """
    kept = np.ones(analysis.count, bool)
    for group, score in zip(analysis.groups, scores, strict=True):
        keep = rule(score)
        if round_to > 1:
            keep = max(round_to, round(keep / round_to) * round_to)
        kept[group.units] = keep_best(group, score, min(max(keep, min_channels), group.size))
    return kept
