"""Without a cost: the same share of each group, what a rule keeps of it, or the best of all units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ..contracts.budget import Uniform
from ..contracts.groups import Choice, Group, Scores
from ..contracts.selection import keep_best
from ..types import Floats
from .widths import Widths


def chosen(groups: Sequence[Group], scores: Scores, uniform: Uniform, keep: float, widths: Widths) -> Choice:
    """Keep a share of every group, the units of highest score.

    Args:
        groups: which units there are.
        scores: for every group, float64 (group.size,).
        uniform: which option asks for it: each rounds as its source does.
        keep: the share to keep, in (0, 1).
        widths: that channels may have.
    """
    count = _COUNTS[uniform.option]

    def rule(group: Group, _scores: Floats) -> int:
        return group.runs * count(group.size // group.runs, keep)

    return by_rule(groups, scores, rule, widths)


def _gone(keep: float) -> float:
    return round(1 - keep, 12)


_COUNTS: Mapping[str, Callable[[int, float], int]] = MappingProxyType(
    {
        "--ratio": lambda width, keep: width - math.floor(_gone(keep) * width + 1e-9),
        "--inbound": lambda width, keep: max(1, round(keep * width)),
        "--sparsity": lambda width, keep: width - round(_gone(keep) * width),
    }
)
"""How many of so many units a share comes to."""


def by_rule(
    groups: Sequence[Group], scores: Scores, rule: Callable[[Group, Floats], int], widths: Widths
) -> Choice:
    """Keep the units of highest score in every group, as many as a rule gives.

    Args:
        groups: which units there are.
        scores: for every group, float64 (group.size,).
        rule: from a group and its scores to how many units stay.
        widths: keep a multiple, the nearest, of so many where a group has at least as many, and at least as
            many as `widths.least`.
    """
    kept = {}
    for group, score in zip(groups, scores, strict=True):
        keep = rule(group, score)
        if widths.multiple > 1:
            keep = max(widths.multiple, round(keep / widths.multiple) * widths.multiple)
        kept[group.id] = keep_best(group, score, min(max(keep, widths.least), group.size))
    return Choice(kept)


def by_rank(groups: Sequence[Group], scores: Scores, keep: float) -> Choice:
    """Keep a share of all units of all groups together, those of highest score; of equal ones the first.

    Args:
        groups: which units there are; they may be emptied.
        scores: for every group, float64 (group.size,), comparable across groups.
        keep: the share to keep, in (0, 1).
    """
    together = np.concatenate(scores)
    count = together.size - round(_gone(keep) * together.size)
    stays = np.zeros(together.size, bool)
    stays[np.argsort(-together, kind="stable")[:count]] = True
    ends = np.cumsum([group.size for group in groups])
    return Choice({g.id: part for g, part in zip(groups, np.split(stays, ends[:-1]), strict=True)})
