"""The ladder of every group: the widths that it may have, and what is lost at each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..contracts.groups import Choice, Group, Scores
from ..cost.model import Cost
from .ladder import Ladder, corrected, drowned
from .sensitivity import LEVELS
from .widths import Widths

Measure = Callable[[Sequence[Ladder], int], list[dict[int, float]]]
"""Ladders, and on how many samples -> for each group: rung -> loss at the outputs."""

LEAST, MOST = 8, 32
"""Samples that groups are measured on: more of them change little and cost time."""

EFFORT = 3e12
"""Multiply-accumulates that measuring may take; of these about half are done, those behind what is cut."""


def plain(groups: Sequence[Group], scores: Scores, widths: Widths) -> list[Ladder]:
    """Ladders whose losses are what scores say."""
    return [
        Ladder(group, score, round_to=widths.of(group), min_channels=widths.least)
        for group, score in zip(groups, scores, strict=True)
    ]


def even(ladders: Sequence[Ladder], cost: Cost) -> list[Ladder]:
    """Ladders whose shares are worth what they cost, so that all groups give about the same share.

    Without samples, scores of different groups can't be compared, and what is dear to compute is not worth
    less. Of the digits at 0.7 of the MACs, `l1` and what merging can do keep 87% (residual), 22% and 98%
    (plain); 19%, 11% and 98% where sums of scores are compared.
    """
    held = cost.held(Choice())
    return [
        ladder.bent(drowned(np.ones(ladder.group.size) / ladder.group.size) * (worth / cost.total))
        for ladder, worth in zip(ladders, held, strict=True)
    ]


def measured(ladders: Sequence[Ladder], measure: Measure, macs: int, evaluations: int) -> list[Ladder]:
    """Ladders bent to what the network's outputs lose.

    Args:
        ladders: whose losses are what scores say.
        measure: finds out what is lost.
        macs: of the network, for one sample.
        evaluations: how many runs may be spent.
    """
    found = measure(ladders, _enough(ladders, macs, evaluations))
    typical = _typical(ladders, found)
    return [
        ladder.bent(corrected(ladder, losses) if losses else ladder.curve * typical)
        for ladder, losses in zip(ladders, found, strict=True)
    ]


def _enough(ladders: Sequence[Ladder], macs: int, evaluations: int) -> int:
    """On how many samples to measure: fewer where a network is heavy and has many groups."""
    heavy = min(evaluations, len(LEVELS) * len(ladders)) * macs
    return min(MOST, max(LEAST, int(EFFORT / max(heavy, 1))))


def _typical(ladders: Sequence[Ladder], found: Sequence[dict[int, float]]) -> float:
    """The usual ratio of what was measured to what the scores say, for groups that were not measured."""
    ratios = [
        loss / ladder.loss(rung)
        for ladder, losses in zip(ladders, found, strict=True)
        for rung, loss in losses.items()
        if ladder.loss(rung) > 0
    ]
    return float(np.median(ratios)) if ratios else 1.0
