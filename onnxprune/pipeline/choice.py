"""What each group may shrink to, and what the network loses with each width."""

from __future__ import annotations

import numpy as np

from ..allocate import Ladder, corrected
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
    progress: Progress = lambda _: None,
) -> list[Ladder]:
    """The widths that each group may have, and what is lost at each: at the outputs where measured."""
    made = [
        Ladder(group, score, round_to=widths.of(group), min_channels=settings.min_channels)
        for group, score in zip(ready.analysis.groups, scores, strict=True)
    ]
    if evidence.choice is None or evidence.stats is None or not settings.evaluations:
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


def _typical(made: list[Ladder], measured: list[dict[int, float]]) -> float:
    """The usual ratio of what was measured to what the scores say, for groups that were not measured."""
    ratios = [
        loss / ladder.loss(rung)
        for ladder, losses in zip(made, measured, strict=True)
        for rung, loss in losses.items()
        if ladder.loss(rung) > 0
    ]
    return float(np.median(ratios)) if ratios else 1.0
