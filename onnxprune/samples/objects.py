"""Samples from Python: arrays, iterables, and ONNX Runtime's readers."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from ..errors import InputError
from ..graph import Array, InputSpec
from .arrays import Held, from_arrays, of_one_run
from .core import Feeds, Samples, checked, only, ready

SPOOL_LIMIT = 64 << 20
"""Bytes of an iterable that are kept in memory; what is more goes to a temporary file."""


@runtime_checkable
class DataReader(Protocol):
    """What ONNX Runtime calls a CalibrationDataReader."""

    def get_next(self) -> Mapping[str, Array] | None:
        """The next sample, `None` after the last."""


Objects = Array | Mapping[str, Array] | DataReader | Iterable[Mapping[str, Array]]


def from_objects(source: Objects, specs: tuple[InputSpec, ...]) -> Samples:
    """Samples from an array for the only input, arrays by input name, or any number of such mappings.

    An iterable may be a generator: it is gone through once and kept.
    """
    where = type(source).__name__
    if isinstance(source, np.ndarray):
        return from_arrays({only(specs, where): Held(source)}, specs, where)
    if isinstance(source, Mapping):
        return from_arrays({name: Held(np.asarray(a)) for name, a in source.items()}, specs, where)
    items = iter(source.get_next, None) if isinstance(source, DataReader) else iter(source)
    spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_LIMIT)  # noqa: SIM115  (lives as long as the samples)
    places: list[list[tuple[int, tuple[int, ...]]]] = []
    texts: dict[tuple[int, str], Array] = {}  # strings have no bytes of one size
    for item in items:
        if not isinstance(item, Mapping):
            raise InputError(f"gives {type(item).__name__}, not dicts of arrays by input name", where=where)
        for sample in of_one_run(item, specs, where):
            fitting = checked(sample, specs, where)
            places.append([])
            for spec in specs:
                places[-1].append((spool.tell(), fitting[spec.name].shape))
                if spec.dtype == object:
                    texts[len(places) - 1, spec.name] = fitting[spec.name]
                else:
                    spool.write(fitting[spec.name].tobytes())

    def read(indices: Sequence[int]) -> Iterator[Feeds]:
        for index in indices:
            feeds = {}
            for spec, (start, shape) in zip(specs, places[index], strict=True):
                if spec.dtype == object:
                    feeds[spec.name] = texts[index, spec.name]
                    continue
                spool.seek(start)
                data = spool.read(math.prod(shape) * spec.dtype.itemsize)
                feeds[spec.name] = np.frombuffer(data, spec.dtype).reshape(shape)
            yield feeds

    return ready(specs, where, len(places), read)
