"""Samples of a model's inputs, one by one or in batches, checked against the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..graph import Array, InputSpec, rows_of_a_sample

Feeds = dict[str, Array]
Read = Callable[[Sequence[int]], Iterator[Feeds]]
"""From ascending indices to these samples."""


@dataclass(frozen=True)
class Division:
    """How samples were cut out of what was given.

    Attributes:
        complete: each is a complete input, whose first axis may be time: they aren't joined.
        left_over: rows at an end that were too few for another sample.
    """

    complete: bool = False
    left_over: int = 0


@dataclass(frozen=True)
class Samples:
    """Samples of a model's inputs.

    A sample is the least that the model can run on: one row of every input, or as many as it is fixed to; or
    a complete input, where arrays have one more axis than the model's inputs.

    Attributes:
        specs: the inputs.
        source: where the samples came from, in words.
        indices: int64 (count,), which of the source's samples these are, ascending.
        read: reads samples of the source.
        division: how the source was divided into samples.
    """

    specs: tuple[InputSpec, ...]
    source: str
    indices: NDArray[np.int64]
    read: Read
    division: Division = Division()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.indices)

    @property
    def rows(self) -> int:
        """How many there are to people: of a model whose batch is fixed, each is several."""
        return self.count * (1 if self.division.complete else rows_of_a_sample(self.specs) or 1)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on them for the user."""
        left = self.division.left_over
        if not left:
            return ()
        rows = "1 sample is" if left == 1 else f"{left} samples are"
        return (f"the last {rows} left out: the model takes {rows_of_a_sample(self.specs)} at a time",)

    @property
    def joinable(self) -> bool:
        """Whether the model takes any number of samples at once."""
        return not self.division.complete and not any(
            s.shape and isinstance(s.shape[0], int) for s in self.specs
        )

    def __iter__(self) -> Iterator[Feeds]:
        """One sample at a time, as often as wanted.

        Raises:
            InputError: a sample doesn't fit the model, or can't be read.
        """
        return (checked(feeds, self.specs, self.source) for feeds in self.read(self.indices.tolist()))

    def batches(self, size: int = 32) -> Batches:
        """Samples of equal shapes together, at most `size`; one by one if the model's batch is fixed."""
        return Batches(self, size)

    def first(self, count: int) -> Samples:
        """At most so many, from the start."""
        return replace(self, indices=self.indices[:count])

    def some(self, count: int, seed: int = 0) -> Samples:
        """At most so many, drawn at random: what is sorted by class has only one class at its start."""
        if count >= self.count:
            return self
        drawn = np.random.default_rng(seed).choice(self.indices, count, replace=False)
        return replace(self, indices=np.sort(drawn))

    def split(self, fraction: float, seed: int = 0) -> tuple[Samples, Samples]:
        """Two disjoint parts, drawn at random: about `fraction` of the samples, and the rest; none is empty.

        Raises:
            InputError: there is only one sample.
        """
        if self.count < 2:
            raise InputError("one sample can't be split into two parts", where=self.source)
        size = min(max(round(fraction * self.count), 1), self.count - 1)
        mixed = np.random.default_rng(seed).permutation(self.indices)
        return replace(self, indices=np.sort(mixed[:size])), replace(self, indices=np.sort(mixed[size:]))


@dataclass(frozen=True)
class Batches:
    """Samples in batches: read anew each time they are gone through, never all in memory.

    Attributes:
        samples: what they are made of.
        size: samples that run together at the most.
    """

    samples: Samples
    size: int

    def __iter__(self) -> Iterator[Feeds]:
        """One batch at a time, as often as wanted.

        Raises:
            InputError: a sample doesn't fit the model, or can't be read.
        """
        if not self.samples.joinable:
            yield from self.samples
            return
        pending: list[Feeds] = []
        for feeds in self.samples:
            if pending and (len(pending) == self.size or _alike(feeds) != _alike(pending[0])):
                yield _joined(pending)
                pending = []
            pending.append(feeds)
        if pending:
            yield _joined(pending)


def ready(
    specs: tuple[InputSpec, ...], source: str, count: int, read: Read, division: Division | None = None
) -> Samples:
    """Samples whose first one fits: a wrong file shall be refused before anything slow begins.

    Raises:
        InputError: there are none, or the first doesn't fit.
    """
    samples = Samples(specs, source, np.arange(count), read, division or Division())
    for _ in samples.first(1):
        pass
    if count == 0:
        rows = rows_of_a_sample(specs) or 1
        hint = f"the model takes {rows} at a time" if rows > 1 else None
        raise InputError("holds no samples", where=source, hint=hint)
    return samples


def _alike(feeds: Feeds) -> list[object]:
    """What samples must have in common to run together: shapes, and inputs that have no axis to join on."""
    return [a.shape[1:] if a.ndim else a.item() for a in feeds.values()]


def _joined(feeds: Sequence[Feeds]) -> Feeds:
    if len(feeds) == 1:
        return feeds[0]
    return {n: np.concatenate([f[n] for f in feeds]) if a.ndim else a for n, a in feeds[0].items()}


def batch_size(feeds: Mapping[str, Array]) -> int:
    """How many samples a batch has: the common length of first axes; 1 where they differ."""
    lengths = {len(a) for a in feeds.values() if a.ndim}
    return lengths.pop() if len(lengths) == 1 else 1


# ---------------------------------------------------------------- checks


def only(specs: Sequence[InputSpec], where: str) -> str:
    """The name of the only input.

    Raises:
        InputError: there are several, so an array without a name could be for any.
    """
    if len(specs) != 1:
        names = ", ".join(s.name for s in specs)
        reason = "the array has no input's name, and the model has several inputs"
        raise InputError(reason, where=where, hint=f"name arrays: {names}")
    return specs[0].name


def checked(feeds: Mapping[str, Array], specs: Sequence[InputSpec], source: str) -> Feeds:
    """One sample in the model's dtypes.

    Raises:
        InputError: a name, dtype, shape or value doesn't fit.
    """
    known(feeds, specs, source)
    result = {}
    for spec in specs:
        array = np.asarray(feeds[spec.name])
        require_fit(array.shape, spec, source)
        result[spec.name] = _cast(array, spec, source)
    return result


def require_fit(shape: tuple[int, ...], spec: InputSpec, source: str) -> None:
    """Refuse samples of a shape that an input doesn't take.

    Raises:
        InputError: they have it.
    """
    if not _fits(shape, spec.shape):
        wanted = ", ".join("?" if d is None else str(d) for d in spec.shape)
        reason = f"input '{spec.name}' needs shape ({wanted}), the samples have {_spelled(shape)}"
        raise InputError(reason, where=source)


def known(feeds: Mapping[str, object], specs: Sequence[InputSpec], source: str) -> None:
    """Refuse arrays that are for no input, and inputs without an array.

    Raises:
        InputError: there are such.
    """
    names = [s.name for s in specs]
    for name in feeds:
        if name not in names:
            hint = f"it has: {', '.join(names)}"
            raise InputError(f"the model has no input '{name}'", where=source, hint=hint)
    for name in names:
        if name not in feeds:
            raise InputError(f"there is no array for input '{name}'", where=source)


def _fits(have: tuple[int, ...], need: Sequence[int | str | None]) -> bool:
    return len(have) == len(need) and all(
        not isinstance(n, int) or h == n for h, n in zip(have, need, strict=True)
    )


def _spelled(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


_KINDS = {"f": "float", "i": "integer", "u": "integer", "b": "integer"}


def _kind(dtype: np.dtype[Any]) -> str | None:
    """Whether it holds floats or integers; types of ml_dtypes have NumPy's kind V."""
    foreign = getattr(ml_dtypes, dtype.name, None)
    if foreign is not None and np.dtype(foreign) == dtype:
        return "integer" if "int" in dtype.name else "float"
    return _KINDS.get(dtype.kind)


def _strings(array: Array, spec: InputSpec, source: str) -> Array:
    """The array as Python strings.

    Raises:
        InputError: it holds something else.
    """
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError:
            raise InputError(f"input '{spec.name}' needs strings, not bytes", where=source) from None
    if array.dtype.kind == "U":
        array = array.astype(object)
    if array.dtype != object or not all(isinstance(text, str) for text in array.flat):
        reason = f"input '{spec.name}' needs strings, the array has {array.dtype}"
        raise InputError(reason, where=source)
    return array


def _cast(array: Array, spec: InputSpec, source: str) -> Array:
    """The array in the model's dtype, where nothing but precision is lost.

    Raises:
        InputError: more would be.
    """
    if spec.dtype == object:
        return _strings(array, spec, source)
    if array.dtype == spec.dtype:
        return array
    raw = array.dtype.kind == "V" and array.dtype.names is None and _kind(array.dtype) is None
    if raw and _kind(spec.dtype) and array.dtype.itemsize == spec.dtype.itemsize:
        return array.view(spec.dtype)  # npy files don't know the types of ml_dtypes
    kind = _kind(array.dtype)
    if kind is None or kind != _kind(spec.dtype):
        reason = f"input '{spec.name}' needs {spec.dtype}, the array has {array.dtype}"
        raise InputError(reason, where=source)
    with np.errstate(over="ignore"):
        cast = array.astype(spec.dtype)
    if kind == "integer" and not np.array_equal(cast, array):
        raise InputError(f"input '{spec.name}' needs {spec.dtype}, a value is too large for it", where=source)
    return cast
