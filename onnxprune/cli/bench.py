"""`onnxprune bench`: models side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..profile.bench import comparison_table, side_by_side
from ..runtime import ExecutionOptions
from .options import Batch, Dims, Provider, Threads, parsed_dims
from .output import Output, as_json


def bench(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="ONNX files; all against the first.")
    ],
    provider: Provider = "CPUExecutionProvider",
    threads: Threads = 0,
    batch: Batch = None,
    dim: Dims = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long to measure each model.")] = 2.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time models in turns in ONNX Runtime, and say what the difference is worth."""
    options = ExecutionOptions(provider, threads)
    found = side_by_side(models, options, dims=parsed_dims(dim), batch=batch, seconds=seconds)
    if json:
        typer.echo(as_json(found.data()))
    else:
        Output(quiet=False).show(comparison_table(found))
