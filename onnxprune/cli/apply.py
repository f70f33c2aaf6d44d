"""`onnxprune apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import pipeline
from .output import Output
from .prune import deliver
from .sampling import BatchSize, Labels, sampled


@sampled
def apply(
    model: Annotated[Path, typer.Argument(help="ONNX file.")],
    plan: Annotated[Path, typer.Argument(help="Plan that 'prune --plan-out' wrote.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Where the pruned model goes.")],
    calib: pipeline.Calibration | None = None,
    labels: Labels = None,
    batch: BatchSize = 32,
    weights: Annotated[
        pipeline.Weights, typer.Option(help="Of the model as they are, or drawn anew to train from scratch.")
    ] = "kept",
    seed: Annotated[int | None, typer.Option(help="Of random weights; by default the plan's.")] = None,
    report_out: Annotated[
        Path | None, typer.Option("--report", help="Write all that is known as JSON.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> None:
    """Replay a plan on its model, or on a checkpoint with the same weights' names and shapes."""
    pipeline.check_outputs([out, report_out], models=[model], calib=calib, files=[plan, labels])
    output = Output(quiet)
    with output.progress() as progress:
        result = pipeline.apply(
            model,
            plan,
            calib=calib,
            labels=labels,
            batch=batch,
            weights=weights,
            seed=seed,
            progress=progress,
        )
    deliver(result, out, None, report_out, output)
