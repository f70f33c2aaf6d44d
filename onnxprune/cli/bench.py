"""`onnxprune bench`: models side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ..contracts.timing import Timing
from .declared import Of, command
from .output import Output, as_json, print_text


@command
def bench(
    models: list[Path],
    /,
    *,
    provider: Annotated[str, Of(Timing)] = "CPUExecutionProvider",
    threads: Annotated[int, Of(Timing)] = 0,
    batch: Annotated[int | None, Of(Timing)] = None,
    dims: Annotated[Mapping[str, int] | None, Of(Timing)] = None,
    seconds: Annotated[float, Parameter(validator=Number(gte=0))] = 2.0,
    json: bool = False,
) -> None:
    """Time models in turns in ONNX Runtime, and say what the difference is worth.

    Args:
        models: ONNX files; all against the first.
        provider: The execution provider of ONNX Runtime.
        threads: Threads within an operator.
        batch: Size of first axes without a fixed size.
        dims: Sizes of symbolic dimensions.
        seconds: How long to measure each model.
        json: Print JSON.
    """
    from ..profile.bench import comparison_table, side_by_side
    from ..runtime import ExecutionOptions

    options = ExecutionOptions(provider, threads)
    found = side_by_side(models, options, dims=dims or {}, batch=batch, seconds=seconds)
    if json:
        print_text(as_json(found.data()))
    else:
        Output(quiet=False).show(comparison_table(found))
