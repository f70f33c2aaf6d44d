"""Arrays in npz and npy files: what a header claims is compared with the file before memory is taken."""

from __future__ import annotations

import math
import os
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import InputError
from .core import Array
from .reading import require_file

_WRITTEN = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""What NumPy writes. Other compressions make a few kilobytes out of any number of gigabytes."""

_MANY = 10_000
"""Arrays in a file; a model has no more inputs."""

# What zipfile, zlib and NumPy's reader of headers raise on bytes that are something else.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class Stored:
    """An array in an npz file.

    Attributes:
        name: without `.npy`.
        shape: as its header says; the file has as many bytes as that takes.
        dtype: of its elements, never of Python objects.
        fortran: whether the first index changes fastest.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class Npz:
    """An npz file: only headers are read until an array is asked for.

    Args:
        path: the file.

    Raises:
        InputError: it is no npz file, or an array in it isn't what its header says.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        require_file(path)
        with self._damage("is not an npz file"), zipfile.ZipFile(self._path) as archive:
            found = [m for m in archive.infolist() if m.filename.endswith(".npy")]
            if len(found) > _MANY:
                raise InputError(f"holds more than {_MANY:,} arrays", where=os.fspath(path))
            stored = [self._stored(archive, member) for member in found]
        self.arrays: dict[str, Stored] = {one.name: one for one in stored}

    def read(self, name: str) -> Array:
        """All of an array.

        Raises:
            InputError: there is none of that name, or it is damaged.
        """
        if name not in self.arrays:
            raise InputError(f"has no array '{name}'", where=str(self._path))
        with self._damage("is damaged"), self._opened(name) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def rows(self, name: str, indices: Sequence[int]) -> Iterator[Array]:
        """These rows of an array, ascending, each with a first axis of length 1.

        What is before them is read through: it may be compressed.

        Raises:
            InputError: the array is damaged.
        """
        one = self.arrays[name]
        size = math.prod(one.shape[1:]) * one.dtype.itemsize
        at = 0
        with self._damage("is damaged"), self._opened(name) as file:
            _header(file)
            for index in indices:
                _skip(file, (index - at) * size)
                data = file.read(size)
                at = index + 1
                yield np.frombuffer(data, one.dtype).reshape(1, *one.shape[1:])

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(self._path) as archive, archive.open(f"{name}.npy") as file:
            yield file

    def _stored(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Stored:
        name, where = member.filename.removesuffix(".npy"), str(self._path)
        if member.compress_type not in _WRITTEN:
            reason = f"array '{name}' is compressed in a way that NumPy doesn't write"
            raise InputError(reason, where=where, hint="save it with numpy.savez")
        with archive.open(member) as file:
            shape, fortran, dtype = _header(file)
            start = file.tell()
        if dtype.hasobject:
            raise InputError(f"array '{name}' holds Python objects, which are never loaded", where=where)
        one = Stored(name, shape, dtype, fortran)
        if any(d < 0 for d in shape) or one.nbytes != member.file_size - start:
            sizes = ", ".join(map(str, shape))
            reason = f"array '{name}' has {member.file_size - start} bytes, and {dtype} of shape ({sizes})"
            raise InputError(f"{reason} takes {one.nbytes}", where=where)
        return one

    @contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        with damage(what, self._path):
            yield


def mapped(path: Path) -> Array:
    """The array of an npy file, mapped into memory: read as far as it is looked at.

    Raises:
        InputError: it is none, or holds Python objects.
    """
    require_file(path)
    with damage("is not an npy file without Python objects", path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.lib.format.open_memmap(path, mode="r")


@contextmanager
def damage(what: str, path: Path) -> Iterator[None]:
    """Errors of reading a file of NumPy as ours.

    Args:
        what: is wrong with the file.
        path: the file.
    """
    try:
        yield
    except _DAMAGE as error:
        reason = "" if isinstance(error, MemoryError) else f" ({error})"
        raise InputError(f"{what}{reason}", where=str(path)) from None


def _skip(file: IO[bytes], count: int) -> None:
    while count > 0:
        data = file.read(min(count, 1 << 20))
        if not data:
            raise EOFError("it ends early")
        count -= len(data)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        return read(file)
