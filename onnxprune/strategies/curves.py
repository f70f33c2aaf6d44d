"""The ladder of every group: the widths that it may have, and the loss at each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..contracts.groups import Choice, Group, Scores
from ..contracts.stats import Sensitivity
from ..cost.model import Cost
from .ladder import Ladder, corrected, relative_loss
from .sensitivity import LEVELS
from .widths import Widths

LEAST, MOST = 8, 32
"""Samples that groups are measured on: more of them change little and cost time."""

EFFORT = 3e12
"""Multiply-accumulates that measuring may take; of these about half are done, those behind what is cut."""


def plain(groups: Sequence[Group], scores: Scores, widths: Widths) -> list[Ladder]:
    """Ladders whose losses follow from scores."""
    return [
        Ladder(group, score, round_to=widths.of(group), min_channels=widths.least)
        for group, score in zip(groups, scores, strict=True)
    ]


def even(ladders: Sequence[Ladder], cost: Cost) -> list[Ladder]:
    """Ladders whose losses are proportional to cost, so that all groups give about the same share.

    Without samples, scores of different groups can't be compared, and a group isn't worth less for being
    expensive. Of the digits at 0.7 of the MACs, `l1` and what merging can do keep 87% (residual), 22% and 98%
    (plain); 19%, 11% and 98% where sums of scores are compared.
    """
    held = cost.held(Choice())
    return [
        ladder.bent(relative_loss(np.ones(ladder.group.size) / ladder.group.size) * (worth / cost.total))
        for ladder, worth in zip(ladders, held, strict=True)
    ]


def measured(ladders: Sequence[Ladder], found: Sequence[Mapping[int, float]]) -> list[Ladder]:
    """Ladders bent to what the network's outputs lose.

    Args:
        ladders: whose losses follow from scores.
        found: for each: rung -> loss at the outputs.
    """
    typical = _typical(ladders, found)
    return [
        ladder.bent(corrected(ladder, losses) if losses else ladder.curve * typical)
        for ladder, losses in zip(ladders, found, strict=True)
    ]


def recalled(ladders: Sequence[Ladder], known: Mapping[str, Sensitivity]) -> list[dict[int, float]]:
    """For each ladder rung -> loss, from losses that were measured at widths of its group once.

    Args:
        ladders: whose losses follow from scores.
        known: id of a group -> (units kept, loss).
    """
    found = []
    for ladder in ladders:
        rungs: dict[int, float] = {}
        for kept, loss in known.get(ladder.group.id, ()):
            if kept in ladder.counts[1:]:
                rungs[ladder.counts.index(kept)] = loss
            elif len(ladder) > 1:
                nearest = min(range(1, len(ladder)), key=lambda r: abs(ladder.counts[r] - kept))
                rungs.setdefault(nearest, loss * _between(ladder, kept, nearest))
        found.append(rungs)
    return found


def _between(ladder: Ladder, kept: int, rung: int) -> float:
    """The loss of a rung by scores, relative to that of a width near it."""
    there = float(ladder.curve[ladder.group.size - kept]) if 0 <= kept <= ladder.group.size else 0.0
    return ladder.loss(rung) / there if there > 0 else 1.0


def enough(ladders: Sequence[Ladder], macs: int, evaluations: int, most: int = MOST) -> int:
    """On how many samples to measure: fewer where a network is heavy and has many groups.

    Args:
        ladders: of its groups.
        macs: of the network, for one sample.
        evaluations: how many runs may be spent.
        most: at the most.
    """
    heavy = min(evaluations, len(LEVELS) * len(ladders)) * macs
    return min(most, max(LEAST, int(EFFORT / max(heavy, 1))))


def _typical(ladders: Sequence[Ladder], found: Sequence[Mapping[int, float]]) -> float:
    """The usual ratio of measured loss to loss by scores, for groups that were not measured."""
    ratios = [
        loss / ladder.loss(rung)
        for ladder, losses in zip(ladders, found, strict=True)
        for rung, loss in losses.items()
        if ladder.loss(rung) > 0
    ]
    return float(np.median(ratios)) if ratios else 1.0
