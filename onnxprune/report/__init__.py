"""What a model holds and what was done to it: as data for JSON, and as tables for people."""

from .entries import VERSION
from .inspection import Inspection, inspection
from .outcome import report, verdict_data
from .tables import inspection_tables, plan_table, seconds_line, verdict_table, weights_line

__all__ = [
    "VERSION",
    "Inspection",
    "inspection",
    "inspection_tables",
    "plan_table",
    "report",
    "seconds_line",
    "verdict_data",
    "verdict_table",
    "weights_line",
]
