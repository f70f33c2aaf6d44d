"""ONNX Runtime: sessions, inputs for them, and their latency.

This is the only package that imports onnxruntime. It doesn't import onnx: models come as serialized bytes, or
as a path where weights lie in files beside the model.
"""

from .binding import Binding
from .feeds import random_feeds, random_strings
from .kernels import kernel_seconds
from .latency import Bindable, Timings, latency
from .memory import require_room
from .ratio import Ratio, ratio
from .session import (
    Array,
    ExecutionOptions,
    Feeds,
    Session,
    TensorSpec,
    available_providers,
    silence,
    version,
)

__all__ = [
    "Array",
    "Bindable",
    "Binding",
    "ExecutionOptions",
    "Feeds",
    "Ratio",
    "Session",
    "TensorSpec",
    "Timings",
    "available_providers",
    "kernel_seconds",
    "latency",
    "random_feeds",
    "random_strings",
    "ratio",
    "require_room",
    "silence",
    "version",
]
