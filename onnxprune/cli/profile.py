"""`onnxprune profile`: what every layer takes, and which widths are worth having."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ..contracts.timing import Timing
from ..pipeline.options import Options
from .declared import Of, command
from .output import Output, as_json, print_text
from .parameters import Quiet


@command
def profile(
    model: Path,
    /,
    *,
    timing: Timing,
    simplify: Annotated[bool, Of(Options)] = True,
    limit: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    json: bool = False,
    quiet: Quiet = False,
) -> None:
    """Time every layer in ONNX Runtime, at the width it has and at narrower ones.

    Args:
        model: ONNX file.
        timing: How latency is measured.
        simplify: Clean the graph first.
        limit: Show only so many layers, the heaviest.
        json: Print JSON.
        quiet: No progress.
    """
    from ..pipeline.latency import profiled
    from ..pipeline.load import prepare
    from ..pipeline.outputs import check_outputs
    from ..profile import profile_table

    check_outputs([timing.table_out], models=[model], files=[timing.table_in])
    with Output(quiet or json).progress() as progress:
        ready = prepare(model, simplify=simplify, dims=timing.dims, progress=progress)
        found = profiled(ready.channels, timing, progress=progress)
    if json:
        print_text(as_json(found.data()))
    else:
        Output(quiet=False).show(profile_table(found, limit=limit))
