"""Options that several commands share: what may go, how ONNX Runtime executes, on which shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ..errors import UsageError
from ..execution.timing import Timing
from ..reductions.channels.find import Granularity
from ..runtime import ExecutionOptions

Provider: TypeAlias = Annotated[
    str, typer.Option(metavar="NAME", help="The execution provider of ONNX Runtime.")
]
Threads: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Threads within an operator; 0 leaves it to ONNX Runtime.")
]
Batch: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Size of first axes without a fixed size; 1 by default.")
]
Dims: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--dim", metavar="NAME=SIZE", help="Size of a symbolic dimension; may be repeated."),
]
Attention: TypeAlias = Annotated[
    Granularity, typer.Option(help="What may go of attention: auto, head or width.")
]
Approximate: TypeAlias = Annotated[
    bool,
    typer.Option("--allow-approximate", help="Channels may go that a normalisation runs over: not exact."),
]
ProfileIn: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Use the latency table in this file, not the cache.")
]
ProfileOut: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Save the latencies that were used, for --profile-in.")
]


def timed(
    provider: str,
    threads: int,
    batch: int | None,
    dim: Sequence[str] | None,
    profile_in: Path | None,
    profile_out: Path | None,
) -> Timing:
    """What these options say of how latency is measured.

    Raises:
        UsageError: a dimension is not `NAME=SIZE`.
    """
    options = ExecutionOptions(provider, threads)
    return Timing(options, parsed_dims(dim), batch, profile_in, profile_out)


def parsed_dims(texts: Sequence[str] | None) -> dict[str, int]:
    """Sizes by name.

    Raises:
        UsageError: a text is not `NAME=SIZE`.
    """
    sizes = {}
    for text in texts or ():
        name, _, size = text.rpartition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise UsageError(f"'{text}' is not NAME=SIZE", where="--dim", hint="such as --dim batch=4")
        sizes[name] = int(size)
    return sizes
