"""Which units stay: scores, and a budget spread over groups by what each loses."""

from __future__ import annotations

import numpy as np

from ..allocate import Cost, Descent, Ladder, by_ratio, corrected, macs_model, parameters_model
from ..criteria import Context, Criterion
from ..types import Mask, Scores
from .evidence import Evidence
from .prepare import Prepared, Progress
from .sensitivity import sensitivities
from .settings import Budget, Settings


def choose(
    ready: Prepared,
    evidence: Evidence,
    criterion: Criterion,
    budget: Budget,
    settings: Settings,
    progress: Progress = lambda _: None,
) -> Mask:
    """Which units to keep: bool (analysis.count,).

    Raises:
        UsageError: the criterion needs statistics that are not there.
        Infeasible: the budget can't be met.
    """
    scores = criterion.scores(Context(ready.graph, ready.analysis, evidence.stats, settings.seed))
    if budget.ratio is not None:
        return by_ratio(
            ready.analysis,
            scores,
            budget.ratio,
            round_to=settings.round_to,
            min_channels=settings.min_channels,
        )
    cost, share, what = _cost(ready, budget)
    found = ladders(ready, evidence, scores, settings, progress)
    return Descent(ready.analysis, found, cost, what).kept(share)


def _cost(ready: Prepared, budget: Budget) -> tuple[Cost, float, str]:
    if budget.macs is not None:
        return macs_model(ready.graph, ready.facts, ready.analysis), budget.macs, "multiply-accumulates"
    return parameters_model(ready.graph, ready.analysis), budget.params or 1.0, "parameters"


def ladders(
    ready: Prepared,
    evidence: Evidence,
    scores: Scores,
    settings: Settings,
    progress: Progress = lambda _: None,
) -> list[Ladder]:
    """The widths that each group may have, and what is lost at each: at the outputs where measured."""
    made = [
        Ladder(group, score, round_to=settings.round_to, min_channels=settings.min_channels)
        for group, score in zip(ready.analysis.groups, scores, strict=True)
    ]
    if evidence.choice is None or evidence.stats is None or not settings.evaluations:
        return made
    batches = list(evidence.choice.first(MOST).batches(settings.batch))
    measured = sensitivities(ready, made, evidence.stats, batches, settings.evaluations, progress)
    typical = _typical(made, measured)
    return [
        Ladder(
            ladder.group,
            score,
            corrected(ladder, losses) if losses else ladder.curve * typical,
            round_to=settings.round_to,
            min_channels=settings.min_channels,
        )
        for ladder, score, losses in zip(made, scores, measured, strict=True)
    ]


MOST = 64
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
