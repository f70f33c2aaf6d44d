"""`onnxprune diff`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..check import Subject, open_model
from ..check.diff import diff as compare
from ..check.formats.diff import diff_json, diff_markdown, diff_table, diff_text
from ..check.git import revision
from ..errors import UsageError


def diff(
    old: Annotated[str, typer.Argument(help="A model, or REVISION:PATH to read it from git.")],
    new: Annotated[str, typer.Argument(help="The model to compare with it; REVISION:PATH as well.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all layers.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Show what changed from one model to another: sizes, layers, operators, inputs and outputs, metadata."""
    if as_json and as_markdown:
        raise UsageError("give one of --json and --markdown")
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        found = compare(_open(old, Path(folder, "old")), _open(new, Path(folder, "new")))
    if as_json or as_markdown:
        typer.echo(diff_json(found) if as_json else diff_markdown(found), nl=False)
    elif (console := Console()).is_terminal:
        console.print(diff_table(found))
    else:
        typer.echo(diff_text(found), nl=False)


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
