"""Outputs that would be written over what is read, found before any work is done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError, UsageError
from .reading import reason_of


class Overwrites(UsageError):
    """An output is an input, or another output."""


def require_apart(inputs: Iterable[Path], outputs: Iterable[Path | None]) -> None:
    """Refuse outputs that are inputs, whatever they are called, or that can't be written.

    A file is known by its path without links and by its number in the file system, which hard links share.

    Args:
        inputs: all files that are read; those that aren't there are looked at by name.
        outputs: all files that are written; `None` for those that aren't asked for.

    Raises:
        Overwrites: an output is an input, or two outputs are the same file.
        InputError: a folder is missing or can't be written to, or something else than a file is there.
    """
    wanted = [output for output in outputs if output is not None]
    if not wanted:
        return
    seen: dict[str | tuple[int, int], str] = {}
    for file in inputs:
        seen |= dict.fromkeys(_known_by(file), "an input")
    for output in wanted:
        _require_a_name(output)
        known_by = _known_by(output)
        same = next((seen[one] for one in known_by if one in seen), None)
        if same is not None:
            hint = "choose another name; originals are never touched"
            raise Overwrites(f"is {same}", where=str(output), hint=hint)
        seen |= dict.fromkeys(known_by, f"also another output ({output})")
        _require_writable(output)


def _known_by(file: Path) -> list[str | tuple[int, int]]:
    """What tells whether two paths are of one file."""
    try:
        path = os.path.normcase(os.path.realpath(file))
    except (OSError, ValueError):  # no path of this system: nothing can be there
        return []
    try:
        found = os.stat(path)  # noqa: PTH116  (of one spelling, without a second look at links)
    except (OSError, ValueError):
        return [path]
    return [path, (found.st_dev, found.st_ino)]


def _require_a_name(output: Path) -> None:
    if str(output) == "-":
        hint = "name a file; './-' for one of that name"
        raise UsageError("files can't be written to standard output", where="-", hint=hint)
    if not output.name:
        raise InputError("is a directory", where=str(output), hint="name a file")


def _require_writable(output: Path) -> None:
    """Refuse what can't be written, by trying it with a file without a name."""
    try:
        real = Path(os.path.realpath(output))
        if not real.parent.is_dir():
            raise InputError("its folder does not exist", where=str(output))
        if _is_there(real) and not real.is_file():
            reason = "is a directory" if real.is_dir() else "is a device, not a file"
            raise InputError(reason, where=str(output), hint="name a file")
        with tempfile.TemporaryFile(dir=real.parent):
            pass
    except (OSError, ValueError) as error:
        raise InputError(f"can't be written ({reason_of(error)})", where=str(output)) from None


def _is_there(file: Path) -> bool:
    try:
        file.lstat()
    except FileNotFoundError:
        return False
    return True
