"""`onnxprune inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..pipeline import prepare
from ..report import inspection, inspection_tables
from .options import Approximate, Attention, Dims, parsed_dims
from .output import Output, as_json


def inspect(
    model: Annotated[Path, typer.Argument(help="ONNX file.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    simplify: Annotated[bool, typer.Option(help="Clean the graph first, as 'prune' does.")] = False,
    granularity: Attention = "auto",
    allow_approximate: Approximate = False,
    dim: Dims = None,
) -> None:
    """Show every layer and weight, its group of channels, what blocks it, and what would unblock it."""
    sizes = parsed_dims(dim)
    output = Output(quiet=json)
    with output.progress() as progress:
        ready = prepare(
            model,
            simplify=simplify,
            granularity=granularity,
            allow_approximate=allow_approximate,
            dims=sizes,
            progress=progress,
        )
    found = inspection(ready.channels, sizes)
    if json:
        typer.echo(as_json(found.data()))
    else:
        output.show(inspection_tables(found))
