"""Reports as text: one module per format, each a pure function of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..verdict import Report
from .github import github
from .json import to_json
from .junit import junit
from .markdown import markdown
from .sarif import sarif
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

__all__ = ["FORMATS", "table"]
