"""`onnxprune validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import pipeline
from ..errors import CheckFailed
from ..report import verdict_data, verdict_table
from .output import Output, as_json
from .sampling import BatchSize, Labels, sampled


@sampled
def validate(
    original: Annotated[Path, typer.Argument(help="ONNX file.")],
    pruned: Annotated[Path, typer.Argument(help="ONNX file that should do the same.")],
    calib: pipeline.Calibration | None = None,
    labels: Labels = None,
    rtol: Annotated[float | None, typer.Option(min=0, help="Largest relative error of any output.")] = None,
    batch: BatchSize = 32,
    seed: Annotated[int, typer.Option(help="Of random inputs.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> None:
    """Compare two models side by side in ONNX Runtime; exit code 1 if they differ by more than --rtol."""
    verdict = pipeline.compare(
        original,
        pruned,
        calib=calib,
        labels=labels,
        batch=batch,
        seed=seed,
    )
    if json:
        typer.echo(as_json(verdict_data(verdict)))
    else:
        notes = (f"note: {warning}" for warning in verdict.warnings)
        Output(quiet).show(verdict_table(verdict), *notes)
    if rtol is not None and verdict.drift is not None:
        found = verdict.drift.relative
        worst = max(found, key=lambda n: found[n], default=None)
        if worst is not None and not found[worst] <= rtol:
            reason = f"output '{worst}' differs by {found[worst]:.3g}, more than --rtol {rtol:g}"
            raise CheckFailed(reason, where=str(pruned))
