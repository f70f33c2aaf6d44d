"""For a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

from rich.console import Console, RenderableType
from rich.console import Group as Renderables
from rich.table import Table
from rich.text import Text

from ...errors import harmless
from ..metrics import METRICS
from ..verdict import Finding, Outcome, Report, Status

_STYLES: dict[Status, str] = {
    "fail": "bold red",
    "warn": "yellow",
    "skip": "dim",
    "pass": "green",
    "info": "dim",
}
_WIDTH = 120


def table(report: Report) -> RenderableType:
    """A table for each model; then what is wrong, and the verdict, last, so that nobody has to scroll."""
    return Renderables(*_parts(report))


def text(report: Report) -> str:
    """The table without colours, as for a log."""
    return plain(_parts(report))


def plain(parts: Iterable[Table | Text]) -> str:
    """Tables and lines without colours; lines that tools may search for aren't broken."""
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, highlight=False)
    with console.capture() as captured:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, Text))
    # Names may be broken anywhere: only now it is known what lines start with.
    return "\n".join(harmless(line.rstrip()) for line in captured.get().split("\n")[:-1]) + "\n"


def summary(report: Report) -> str:
    """The verdict in one line."""
    count = len(report.outcomes)
    failed = sum(o.status == "fail" for o in report.outcomes)
    warned = sum(o.status == "warn" for o in report.outcomes)
    models = f"{count} model{'s' if count != 1 else ''}"
    skipped = sum(f.status == "skip" for o in report.outcomes for f in o.findings)
    if failed:
        return f"failed: {failed} of {models} beyond a limit"
    passed = f"passed: {models}" + (f", {warned} with warnings" if warned else "")
    return passed + (f", {skipped} limit{'s' if skipped != 1 else ''} without a baseline" if skipped else "")


def _parts(report: Report) -> Iterator[Table | Text]:
    for outcome in report.outcomes:
        yield _model(outcome)
        yield Text()
    yield from _notes(report)
    yield from (line(f"warning: {warning}", _STYLES["warn"]) for warning in report.warnings)
    yield from _messages(report)
    yield Text(summary(report), _STYLES[report.status])


def _model(outcome: Outcome) -> Table:
    path = outcome.model.path.as_posix()
    shown = outcome.model.key if path == outcome.model.key else f"{outcome.model.key} ({path})"
    against = f", against {outcome.source}" if outcome.source else ""
    made = bare(line(f"{shown}{against}", "bold"))
    made.add_column("metric", min_width=16)
    made.add_column("value", justify="right", min_width=8)
    made.add_column("change", justify="right", min_width=18, overflow="fold")
    made.add_column("limit", overflow="fold", min_width=12)
    made.add_column("")
    for f in filter(_matters, outcome.findings):
        change = line(f.change, "green" if f.better else "")
        made.add_row(f.title, f.shown, change, line(f.limit), line(_verdict(f), _STYLES[f.status]))
    return made


def bare(title: Text) -> Table:
    """A table of few lines, since there may be many of them."""
    return Table(
        title=title, title_justify="left", box=None, header_style="dim", pad_edge=False, padding=(0, 1)
    )


def _matters(finding: Finding) -> bool:
    """Whether a metric is shown: it has a limit, was asked for, changed, or is all that there is."""
    asked = finding.metric in METRICS and METRICS[finding.metric].costly
    return finding.status != "info" or asked or finding.value != finding.baseline


def _verdict(finding: Finding) -> str:
    said = "" if finding.status == "info" else finding.status
    return ", ".join(filter(None, (said, "better" if finding.better else "")))


def _messages(report: Report) -> list[Text]:
    """The warnings, and last the failures."""
    loud = [
        (o, f)
        for status in ("warn", "fail")
        for o in report.outcomes
        for f in o.findings
        if f.status == status
    ]
    return [line(f"{f.status}: {o.model.key}: {f.message}", _STYLES[f.status]) for o, f in loud]


def _notes(report: Report) -> list[Text]:
    """What there is to know, once, however many models it is about."""
    about: dict[str, list[str]] = {}
    for outcome in report.outcomes:
        for note in outcome.notes:
            about.setdefault(note, []).append(outcome.model.key)
    said = [
        f"{note} ({keys[0] if len(keys) == 1 else f'{len(keys)} models'})" for note, keys in about.items()
    ]
    return [line(f"note: {text}", "dim") for text in (*said, *report.notes)]


def line(text: str, style: str = "") -> Text:
    """Text in one line, without markup: names in a model may hold line breaks and commands to terminals."""
    return Text(harmless(text), style)
