"""The files of a model: how many bytes they have, raw and compressed, and whether they are really there."""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..graph import data_files, external_files

LEVEL = 6
"""Of zlib: the default of `gzip`."""

_CHUNK = 1 << 20
_POINTER_LIMIT = 1024  # bytes; git-lfs takes nothing larger for a pointer
_POINTER = re.compile(rb"version https://git-lfs[^\n]*\n(?:[^\n]*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)")


@dataclass(frozen=True)
class Pointer:
    """What git holds in place of a file that lies in git-lfs.

    Attributes:
        oid: SHA-256 of the file.
        size: its bytes.
    """

    oid: str
    size: int


def pointer(data: bytes) -> Pointer | None:
    """The pointer that a file's first bytes are, if they are one."""
    found = _POINTER.match(data[:_POINTER_LIMIT])
    return Pointer(found[1].decode(), int(found[2])) if found else None


def files(model: Path) -> tuple[Path, ...]:
    """The model's file and those of its external data.

    Raises:
        InputError: the model can't be read, or one of its files is missing, outside its folder or a git-lfs
            pointer.
    """
    _require_content(model)
    for file in (model.parent / name for name in external_files(model)):
        _require_content(file)
    return (model, *data_files(model))


def _require_content(file: Path) -> None:
    if not os.path.isfile(file) or file.stat().st_size > _POINTER_LIMIT:  # noqa: PTH113  (a name may be too long)
        return
    found = pointer(file.read_bytes())
    if found is not None:
        reason = f"is a git-lfs pointer to {found.size} bytes, not the file"
        raise InputError(
            reason, where=str(file), hint="run 'git lfs pull' (GitHub: 'lfs: true' for actions/checkout)"
        )


def compressed_size(paths: tuple[Path, ...]) -> int:
    """Bytes of files after zlib, each on its own; memory doesn't depend on their size."""
    total = 0
    for path in paths:
        packer = zlib.compressobj(LEVEL)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                total += len(packer.compress(chunk))
        total += len(packer.flush())
    return total
