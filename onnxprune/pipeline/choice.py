"""What each group may shrink to, and what the network loses with each width."""

from __future__ import annotations

import numpy as np

from ..contracts.groups import Scores
from ..cost.model import Cost
from ..strategies.ladder import Ladder, corrected, drowned
from .evidence import Evidence
from .prepare import Prepared, Progress
from .sensitivity import LEVELS, sensitivities
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
        held = cost.held(np.ones(ready.analysis.count, bool))
        return [_even(ladder, worth / cost.total) for ladder, worth in zip(made, held, strict=True)]
    if evidence.choice is None or not settings.evaluations:
        return made
    batches = evidence.choice.first(_enough(ready, made, settings)).batches(settings.batch)
    measured = sensitivities(
        ready, made, evidence.stats, batches, settings.evaluations, settings.memory, progress
    )
    typical = _typical(made, measured)
    return [
        ladder.bent(corrected(ladder, losses) if losses else ladder.curve * typical)
        for ladder, losses in zip(made, measured, strict=True)
    ]


LEAST, MOST = 8, 32
"""Samples that groups are measured on: more of them change little and cost time."""

EFFORT = 3e12
"""Multiply-accumulates that measuring may take; of these about half are done, those behind what is cut."""


def _enough(ready: Prepared, made: list[Ladder], settings: Settings) -> int:
    """On how many samples to measure: fewer where a network is heavy and has many groups."""
    runs = min(settings.evaluations, len(LEVELS) * len(made))
    heavy = runs * ready.macs
    return min(MOST, max(LEAST, int(EFFORT / max(heavy, 1))))


def _even(ladder: Ladder, worth: float) -> Ladder:
    """A group whose shares are worth what they cost, so that all groups give about the same share.

    What is dear to compute is not worth less. Of the digits at 0.7 of the MACs, `l1` and what merging can do
    keep 87% (residual), 22% and 98% (plain); 19%, 11% and 98% where sums of scores are compared.
    """
    size = ladder.group.size
    return ladder.bent(drowned(np.ones(size) / size) * worth)


def _typical(made: list[Ladder], measured: list[dict[int, float]]) -> float:
    """The usual ratio of what was measured to what the scores say, for groups that were not measured."""
    ratios = [
        loss / ladder.loss(rung)
        for ladder, losses in zip(made, measured, strict=True)
        for rung, loss in losses.items()
        if ladder.loss(rung) > 0
    ]
    return float(np.median(ratios)) if ratios else 1.0
