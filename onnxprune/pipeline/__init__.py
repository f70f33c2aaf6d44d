"""From a model and a budget to a pruned model and its verdict: the only place that composes the stages."""

from .evidence import Calibration, Evidence, Labelled, Source, gather, labelled, opened
from .judge import compare, size
from .prepare import Prepared, Progress, prepare, why_nothing
from .prune import Result, apply, prune
from .sessions import open_session
from .settings import Budget, Settings

__all__ = [
    "Budget",
    "Calibration",
    "Evidence",
    "Labelled",
    "Prepared",
    "Progress",
    "Result",
    "Settings",
    "Source",
    "apply",
    "compare",
    "gather",
    "labelled",
    "open_session",
    "opened",
    "prepare",
    "prune",
    "size",
    "why_nothing",
]
