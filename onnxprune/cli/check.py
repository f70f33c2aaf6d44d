"""`onnxprune check`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from ..check import Options, Report, find, read, require_outputs_apart
from ..check import check as run_check
from ..check.formats import ERRORS, FORMATS, table
from ..check.metrics import METRICS
from ..errors import InputError, OnnxpruneError, UsageError, harmless
from ..graph import Overwrites, write_atomic
from .declared import command
from .output import print_text

_COSTLY = tuple(key for key, metric in METRICS.items() if metric.costly)


@command
def check(
    models: list[Path] | None = None,
    /,
    *,
    config: Path | None = None,
    baseline: Path | None = None,
    baseline_ref: str | None = None,
    update: bool = False,
    ratchet: bool = False,
    measure: Annotated[list[str] | None, Parameter(metavar="METRIC")] = None,
    output: Annotated[list[str] | None, Parameter(name="--format", metavar="NAME[=FILE]")] = None,
) -> int:
    """Check models against the limits in pyproject.toml or onnxprune.toml.

    Args:
        models: By default all that are configured.
        config: The file with the limits; by default the nearest one.
        baseline: Compare with this model or baseline file.
        baseline_ref: Compare with the models of this git revision.
        update: Write what is measured as the baseline.
        ratchet: Lower the baseline where models became better.
        measure: Measure this, too: latency or memory_peak. May be repeated.
        output: A format of the report; NAME=FILE writes a file. May be repeated.
    """
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
    return int(report.failed)


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
        print_text(text, end="")


def _text(report: Report, name: str) -> str:
    """The report, with file names that are no Unicode made harmless."""
    return FORMATS[name](report).encode(errors="replace").decode()
