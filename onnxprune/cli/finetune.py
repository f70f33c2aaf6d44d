"""`onnxprune finetune`."""

from __future__ import annotations

from pathlib import Path

from ..contracts.finetuning import FinetuneOptions
from ..contracts.sampling import Calibration
from .declared import command
from .output import Output
from .parameters import Out, Quiet


@command
def finetune(
    student: Path,
    /,
    *,
    out: Out,
    teacher: Path | None = None,
    calib: Calibration | None = None,
    labels: Path | None = None,
    options: FinetuneOptions,
    checkpoint: Path | None = None,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model towards the outputs of its original, towards labels, or both.

    Samples that nothing is fitted to judge the result. One that is no better than the start is the start.

    Args:
        student: ONNX file that learns.
        out: Where the fine-tuned model goes.
        teacher: ONNX file that it was made from.
        calib: Samples.
        labels: An .npz of inputs and 'labels'.
        options: How.
        checkpoint: Where to keep the state of the run; one that was killed goes on from there.
        quiet: Print only errors.
    """
    from ..pipeline.finetuning import finetune as tune
    from ..pipeline.outputs import check_outputs

    models = [student, *([] if teacher is None else [teacher])]
    check_outputs([out, checkpoint], models=models, calib=calib, files=[labels])
    output = Output(quiet)
    with output.progress() as progress:
        tuned = tune(student, teacher, calib, options, labels=labels, resume=checkpoint, progress=progress)
    tuned.save(out)
    found = tuned.found
    for note in tuned.notes:
        output.show(f"note: {note}")
    output.show(
        f"On held-out samples the loss went from {found.before:.4g} to {found.after:.4g}, "
        f"best after {found.best} of {found.updates} updates.",
        f"To repeat it: --updates {found.updates} --rate {found.rate:g}",
        f"The fine-tuned model is in {out}",
    )
