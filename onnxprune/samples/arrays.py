"""Samples in arrays: npz and npy files, folders of them, and ONNX's test data."""

from __future__ import annotations

import itertools
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from ..errors import InputError
from ..graph import Array, InputSpec, read_tensor
from .core import Feeds, Samples, known, only, ready, rows_of_a_sample


class Rows(Protocol):
    """An array that can be read row by row."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""

    def read(self, indices: Sequence[int]) -> Iterator[Array]:
        """These rows, ascending, each with a first axis of length 1."""

    def whole(self) -> Array:
        """All of it."""


@dataclass(frozen=True)
class Held:
    """Rows of an array in memory, or mapped into it."""

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Rows`."""
        return self.array.shape

    def read(self, indices: Sequence[int]) -> Iterator[Array]:
        """See `Rows`."""
        for index in indices:
            yield np.array(self.array[index : index + 1])

    def whole(self) -> Array:
        """See `Rows`."""
        return self.array


@dataclass(frozen=True)
class _Zipped:
    """Rows of an array in an npz file, which is read through from the start: it may be compressed."""

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, indices: Sequence[int]) -> Iterator[Array]:
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                _header(file)
                at = 0
                for index in indices:
                    _skip(file, (index - at) * row)
                    data = file.read(row)
                    at = index + 1
                    yield np.frombuffer(data, self.dtype).reshape(1, *self.shape[1:])
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
            raise InputError(f"is damaged ({error})", where=str(self.path)) from None

    def whole(self) -> Array:
        rows = list(self.read(range(self.shape[0])))
        return np.concatenate(rows) if rows else np.empty(self.shape, self.dtype)


def _skip(file: IO[bytes], count: int) -> None:
    while count > 0:
        data = file.read(min(count, 1 << 20))
        if not data:
            raise EOFError("it ends early")
        count -= len(data)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


# ---------------------------------------------------------------- files


def from_npz(path: Path, specs: tuple[InputSpec, ...]) -> Samples:
    """Samples along the first axes of the arrays in an npz file."""
    return from_arrays(_npz(path, specs), specs, str(path))


def from_npy(path: Path, specs: tuple[InputSpec, ...]) -> Samples:
    """Samples along the first axis of an npy file, for the only input."""
    return from_arrays(_npy(path, specs), specs, str(path))


def _npz(path: Path, specs: Sequence[InputSpec]) -> dict[str, Rows]:
    """The arrays of an npz file by input name; a single unnamed one is for the single input."""
    found: dict[str, Rows] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in (m for m in archive.namelist() if m.endswith(".npy")):
                with archive.open(member) as file:
                    shape, fortran, dtype = _header(file)
                if dtype.hasobject:
                    reason = f"array '{member[:-4]}' holds Python objects, which are never loaded"
                    raise InputError(reason, where=str(path))
                if fortran or not shape:
                    with archive.open(member) as file:
                        found[member[:-4]] = Held(np.lib.format.read_array(file, allow_pickle=False))
                else:
                    found[member[:-4]] = _Zipped(path, member, shape, dtype)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise InputError(f"is not an npz file ({error})", where=str(path)) from None
    names = {s.name for s in specs}
    if set(found) == {"arr_0"} and "arr_0" not in names:
        return {only(specs, str(path)): found["arr_0"]}
    if "labels" not in names:  # a labelled set may serve as samples
        found.pop("labels", None)
    return found


def _npy(path: Path, specs: Sequence[InputSpec]) -> dict[str, Rows]:
    return {only(specs, str(path)): Held(opened(path))}


def opened(path: Path) -> Array:
    """The array of an npy file, mapped into memory.

    Raises:
        InputError: it is none, or holds Python objects.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"is not an npy file without Python objects ({error})", where=str(path)) from None


def _test_data(files: Sequence[Path], specs: Sequence[InputSpec]) -> dict[str, Rows]:
    """The tensors of an ONNX test, by name or, without a known one, in the order of the inputs."""
    names = [s.name for s in specs]
    found: dict[str, Rows] = {}
    for k, path in enumerate(files):
        name, array = read_tensor(path)
        found[name if name in names else names[min(k, len(names) - 1)]] = Held(array)
    return found


# ---------------------------------------------------------------- samples in arrays


@dataclass(frozen=True)
class _Column:
    """How the samples of one input lie in an array.

    Attributes:
        rows: the array.
        step: rows for each sample; 0 where the whole array is for every sample.
        rank: axes of a sample.
    """

    rows: Rows
    step: int
    rank: int

    @property
    def count(self) -> int | None:
        """Samples, `None` for any number."""
        return self.rows.shape[0] // self.step if self.step else None

    def read(self, indices: Sequence[int]) -> Iterator[Array]:
        if not self.step:
            array = self.rows.whole()
            sample = array[None] if array.ndim < self.rank else array
            yield from itertools.repeat(sample, len(indices))
            return
        rows = self.rows.read([self.step * i + k for i in indices for k in range(self.step)])
        for _ in indices:
            sample = np.concatenate([next(rows) for _ in range(self.step)])
            yield sample[0] if sample.ndim > self.rank else sample


def _columns(
    arrays: Mapping[str, Rows], specs: Sequence[InputSpec], where: str, *, one_run: bool
) -> tuple[dict[str, _Column], int]:
    """How samples lie in arrays, and how many there are.

    Arrays of the inputs' rank have samples along the first axis, unless the model doesn't have batches: then
    they are one sample. One more axis in front counts samples in any case; one less is one sample.

    Args:
        arrays: by input name.
        specs: the inputs.
        where: for messages.
        one_run: arrays are of one run of the model, whatever their lengths.

    Raises:
        InputError: a name doesn't fit, or the arrays have different numbers of samples.
    """
    if not arrays:
        raise InputError("holds no arrays", where=where)
    known(arrays, specs, where)
    batch = rows_of_a_sample(specs)
    columns = {}
    for spec in specs:
        rows, rank = arrays[spec.name], len(spec.shape)
        more = len(rows.shape) - rank
        step = 1 if more == 1 else (batch or 0) if more == 0 and rank else 0
        columns[spec.name] = _Column(rows, step, rank)
    counts = {name: c.count for name, c in columns.items() if c.count is not None}
    if len(set(counts.values())) > 1:
        if not one_run:
            said = ", ".join(f"'{name}' {count}" for name, count in counts.items())
            raise InputError(f"its arrays have different numbers of samples: {said}", where=where)
        columns = {name: _Column(c.rows, 0, c.rank) for name, c in columns.items()}
        counts = {}
    return columns, next(iter(counts.values()), 1)


def _read(columns: Mapping[str, _Column], indices: Sequence[int]) -> Iterator[Feeds]:
    for values in zip(*(c.read(indices) for c in columns.values()), strict=True):
        yield dict(zip(columns, values, strict=True))


def from_arrays(arrays: Mapping[str, Rows], specs: tuple[InputSpec, ...], source: str) -> Samples:
    """Samples along the first axes of arrays, equally many in each."""
    columns, count = _columns(arrays, specs, source, one_run=False)
    return ready(specs, source, count, lambda indices: _read(columns, indices))


def of_one_run(feeds: Mapping[str, Array], specs: Sequence[InputSpec], where: str) -> Iterator[Feeds]:
    """The samples in what the model would be run on."""
    held = {name: Held(np.asarray(array)) for name, array in feeds.items()}
    columns, count = _columns(held, specs, where, one_run=True)
    return _read(columns, range(count))


def from_records(records: Sequence[Sequence[Path]], specs: tuple[InputSpec, ...], source: str) -> Samples:
    """Samples from many files (or sets of test data), each with one or more of them."""

    def columns(record: Sequence[Path]) -> tuple[dict[str, _Column], int]:
        first = record[0]
        if first.suffix == ".pb":
            return _columns(_test_data(record, specs), specs, str(first.parent), one_run=True)
        rows = _npz(first, specs) if first.suffix == ".npz" else _npy(first, specs)
        return _columns(rows, specs, str(first), one_run=False)

    counts = [columns(record)[1] for record in records]
    ends = np.cumsum(counts)

    def read(indices: Sequence[int]) -> Iterator[Feeds]:
        which = np.searchsorted(ends, np.asarray(indices), side="right")
        for k, group in itertools.groupby(
            zip(which.tolist(), indices, strict=True), key=lambda pair: pair[0]
        ):
            start = int(ends[k]) - counts[k]
            yield from _read(columns(records[k])[0], [index - start for _, index in group])

    return ready(specs, source, sum(counts), read)
