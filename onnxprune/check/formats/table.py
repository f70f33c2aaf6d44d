"""For a terminal."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType
from rich.console import Group as Renderables
from rich.table import Table
from rich.text import Text

from ..verdict import Outcome, Report, Status

_STYLES: dict[Status, str] = {
    "fail": "bold red",
    "warn": "yellow",
    "skip": "dim",
    "pass": "green",
    "info": "dim",
}
_WIDTH = 120


def table(report: Report) -> RenderableType:
    """A table for each model, what is wrong below it, and the verdict in the end."""
    parts: list[RenderableType] = []
    for outcome in report.outcomes:
        parts += [_model(outcome), *_messages(outcome), Text()]
    parts += [_line(f"warning: {warning}", _STYLES["warn"]) for warning in report.warnings]
    parts += [_line(f"note: {note}") for note in report.notes]
    parts.append(Text(summary(report), _STYLES[report.status]))
    return Renderables(*parts)


def text(report: Report) -> str:
    """The table without colours, as for a log."""
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(table(report))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


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
    return passed + (f", {skipped} limits without a baseline" if skipped else "")


def _model(outcome: Outcome) -> Table:
    path = outcome.model.path.as_posix()
    shown = outcome.model.key if path == outcome.model.key else f"{outcome.model.key} ({path})"
    against = f", against {outcome.source}" if outcome.source else ""
    made = Table(title=_line(f"{shown}{against}", "bold"), title_justify="left")
    made.add_column("metric")
    made.add_column("value", justify="right")
    made.add_column("change", justify="right")
    made.add_column("limit", overflow="fold")
    made.add_column("")
    for f in outcome.findings:
        change = _line(f.change, "green" if f.better else "")
        verdict = _line("" if f.status == "info" else f.status, _STYLES[f.status])
        made.add_row(f.title, f.shown, change, _line(f.limit), verdict)
    return made


def _messages(outcome: Outcome) -> list[Text]:
    loud = [f for f in outcome.findings if f.status in ("fail", "warn")]
    lines = [_line(f"{f.status}: {f.message}", _STYLES[f.status]) for f in loud]
    return lines + [_line(f"note: {note}", "dim") for note in outcome.notes]


def _line(text: str, style: str = "") -> Text:
    """Text in one line, without markup: names in a model may hold line breaks and commands to terminals."""
    return Text("".join(c if c.isprintable() else "\ufffd" for c in text), style)
