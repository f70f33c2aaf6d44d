"""`onnxprune calibrate`: statistics of a model over samples, to use again, or to gather in parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ..contracts.sampling import Calibration
from ..contracts.timing import Timing
from ..errors import InputError, UsageError
from ..pipeline.options import Options
from .declared import Of, command
from .output import Output
from .parameters import Out, Quiet

if TYPE_CHECKING:
    from ..contracts.stats import Stats


@command
def calibrate(
    files: list[Path],
    /,
    *,
    out: Out,
    calib: Calibration | None = None,
    batch: Annotated[int, Of(Options)] = 32,
    criteria: Annotated[list[str] | None, Parameter(name="--for", metavar="NAME")] = None,
    positions: Annotated[int | None, Parameter(validator=Number(gte=0))] = None,
    evaluations: Annotated[int, Of(Options)] = 200,
    merge: bool = False,
    threads: Annotated[int, Of(Timing)] = 0,
    simplify: Annotated[bool, Of(Options)] = True,
    seed: Annotated[int, Of(Options)] = 0,
    quiet: Quiet = False,
) -> None:
    """Gather what criteria need to know of a model's activations, in one pass over samples.

    Args:
        files: ONNX file; with --merge, statistics.
        out: Where the statistics go (.npz).
        calib: Samples.
        batch: Samples that run together.
        criteria: Criteria to gather for; may be repeated.
        positions: Pixels or tokens of each sample to look at; 0: at all.
        evaluations: Runs of some samples to spend on what each group is worth; 0: none.
        merge: Add up statistics of disjoint samples.
        threads: Threads within an operator.
        simplify: Clean the graph first.
        seed: Of the positions that are looked at, and of random samples.
        quiet: Print only errors.
    """
    from ..calibration import save
    from ..pipeline.calibrate import calibrated, with_samples
    from ..pipeline.outputs import check_outputs

    check_outputs([out], models=() if merge else files[:1], calib=calib, files=files)
    output = Output(quiet)
    notes: tuple[str, ...] = ()
    if merge:
        stats = merged(files)
    else:
        if len(files) > 1:
            raise UsageError("takes one model", where="calibrate", hint="use --merge to add up statistics")
        if calib is None:
            raise UsageError(
                "no samples are given", where="calibrate", hint="add --calib PATH, or --calib random"
            )
        with output.progress() as progress:
            ready, samples = with_samples(files[0], calib, simplify=simplify, seed=seed, progress=progress)
            notes = samples.notes
            stats = calibrated(
                ready,
                samples,
                criteria or (),
                positions=positions,
                evaluations=evaluations,
                batch=batch,
                threads=threads,
                seed=seed,
                progress=progress,
            )
    save(stats, out)
    for warning in (*notes, *stats.warnings()):
        output.show(f"note: {warning}")
    output.show(f"{stats.samples} samples, {len(stats.moments)} tensors: the statistics are in {out}")


def merged(files: list[Path]) -> Stats:
    """The statistics in these files, added up.

    Raises:
        InputError: a file can't be read, or is of another model or for other criteria.
    """
    from ..calibration import load
    from ..contracts.stats import total

    found = [load(path) for path in files]
    for path, stats in zip(files, found, strict=True):
        if stats.fingerprint != found[0].fingerprint:
            raise InputError(f"is of another model than '{files[0]}'", where=str(path))
        if set(stats.moments) != set(found[0].moments):
            raise InputError(f"was gathered for other criteria than '{files[0]}'", where=str(path))
    return total(found)
