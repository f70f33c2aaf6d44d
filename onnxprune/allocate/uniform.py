"""The same share of every group."""

from __future__ import annotations

import math

import numpy as np

from ..selection import keep_best
from ..types import Analysis, Mask, Scores


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
    kept = np.ones(analysis.count, bool)
    for group, score in zip(analysis.groups, scores, strict=True):
        keep = group.size - math.floor(ratio * group.size + 1e-9)
        if round_to > 1:
            keep = max(round_to, round(keep / round_to) * round_to)
        kept[group.units] = keep_best(group, score, min(max(keep, min_channels), group.size))
    return kept
