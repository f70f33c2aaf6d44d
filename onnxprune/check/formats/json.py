"""For programs: everything, versioned."""

from __future__ import annotations

import json
from typing import Any

from ...errors import harmless
from ..verdict import Finding, Outcome, Report

VERSION = 1


def to_json(report: Report) -> str:
    """The report as JSON; numbers are in bytes, pieces and seconds."""
    content = {
        "version": VERSION,
        "status": report.status,
        "models": [_outcome(o) for o in report.outcomes],
        "warnings": list(report.warnings),
        "notes": list(report.notes),
    }
    return dumped(content)


def json_error(message: str) -> str:
    """What JSON says of a check that could not be made."""
    return dumped({"version": VERSION, "status": "error", "message": harmless(message), "models": []})


def dumped(content: Any) -> str:
    """Content as JSON that does no harm in a terminal or a log either, with a line break at its end."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    return text.replace("##[", "#\\u0023[") + "\n"


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.model.key,
        "path": outcome.model.path.as_posix(),
        "status": outcome.status,
        "baseline": outcome.source,
        "metrics": {f.metric: _finding(f) for f in outcome.findings},
        "notes": list(outcome.notes),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "value": _value(finding.value),
        "baseline": _value(finding.baseline),
        "limit": finding.limit or None,
        "status": finding.status,
        "message": finding.message or None,
        "improved": finding.better,
    }


def _value(value: float | tuple[str, ...] | None) -> Any:
    """Whole numbers without a fraction, whatever arithmetic they went through."""
    if isinstance(value, tuple):
        return list(value)
    return int(value) if value is not None and float(value).is_integer() else value
