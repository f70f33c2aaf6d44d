"""Samples in arrays: npz and npy files, folders of them, and ONNX's test data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import InputError
from ..graph import Array, InputSpec, Npz, mapped, read_tensor, rows_of_a_sample
from ..runtime import require_room
from .core import Division, Feeds, Samples, known, only, ready, require_fit


class RowSource(Protocol):
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
    """Rows of an array in an npz file."""

    file: Npz
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Rows`."""
        return self.file.arrays[self.name].shape

    def read(self, indices: Sequence[int]) -> Iterator[Array]:
        """See `Rows`; where the first axis doesn't change slowest, all of the array is read."""
        if self.file.arrays[self.name].fortran:
            return Held(self._all).read(indices)
        return self.file.rows(self.name, indices)

    def whole(self) -> Array:
        """See `Rows`."""
        return self._all

    @cached_property
    def _all(self) -> Array:
        one = self.file.arrays[self.name]
        require_room(one.shape, one.dtype, f"array '{self.name}'")
        return self.file.read(self.name)


# ---------------------------------------------------------------- files


def from_npz(path: Path, specs: tuple[InputSpec, ...]) -> Samples:
    """Samples along the first axes of the arrays in an npz file."""
    return from_arrays(_npz(path, specs), specs, str(path))


def from_npy(path: Path, specs: tuple[InputSpec, ...]) -> Samples:
    """Samples along the first axis of an npy file, for the only input."""
    return from_arrays(_npy(path, specs), specs, str(path))


def _npz(path: Path, specs: Sequence[InputSpec]) -> dict[str, RowSource]:
    """The arrays of an npz file by input name; a single unnamed one is for the single input."""
    file = Npz(path)
    found: dict[str, RowSource] = {name: _Zipped(file, name) for name in file.arrays}
    names = {s.name for s in specs}
    if set(found) == {"arr_0"} and "arr_0" not in names:
        return {only(specs, str(path)): found["arr_0"]}
    if "labels" not in names:  # a labelled set may serve as samples
        found.pop("labels", None)
    return found


def _npy(path: Path, specs: Sequence[InputSpec]) -> dict[str, RowSource]:
    return {only(specs, str(path)): Held(mapped(path))}


def _test_data(files: Sequence[Path], specs: Sequence[InputSpec]) -> dict[str, RowSource]:
    """The tensors of an ONNX test, by name or, without a known one, in the order of the inputs."""
    names = [s.name for s in specs]
    found: dict[str, RowSource] = {}
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

    rows: RowSource
    step: int
    rank: int

    @property
    def count(self) -> int | None:
        """Samples, `None` for any number."""
        return self.rows.shape[0] // self.step if self.step else None

    @property
    def left_over(self) -> int:
        """Rows at the end that are too few for another sample."""
        return self.rows.shape[0] % self.step if self.step else 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        shape = self.rows.shape
        if not self.step:
            return (1, *shape) if len(shape) < self.rank else shape
        return shape[1:] if len(shape) > self.rank else (self.step, *shape[1:])

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
    arrays: Mapping[str, RowSource], specs: Sequence[InputSpec], where: str, *, one_run: bool
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
        require_fit(columns[spec.name].shape, spec, where)
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


def from_arrays(arrays: Mapping[str, RowSource], specs: tuple[InputSpec, ...], source: str) -> Samples:
    """Samples along the first axes of arrays, equally many in each."""
    columns, count = _columns(arrays, specs, source, one_run=False)
    division = _division([columns])
    return ready(specs, source, count, lambda indices: _read(columns, indices), division)


def _division(records: Iterable[Mapping[str, _Column]]) -> Division:
    """How samples were cut out of arrays."""
    complete, left_over = False, 0
    for columns in records:
        # Who counts samples on an axis of its own gives the first axis of each another meaning.
        own = (c for c in columns.values() if c.step and len(c.rows.shape) > c.rank)
        complete |= any(c.shape[:1] not in ((), (1,)) for c in own)
        left_over += max((c.left_over for c in columns.values()), default=0)
    return Division(complete, left_over)


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

    found = [columns(record) for record in records]
    counts = [count for _, count in found]
    ends = np.cumsum(counts)

    def read(indices: Sequence[int]) -> Iterator[Feeds]:
        which = np.searchsorted(ends, np.asarray(indices), side="right")
        for k, group in itertools.groupby(
            zip(which.tolist(), indices, strict=True), key=lambda pair: pair[0]
        ):
            start = int(ends[k]) - counts[k]
            yield from _read(columns(records[k])[0], [index - start for _, index in group])

    return ready(specs, source, sum(counts), read, _division(columns for columns, _ in found))
