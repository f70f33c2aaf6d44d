"""`onnxprune validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ..contracts.sampling import Calibration
from ..errors import CheckFailed
from ..pipeline.options import Options
from .declared import Of, command
from .output import Output, as_json, print_text
from .parameters import Quiet


@command
def validate(
    original: Path,
    pruned: Path,
    /,
    *,
    calib: Calibration | None = None,
    labels: Path | None = None,
    rtol: Annotated[float | None, Parameter(validator=Number(gte=0))] = None,
    batch: Annotated[int, Of(Options)] = 32,
    seed: Annotated[int, Of(Options)] = 0,
    json: bool = False,
    quiet: Quiet = False,
) -> None:
    """Compare two models side by side in ONNX Runtime; exit code 1 if they differ by more than --rtol.

    Args:
        original: ONNX file.
        pruned: ONNX file that should do the same.
        calib: Samples.
        labels: An .npz of inputs and 'labels', to measure accuracy on.
        rtol: Largest relative error of any output.
        batch: Samples that run together.
        seed: Of random inputs.
        json: Print JSON instead of a table.
        quiet: Print only errors.
    """
    from ..pipeline.judge import compare
    from ..report import verdict_data, verdict_table

    verdict = compare(original, pruned, calib=calib, labels=labels, batch=batch, seed=seed)
    if json:
        print_text(as_json(verdict_data(verdict)))
    else:
        notes = (f"note: {warning}" for warning in verdict.warnings)
        Output(quiet).show(verdict_table(verdict), *notes)
    if rtol is not None and verdict.drift is not None:
        found = verdict.drift.relative
        worst = max(found, key=lambda n: found[n], default=None)
        if worst is not None and not found[worst] <= rtol:
            reason = f"output '{worst}' differs by {found[worst]:.3g}, more than --rtol {rtol:g}"
            raise CheckFailed(reason, where=str(pruned))
