"""For the log of a GitHub workflow: annotations, which GitHub shows beside the files."""

from __future__ import annotations

import hashlib

from ...errors import harmless
from ..verdict import Report
from .table import text

_LEVELS = {"fail": "error", "warn": "warning"}


def github(report: Report) -> str:
    """The table, then a workflow command for each broken limit and each warning."""
    commands = [
        _command(_LEVELS[f.status], f.message, file=report.place(o.model), title=f"{o.model.key}: {f.title}")
        for o in report.outcomes
        for f in o.findings
        if f.status in _LEVELS
    ]
    commands += [_command("warning", warning, title="onnxprune check") for warning in report.warnings]
    shown = text(report)
    # GitHub takes each line that starts with `::` for a command. Names in a model are anybody's, and the
    # table breaks lines anywhere: commands are off until a word that nobody knows before the table is made.
    word = hashlib.sha256(shown.encode()).hexdigest()
    return f"::stop-commands::{word}\n{shown}::{word}::\n" + "".join(f"{command}\n" for command in commands)


def _command(level: str, message: str, **properties: str) -> str:
    fields = ",".join(f"{key}={_property(harmless(value))}" for key, value in properties.items())
    return f"::{level} {fields}::{_data(harmless(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
