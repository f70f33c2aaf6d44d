"""`onnxprune profile`: what every layer takes, and which widths are worth having."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..pipeline import check_outputs, prepare
from ..pipeline.latency import profiled
from ..profile import profile_table
from .options import Batch, Dims, ProfileIn, ProfileOut, Provider, Threads, timed
from .output import Output, as_json


def profile(
    model: Annotated[Path, typer.Argument(help="ONNX file.")],
    provider: Provider = "CPUExecutionProvider",
    threads: Threads = 0,
    batch: Batch = None,
    dim: Dims = None,
    profile_in: ProfileIn = None,
    profile_out: ProfileOut = None,
    simplify: Annotated[bool, typer.Option(help="Clean the graph first, as 'prune' does.")] = True,
    limit: Annotated[int | None, typer.Option(min=1, help="Show only so many layers, the heaviest.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Time every layer in ONNX Runtime, at the width it has and at narrower ones."""
    check_outputs([profile_out], models=[model], files=[profile_in])
    with Output(quiet or json).progress() as progress:
        timing = timed(provider, threads, batch, dim, profile_in, profile_out)
        ready = prepare(model, simplify=simplify, dims=timing.dims, progress=progress)
        found = profiled(ready.channels, timing, progress=progress)
    if json:
        typer.echo(as_json(found.data()))
    else:
        Output(quiet=False).show(profile_table(found, limit=limit))
