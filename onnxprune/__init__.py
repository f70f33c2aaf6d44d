"""Structured channel pruning for ONNX files: no training, no framework, a proof that the surgery is exact."""

from .errors import CheckFailed, Infeasible, InputError, OnnxpruneError, UsageError
from .pipeline import Prepared, Result, apply, compare, prepare, prune

__version__ = "0.1.0"

__all__ = [
    "CheckFailed",
    "Infeasible",
    "InputError",
    "OnnxpruneError",
    "Prepared",
    "Result",
    "UsageError",
    "apply",
    "compare",
    "prepare",
    "prune",
]
