"""The CI gate: what models measure, against limits and baselines, and how two of them differ.

Files come in and a `Report` or a `Diff` goes out; `formats` turns them into text. Nothing here prunes.
"""

from .gate import Options, check, require_outputs_apart
from .measure import Measurement, Subject, measure, open_model
from .settings import Settings, find, read
from .verdict import Finding, Outcome, Report

__all__ = [
    "Finding",
    "Measurement",
    "Options",
    "Outcome",
    "Report",
    "Settings",
    "Subject",
    "check",
    "find",
    "measure",
    "open_model",
    "read",
    "require_outputs_apart",
]
