"""`onnxprune apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ..contracts.choices import WeightSource
from ..contracts.sampling import Calibration
from ..pipeline.options import Options
from .declared import Of, command
from .output import Output
from .parameters import Out, Quiet, ReportOut


@command
def apply(
    model: Path,
    plan: Path,
    /,
    *,
    out: Out,
    calib: Calibration | None = None,
    labels: Path | None = None,
    batch: Annotated[int, Of(Options)] = 32,
    weights: WeightSource = "kept",
    seed: int | None = None,
    report_out: ReportOut = None,
    quiet: Quiet = False,
) -> None:
    """Replay a plan on its model, or on a checkpoint with the same weights' names and shapes.

    Args:
        model: ONNX file.
        plan: Plan that 'prune --plan-out' wrote.
        out: Where the pruned model goes.
        calib: Samples.
        labels: An .npz of inputs and 'labels', to measure accuracy on.
        batch: Samples that run together.
        weights: Of the model as they are, or drawn anew to train from scratch.
        seed: Of random weights; by default the plan's.
        report_out: Write all that is known as JSON.
        quiet: Print only errors.
    """
    from ..pipeline.api import apply as replay
    from ..pipeline.outputs import check_outputs
    from .delivery import deliver

    check_outputs([out, report_out], models=[model], calib=calib, files=[plan, labels])
    output = Output(quiet)
    with output.progress() as progress:
        result = replay(
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
