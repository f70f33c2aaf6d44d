"""ONNX Runtime: sessions, inputs for them, and their latency. The only subpackage that imports onnxruntime.

In: serialized models, or paths where weights lie in files beside the model; it doesn't import onnx. Out:
outputs, and times in seconds. Errors of ONNX Runtime become `InputError` or `RunFailed` with the node
(`messages`).

- `session`: a `Session` and its `ExecutionOptions`; `binding`: inputs and outputs bound once;
- `feeds`: random inputs; `memory`: whether arrays fit;
- `latency`: models timed in turns; `ratio`: their ratio, with a 95% interval; `kernels`: time by kernel.
- Another execution provider needs nothing here: `ExecutionOptions.provider` is its name.
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
