"""`onnxprune bench`: models side by side."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from ..bench import compare, comparison_table
from ..runtime import ExecutionOptions, Session
from .options import Batch, Dims, Provider, Threads, parsed_dims


def bench(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="ONNX files; all against the first.")
    ],
    provider: Provider = "CPUExecutionProvider",
    threads: Threads = 0,
    batch: Batch = None,
    dim: Dims = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long to measure each model.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time models in turns in ONNX Runtime, and say what the difference is worth."""
    options = ExecutionOptions(provider, threads)
    found = compare(
        models,
        [Session(model, options) for model in models],
        dims=parsed_dims(dim),
        batch=batch,
        seconds=seconds,
        setting={"provider": provider, "threads": threads},
    )
    if as_json:
        typer.echo(json.dumps(found.data(), indent=2))
    else:
        Console().print(comparison_table(found))
