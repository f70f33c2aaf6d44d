"""Which units stay: scores, and a budget spread over groups by what each loses."""

from __future__ import annotations

from ..allocate import by_budget, by_ratio
from ..criteria import Context, Criterion
from ..types import Mask
from .evidence import Evidence
from .prepare import Prepared
from .settings import Budget, Settings


def choose(
    ready: Prepared, evidence: Evidence, criterion: Criterion, budget: Budget, settings: Settings
) -> Mask:
    """Which units to keep: bool (analysis.count,).

    Raises:
        UsageError: the criterion needs statistics that are not there.
        Infeasible: the budget can't be met.
    """
    scores = criterion.scores(Context(ready.graph, ready.analysis, evidence.stats, settings.seed))
    widths = {"round_to": settings.round_to, "min_channels": settings.min_channels}
    if budget.ratio is not None:
        return by_ratio(ready.analysis, scores, budget.ratio, **widths)
    return by_budget(
        ready.graph, ready.facts, ready.analysis, scores, macs=budget.macs, params=budget.params, **widths
    )
