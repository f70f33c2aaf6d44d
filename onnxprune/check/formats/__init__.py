"""Reports as text: one module per format, each a pure function of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..verdict import Report
from .github import github
from .json import json_error, to_json
from .junit import junit, junit_error
from .markdown import markdown, markdown_error
from .sarif import sarif, sarif_error
from .table import table, text

FORMATS: Mapping[str, Callable[[Report], str]] = MappingProxyType(
    {
        "table": text,
        "json": to_json,
        "junit": junit,
        "markdown": markdown,
        "github": github,
        "sarif": sarif,
    }
)
"""Name on the command line -> the text of a report, with a line break at its end."""

ERRORS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"json": json_error, "junit": junit_error, "markdown": markdown_error, "sarif": sarif_error}
)
"""Name -> what is written where the check could not be made, from the message; others say nothing."""

__all__ = ["ERRORS", "FORMATS", "table"]
