"""What each group may shrink to, and what the network loses with each width."""

from __future__ import annotations

import numpy as np

from ..allocate import Cost, Ladder, corrected, drowned
from ..types import Scores
from .evidence import Evidence
from .prepare import Prepared, Progress
from .sensitivity import sensitivities
from .settings import Settings, Widths


def ladders(
    ready: Prepared,
    evidence: Evidence,
    scores: Scores,
    settings: Settings,
    widths: Widths,
    cost: Cost,
    progress: Progress = lambda _: None,
) -> list[Ladder]:
    """The widths that each group may have, and what is lost at each: at the outputs where measured.

    Without samples, scores of different groups can't be compared: see `_even`.
    """
    made = [
        Ladder(group, score, round_to=widths.of(group), min_channels=settings.min_channels)
        for group, score in zip(ready.analysis.groups, scores, strict=True)
    ]
    if evidence.stats is None:
        return [_even(ladder, cost, index) for index, ladder in enumerate(made)]
    if evidence.choice is None or not settings.evaluations:
        return made
    batches = evidence.choice.first(MOST).batches(settings.batch)
    measured = sensitivities(
        ready, made, evidence.stats, batches, settings.evaluations, settings.memory, progress
    )
    typical = _typical(made, measured)
    return [
        ladder.bent(corrected(ladder, losses) if losses else ladder.curve * typical)
        for ladder, losses in zip(made, measured, strict=True)
    ]


MOST = 32
"""Samples that groups are measured on: more of them change little and cost time."""


def _even(ladder: Ladder, cost: Cost, index: int) -> Ladder:
    """A group whose shares are worth what they cost, so that all groups give about the same share.

    What is dear to compute is not worth less. Of the digits at 0.7 of the MACs, `l1` and what merging can do
    keep 87% (residual), 22% and 98% (plain); 19%, 11% and 98% where sums of scores are compared.
    """
    group = ladder.group
    whole = cost.state(np.ones(len(cost.group_of), bool))
    worth = -whole.change(index, group.units, np.zeros(group.size, bool)) / cost.total
    return ladder.bent(drowned(np.ones(group.size) / group.size) * worth)


def _typical(made: list[Ladder], measured: list[dict[int, float]]) -> float:
    """The usual ratio of what was measured to what the scores say, for groups that were not measured."""
    ratios = [
        loss / ladder.loss(rung)
        for ladder, losses in zip(made, measured, strict=True)
        for rung, loss in losses.items()
        if ladder.loss(rung) > 0
    ]
    return float(np.median(ratios)) if ratios else 1.0
