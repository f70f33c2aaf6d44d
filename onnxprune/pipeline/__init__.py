"""From a model and a budget to a pruned model and its verdict: the only place that composes the stages."""

from .curve import Pareto
from .evidence import Calibration, Evidence, Labelled, Source, context, gather, labelled, opened, sample_sizes
from .judge import compare, size
from .prepare import Prepared, Progress, prepare
from .prune import Weights, apply, pareto, prune, prune_to
from .settings import Budget, Settings
from .solve import Result

__all__ = [
    "Budget",
    "Calibration",
    "Evidence",
    "Labelled",
    "Pareto",
    "Prepared",
    "Progress",
    "Result",
    "Settings",
    "Source",
    "Weights",
    "apply",
    "compare",
    "context",
    "gather",
    "labelled",
    "opened",
    "pareto",
    "prepare",
    "prune",
    "prune_to",
    "sample_sizes",
    "size",
]
