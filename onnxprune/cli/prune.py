"""`onnxprune prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from ..contracts.finetuning import FinetuneOptions
from ..contracts.sampling import Calibration
from ..contracts.timing import Timing
from ..errors import UsageError
from ..pipeline.options import Options
from .declared import Prefix, command
from .output import Output
from .parameters import Out, Quiet, ReportOut


@command
def prune(
    model: Path,
    /,
    *,
    out: Out,
    options: Options,
    calib: Calibration | None = None,
    labels: Path | None = None,
    stats: Path | None = None,
    finetune: bool = False,
    finetuning: Annotated[FinetuneOptions | None, Prefix("finetune")] = None,
    timing: Timing,
    plan_out: Path | None = None,
    report_out: ReportOut = None,
    quiet: Quiet = False,
) -> None:
    """Remove whole channels until a budget is met.

    A budget is a share of what the model has (0.5, 50%) or an amount (8MB, 5ms); several may be combined.

    Args:
        model: ONNX file.
        out: Where the pruned model goes.
        options: The budget, and how it is met.
        calib: Samples.
        labels: An .npz of inputs and 'labels', to measure accuracy on.
        stats: Statistics that 'calibrate' wrote.
        finetune: Fine-tune what repair leaves, on --calib; see --finetune-...
        finetuning: How.
        timing: How latency is measured.
        plan_out: Write the plan, to replay with 'apply'.
        report_out: Write all that is known as JSON.
        quiet: Print only errors.
    """
    from .. import pipeline
    from .delivery import deliver, deliver_curve, numbered, picture

    pareto = options.pareto
    if pareto is not None and finetune:
        hint = "fine-tune the model that you choose"
        raise UsageError("can't be combined with --pareto", where="--finetune", hint=hint)
    numbers = [None] if pareto is None else list(range(1, pareto + 1))
    outputs = [
        *(numbered(out, n) for n in numbers),
        *(None if plan_out is None else numbered(plan_out, n) for n in numbers),
        None if pareto is None else picture(out),
        report_out,
        timing.table_out,
    ]
    pipeline.check_outputs(outputs, models=[model], calib=calib, files=[labels, stats, timing.table_in])
    evidence: dict[str, Any] = {"calib": calib, "labels": labels, "stats": stats, "timing": timing}
    output = Output(quiet)
    if pareto is not None:
        with output.progress() as progress:
            found = pipeline.pareto(model, pareto, options, **evidence, progress=progress)
        deliver_curve(found, out, plan_out, report_out, output)
    else:
        tuning = (finetuning or FinetuneOptions()) if finetune else None
        with output.progress() as progress:
            result = pipeline.prune(model, options, **evidence, finetune=tuning, progress=progress)
        deliver(result, out, plan_out, report_out, output)
