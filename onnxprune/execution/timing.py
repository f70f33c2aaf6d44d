"""How latency is measured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..runtime import ExecutionOptions, Feeds


@dataclass(frozen=True)
class Timing:
    """How latency is measured.

    Attributes:
        options: how ONNX Runtime executes.
        dims: sizes of symbolic dimensions.
        batch: size of first axes without a fixed size; one sample by default.
        table_in: a table to use in place of the cache. One from another machine is all that is known: nothing
            is measured then.
        table_out: where to save the times that were used.
        sample: a real one, of models whose inputs of integers must agree: random ones may not run.
    """

    options: ExecutionOptions = field(default_factory=ExecutionOptions)
    dims: Mapping[str, int] = field(default_factory=dict)
    batch: int | None = None
    table_in: str | os.PathLike[str] | None = None
    table_out: str | os.PathLike[str] | None = None
    sample: Feeds | None = field(default=None, compare=False)
