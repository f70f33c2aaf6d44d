"""Search over how much to prune, with real evaluations; how candidates are made and judged is left open."""

from __future__ import annotations

from .edge import Effort, Search, Trial, edge
from .interval import Interval, drop_interval
from .limits import Cap, worst
from .pareto import Choice, curve, pareto_table, plot, shares
from .refusal import drop_refused, no_gain, too_tight
from .schedule import Kind, schedule

__all__ = [
    "Cap",
    "Choice",
    "Effort",
    "Interval",
    "Kind",
    "Search",
    "Trial",
    "curve",
    "drop_interval",
    "drop_refused",
    "edge",
    "no_gain",
    "pareto_table",
    "plot",
    "schedule",
    "shares",
    "too_tight",
    "worst",
]
