"""`onnxprune diff`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from ..check import Subject, open_model
from ..check.diff import diff as compare
from ..check.formats.diff import diff_json, diff_markdown, diff_table, diff_text
from ..check.git import revision
from ..errors import UsageError
from .declared import command
from .output import print_text


@command
def diff(
    old: str,
    new: str,
    /,
    *,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    as_markdown: Annotated[bool, Parameter(name="--markdown")] = False,
) -> None:
    """Show what changed from one model to another: sizes, layers, operators, inputs and outputs, metadata.

    Args:
        old: A model, or REVISION:PATH to read it from git.
        new: The model to compare with it; REVISION:PATH as well.
        as_json: Print JSON, with all layers.
        as_markdown: Print Markdown.
    """
    if as_json and as_markdown:
        raise UsageError("give one of --json and --markdown")
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        found = compare(_open(old, Path(folder, "old")), _open(new, Path(folder, "new")))
    if as_json or as_markdown:
        print_text(diff_json(found) if as_json else diff_markdown(found), end="")
    elif (console := Console()).is_terminal:
        console.print(diff_table(found))
    else:
        print_text(diff_text(found), end="")


def _open(name: str, folder: Path) -> Subject:
    commit, colon, path = name.partition(":")
    # A drive letter is no revision, and a file whose name holds a colon is a file.
    if not colon or Path(name).exists() or len(commit) < 2:
        return open_model(Path(name), {})
    folder.mkdir()
    here = Path.cwd()
    file, found = here / path, revision(commit, here)
    found = found.holding(file) or found
    with found.named(file, folder):
        return open_model(found.extract(file, folder), {})
