"""For a pull-request comment or a job summary."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ...errors import harmless
from ..metrics import METRICS
from ..quantity import text
from ..verdict import Finding, Outcome, Report, Status
from .table import summary

MARKER = "<!-- onnxprune check -->"
"""The first line: by it, the comment is found again."""

LIMIT = 60_000
"""Characters; GitHub refuses comments of more than 65,536."""

_ESCAPES = {ord(character): f"&#{ord(character)};" for character in "\\`*_[]|@"}

_MARKS: Mapping[Status, str] = MappingProxyType(
    {"fail": "❌", "warn": "⚠️", "skip": "➖", "pass": "✅", "info": ""}
)


def markdown(report: Report) -> str:
    """The report as GitHub's and GitLab's Markdown: models in trouble first and open, others folded."""
    ordered = sorted(report.outcomes, key=lambda o: (o.status not in ("fail", "warn"), o.model.key))
    head = [MARKER, f"### {_MARKS[report.status] or _MARKS['pass']} onnxprune check: {summary(report)}", ""]
    tail = [f"> ⚠️ {inline(w)}\n" for w in report.warnings] + [f"> {inline(n)}\n" for n in report.notes]
    parts, used = list(head), sum(map(len, head + tail))
    for left, outcome in enumerate(ordered):
        section = _section(outcome)
        if used + len(section) > LIMIT:
            parts.append(f"…and {len(ordered) - left} more models\n")
            break
        parts.append(section)
        used += len(section)
    return "\n".join(parts + tail).rstrip("\n") + "\n"


def markdown_error(message: str) -> str:
    """A comment on a check that could not be made: one that says it passed must not stay."""
    return f"{MARKER}\n### {_MARKS['fail']} onnxprune check could not be made\n\n{inline(message)}\n"


def _section(outcome: Outcome) -> str:
    lines = [
        "| | metric | before | now | change | limit |",
        "|---|---|--:|--:|--:|---|",
        *(_row(f) for f in outcome.findings),
        "",
        *(
            f"- {_MARKS[f.status]} {inline(f.message)}"
            for f in outcome.findings
            if f.status in ("fail", "warn")
        ),
        *(f"- {inline(note)}" for note in outcome.notes),
    ]
    title = f"{_MARKS[outcome.status]} <b>{_html(outcome.model.key)}</b>".strip()
    against = f" against {_html(outcome.source)}" if outcome.source else ""
    opened = " open" if outcome.status in ("fail", "warn") else ""
    return f"<details{opened}><summary>{title}{against}</summary>\n\n" + "\n".join(lines) + "\n\n</details>\n"


def _row(f: Finding) -> str:
    before = "" if f.baseline is None else _before(f)
    change = f"{f.change} 🎉" if f.better else f.change
    cells = [_MARKS[f.status], f.title, before, f.shown, change, f.limit]
    return "| " + " | ".join(inline(cell) for cell in cells) + " |"


def _before(f: Finding) -> str:
    if isinstance(f.baseline, tuple):
        return str(len(f.baseline))
    return "" if f.baseline is None else text(f.baseline, METRICS[f.metric].kind)


def _html(value: str) -> str:
    return harmless(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def inline(value: str) -> str:
    """Text that neither ends a cell nor starts markup: names in a model are anybody's."""
    return _html(" ".join(value.split())).translate(_ESCAPES)
