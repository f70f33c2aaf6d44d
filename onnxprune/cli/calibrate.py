"""`onnxprune calibrate`: statistics of a model over samples, to use again, or to gather in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import calibration, pipeline
from ..contracts.stats import Stats, total
from ..errors import InputError, UsageError
from .options import Threads
from .output import Output
from .sampling import BatchSize, sampled


@sampled
def calibrate(
    files: Annotated[
        list[Path], typer.Argument(metavar="MODEL", help="ONNX file; with --merge, statistics.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="Where the statistics go (.npz).")],
    calib: pipeline.Calibration | None = None,
    batch: BatchSize = 32,
    criteria: Annotated[
        list[str] | None,
        typer.Option("--for", metavar="NAME", help="Criteria to gather for; may be repeated."),
    ] = None,
    positions: Annotated[
        int | None, typer.Option(min=0, help="Pixels or tokens of each sample to look at; 0: at all.")
    ] = None,
    evals: Annotated[
        int, typer.Option(min=0, help="Runs of some samples to spend on what each group is worth; 0: none.")
    ] = 200,
    merge: Annotated[bool, typer.Option("--merge", help="Add up statistics of disjoint samples.")] = False,
    threads: Threads = 0,
    simplify: Annotated[bool, typer.Option(help="Clean the graph first, as 'prune' does.")] = True,
    seed: Annotated[
        int, typer.Option(help="Of the positions that are looked at, and of random samples.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> None:
    """Gather what criteria need to know of a model's activations, in one pass over samples."""
    pipeline.check_outputs([out], models=() if merge else files[:1], calib=calib, files=files)
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
            ready, samples = pipeline.with_samples(
                files[0], calib, simplify=simplify, seed=seed, progress=progress
            )
            notes = samples.notes
            stats = pipeline.calibrated(
                ready,
                samples,
                criteria or (),
                positions=positions,
                evaluations=evals,
                batch=batch,
                threads=threads,
                seed=seed,
                progress=progress,
            )
    calibration.save(stats, out)
    for warning in (*notes, *stats.warnings()):
        output.show(f"note: {warning}")
    output.show(f"{stats.samples} samples, {len(stats.moments)} tensors: the statistics are in {out}")


def merged(files: list[Path]) -> Stats:
    """The statistics in these files, added up.

    Raises:
        InputError: a file can't be read, or is of another model or for other criteria.
    """
    found = [calibration.load(path) for path in files]
    for path, stats in zip(files, found, strict=True):
        if stats.fingerprint != found[0].fingerprint:
            raise InputError(f"is of another model than '{files[0]}'", where=str(path))
        if set(stats.moments) != set(found[0].moments):
            raise InputError(f"was gathered for other criteria than '{files[0]}'", where=str(path))
    return total(found)
