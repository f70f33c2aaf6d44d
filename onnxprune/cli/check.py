"""`onnxprune check`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ..check import Options, Report, find, read, require_outputs_apart
from ..check import check as run_check
from ..check.formats import ERRORS, FORMATS, table
from ..check.metrics import METRICS
from ..errors import InputError, OnnxpruneError, UsageError, harmless
from ..graph import Overwrites, write_atomic

_COSTLY = tuple(key for key, metric in METRICS.items() if metric.costly)


def check(
    models: Annotated[list[Path] | None, typer.Argument(help="By default all that are configured.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="The file with the limits; by default the nearest one.")
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="Compare with this model or baseline file.")] = None,
    baseline_ref: Annotated[
        str | None, typer.Option(help="Compare with the models of this git revision.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Write what is measured as the baseline.")] = False,
    ratchet: Annotated[
        bool, typer.Option("--ratchet", help="Lower the baseline where models became better.")
    ] = False,
    measure: Annotated[
        list[str] | None, typer.Option(help=f"Measure this, too: {', '.join(_COSTLY)}.")
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help=f"One of {', '.join(FORMATS)}; NAME=FILE writes a file. May be given several times.",
        ),
    ] = None,
) -> None:
    """Check models against the limits in pyproject.toml or onnxprune.toml."""
    outputs = _outputs(output or ["table"])
    for key in measure or ():
        if key not in _COSTLY:
            raise UsageError(
                f"unknown metric '{key}'", where="--measure", hint=f"known: {', '.join(_COSTLY)}"
            )
    files = tuple(file for _, file in outputs if file is not None)
    options = Options(baseline, baseline_ref, update, ratchet, frozenset(measure or ()), files)
    require_outputs_apart(files, models or (), [config, baseline])
    try:
        report = _report(config, models or [], options)
    except Overwrites:
        raise
    except OnnxpruneError as error:
        for name, file in outputs:
            if name in ERRORS:
                _put(ERRORS[name](str(error)), file)
        raise
    for name, file in outputs:
        _write(report, name, file)
    if report.failed:
        raise typer.Exit(1)


def _report(config: Path | None, models: list[Path], options: Options) -> Report:
    try:
        here = Path.cwd()
    except OSError:
        raise InputError("the working directory is gone") from None
    settings = read(config or find(here), here)
    with Console(stderr=True).status("Measuring") as status:
        return run_check(settings, models, options, lambda said: status.update(Text(harmless(said))))


def _outputs(given: list[str]) -> list[tuple[str, Path | None]]:
    outputs = []
    for one in given:
        name, _, file = one.partition("=")
        if name not in FORMATS:
            raise UsageError(
                f"unknown format '{name}'", where="--format", hint=f"known: {', '.join(FORMATS)}"
            )
        outputs.append((name, Path(file) if file not in ("", "-") else None))
    if sum(file is None for _, file in outputs) > 1:
        raise UsageError(
            "only one format can go to standard output", where="--format", hint="write NAME=FILE for others"
        )
    return outputs


def _write(report: Report, name: str, file: Path | None) -> None:
    if name == "table" and file is None and (console := Console()).is_terminal:
        console.print(table(report))
    else:
        _put(_text(report, name), file)
    # GitHub gives each step a file for its part of the job's page.
    summary = os.environ.get("GITHUB_STEP_SUMMARY") if name == "github" else None
    if summary:
        try:
            with Path(summary).open("a", encoding="utf-8") as page:
                page.write(_text(report, "markdown"))
        except OSError as error:
            raise InputError(f"can't be written ({error.strerror})", where=summary) from None


def _put(text: str, file: Path | None) -> None:
    if file is not None:
        write_atomic(file, text.encode())
    else:
        typer.echo(text, nl=False)


def _text(report: Report, name: str) -> str:
    """The report, with file names that are no Unicode made harmless."""
    return FORMATS[name](report).encode(errors="replace").decode()
