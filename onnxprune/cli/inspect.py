"""`onnxprune inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from ..contracts.choices import Granularity
from ..contracts.timing import Timing
from ..pipeline.options import Options
from .declared import Of, command
from .output import Output, as_json, print_text


@command
def inspect(
    model: Path,
    /,
    *,
    json: bool = False,
    simplify: bool = False,
    granularity: Annotated[Granularity, Of(Options)] = "auto",
    allow_approximate: Annotated[bool, Of(Options)] = False,
    dims: Annotated[Mapping[str, int] | None, Of(Timing)] = None,
) -> None:
    """Show every layer and weight, its group of channels, what blocks it, and what would unblock it.

    Args:
        model: ONNX file.
        json: Print JSON instead of tables.
        simplify: Clean the graph first, as 'prune' does.
        granularity: What may go of attention: auto, head or width.
        allow_approximate: Channels may go that a normalisation runs over: not exact.
        dims: Sizes of symbolic dimensions.
    """
    from ..pipeline.load import prepare
    from ..report import inspection, inspection_tables

    output = Output(quiet=json)
    with output.progress() as progress:
        ready = prepare(
            model,
            simplify=simplify,
            granularity=granularity,
            allow_approximate=allow_approximate,
            dims=dims or {},
            progress=progress,
        )
    found = inspection(ready.channels, dims or {})
    if json:
        print_text(as_json(found.data()))
    else:
        output.show(inspection_tables(found))
