"""Files that users name, read without trust: regular files only, text that is text, JSON that ends."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from ..errors import InputError


def require_file(path: str | os.PathLike[str], hint: str | None = None) -> int:
    """Refuse what is no regular file, before it is opened: a pipe would wait for ever; returns its bytes.

    Args:
        path: the file; it may be a link.
        hint: what to name instead of a folder or a device.

    Raises:
        InputError: there is no such file, or it is something else.
    """
    where = os.fspath(path)
    try:
        found = os.stat(path)  # noqa: PTH116  (a path with a NUL is a ValueError here, not "no such file")
    except FileNotFoundError:
        raise InputError("no such file", where=where) from None
    except NotADirectoryError:
        raise InputError("no such file (a part of its path is no folder)", where=where) from None
    except (OSError, ValueError) as error:
        raise InputError(f"can't be read ({reason_of(error)})", where=where) from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError("is a directory", where=where, hint=hint)
    if not stat.S_ISREG(found.st_mode):
        raise InputError("is a device, not a file", where=where, hint=hint)
    return found.st_size


def contents(path: str | os.PathLike[str], hint: str | None = None) -> bytes:
    """The bytes of a regular file.

    Raises:
        InputError: there is no such file, it is something else, or it can't be read.
    """
    require_file(path, hint)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"can't be read ({reason_of(error)})", where=os.fspath(path)) from None


def text(path: str | os.PathLike[str]) -> str:
    """The text of a regular file in UTF-8, with or without the mark that editors on Windows begin it with.

    Raises:
        InputError: as `contents`, or it is not UTF-8.
    """
    try:
        return contents(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("can't be read (not text in UTF-8)", where=os.fspath(path)) from None


def parsed(data: str | bytes, where: str, hint: str | None = None) -> Any:
    """What JSON says.

    Args:
        data: text in UTF-8.
        where: its file, for messages.
        hint: what to do if it isn't JSON.

    Raises:
        InputError: it is not JSON, or nested so deep that it can't be read.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise InputError("is not JSON (nested too deep)", where=where, hint=hint) from None
    except ValueError as error:
        raise InputError(f"is not JSON ({error})", where=where, hint=hint) from None


def reason_of(error: Exception) -> str:
    """What the system says of a file, without its name."""
    return getattr(error, "strerror", None) or str(error)
