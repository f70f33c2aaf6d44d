"""Reports: what a model holds and what was done to it, as data for JSON and as tables for people.

In: a space, or a verdict with its plan and phases. Out: dictionaries by `schemas/*.schema.json`, and rich
tables.

- `inspection`: a model as pruning sees it; `outcome`: a run; `entries`: what both have in common;
- `tables`: the same for people; `pareto`: the curve, as a table and as a plot.

A new field of JSON is added in `inspection` or `outcome` and in its schema (see docs/json.md); a new
table in `tables`.
"""

from __future__ import annotations

from .entries import VERSION
from .inspection import Inspection, inspection
from .outcome import Reduced, report, verdict_data
from .tables import inspection_tables, plan_tables, seconds_line, verdict_table, weights_line

__all__ = [
    "VERSION",
    "Inspection",
    "Reduced",
    "inspection",
    "inspection_tables",
    "plan_tables",
    "report",
    "seconds_line",
    "verdict_data",
    "verdict_table",
    "weights_line",
]
