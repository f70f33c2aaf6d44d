"""Structured channel pruning for ONNX files: no training, no framework, a proof that the surgery is exact."""

from typing import TYPE_CHECKING, Any

from .errors import CheckFailed, Infeasible, InputError, OnnxpruneError, UsageError

if TYPE_CHECKING:
    from .pipeline import Prepared, Result, apply, compare
    from .pipeline.api import prune
    from .pipeline.finetuning import Tuned, finetune
    from .pipeline.load import prepare

__version__ = "0.1.0"

__all__ = [
    "CheckFailed",
    "Infeasible",
    "InputError",
    "OnnxpruneError",
    "Prepared",
    "Result",
    "Tuned",
    "UsageError",
    "apply",
    "compare",
    "finetune",
    "prepare",
    "prune",
]


def __getattr__(name: str) -> Any:
    """Import the pipeline on first use: it takes a second."""
    if name not in __all__:
        raise AttributeError(f"module 'onnxprune' has no attribute '{name}'")
    from . import pipeline

    return getattr(pipeline, name)
