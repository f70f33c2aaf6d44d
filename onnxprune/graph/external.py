"""External data: weights in files beside a model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, numpy_helper

from ..errors import InputError
from .encoding import header
from .reading import reason_of
from .tensors import KNOWN_TYPES, nbytes

LFS = b"version https://git-lfs"
"""How the files begin that git has in the place of those in git-lfs."""

_LARGEST = 2**62


@dataclass(frozen=True)
class DataPlace:
    """Where the values of a tensor are.

    Attributes:
        location: the file's name as the model has it.
        file: the file.
        offset: of the first byte.
        length: in bytes.
    """

    location: str
    file: Path
    offset: int
    length: int

    @property
    def end(self) -> int:
        """The byte behind the last."""
        return self.offset + self.length


class DataPlaces:
    """Finds the external data of a model.

    A file may be where a link leads, as in the cache of Hugging Face, where a model and its data are links to
    a folder of contents. So it must be in the folder of the model, or in that of the model's real file.

    Args:
        model: the model's file.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._where = str(model)
        self._sizes: dict[str, int] = {}
        self._folder = model.parent

    def of(self, tensor: TensorProto) -> DataPlace:
        """Where a tensor's values are; the file is there and long enough.

        Raises:
            InputError: the tensor doesn't say, or the file is missing, too short, or somewhere else.
        """
        place = self._said(tensor)
        if place.location not in self._sizes:
            self._sizes[place.location] = self._size(place, tensor)
        if place.end > (size := self._sizes[place.location]):
            reason = f"is truncated: tensor '{tensor.name}' ends at byte {place.end} of {size}"
            hint = None
            if size < 1024 and place.file.read_bytes().startswith(LFS):
                reason, hint = "is a git-lfs pointer, not the file", "run 'git lfs pull'"
            raise InputError(f"external data file '{place.location}' {reason}", where=self._where, hint=hint)
        return place

    def read(self, tensor: TensorProto) -> NDArray[np.uint8]:
        """The bytes of a tensor's values, mapped into memory.

        Raises:
            InputError: as `of`, or they can't be read.
        """
        place = self.of(tensor)
        if not place.length:
            return np.zeros(0, np.uint8)
        try:
            return np.memmap(place.file, np.uint8, "r", place.offset, (place.length,))
        except (OSError, ValueError) as error:
            reason = f"external data of tensor '{tensor.name}' can't be read ({reason_of(error)})"
            raise InputError(reason, where=self._where) from None

    def array(self, tensor: TensorProto) -> NDArray[np.generic]:
        """The value of a tensor; read only, in memory as far as it is looked at.

        Raises:
            InputError: as `read`.
        """
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        raw = self.read(tensor)
        if sys.byteorder == "little" and raw.size == dtype.itemsize * int(
            np.prod(tensor.dims, dtype=np.int64)
        ):
            return raw.view(dtype).reshape(tuple(tensor.dims))
        return numpy_helper.to_array(
            self.inside(tensor)
        )  # several values to a byte, or bytes in another order

    def inside(self, tensor: TensorProto) -> TensorProto:
        """The same tensor with its values in it.

        Raises:
            InputError: as `read`.
        """
        made = header(tensor)
        made.raw_data = self.read(tensor).tobytes()
        return made

    def _said(self, tensor: TensorProto) -> DataPlace:
        """What a tensor says of its place, whether there is anything or not."""
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        known = (
            nbytes(tensor) if tensor.data_type in KNOWN_TYPES and all(d >= 0 for d in tensor.dims) else None
        )
        try:
            offset = int(entries.get("offset") or 0)
            length = int(entries.get("length") or known or 0)
            valid = 0 <= offset < _LARGEST and 0 <= length < _LARGEST
        except ValueError:
            valid = False
        if not valid or not location or "\0" in location:
            raise InputError(f"external data of tensor '{tensor.name}' has no place", where=self._where)
        if known is not None and length != known:
            reason = f"external data of tensor '{tensor.name}' has {length} bytes, and its shape {known}"
            raise InputError(reason, where=self._where)
        return DataPlace(location, self._found(location), offset, length)

    def _found(self, location: str) -> Path:
        """The file of that name beside the model, or else beside the file that the model's name leads to."""
        beside = self._folder / location
        if self._model.is_symlink() and not os.path.isfile(beside):  # noqa: PTH113  (a name may be too long)
            return self._model.resolve().parent / location
        return beside

    def _size(self, place: DataPlace, tensor: TensorProto) -> int:
        """Bytes of the file of a place that may be read."""
        named = f"external data file '{place.location}' of tensor '{tensor.name}'"
        try:
            homes = {self._folder.resolve(), self._model.resolve().parent}
            target = place.file.resolve()
            if not any(target.is_relative_to(home) for home in homes):
                reason = f"external data '{place.location}' of tensor '{tensor.name}' lies outside"
                raise InputError(f"{reason} the model's folder", where=self._where)
            if not target.is_file():
                raise InputError(f"{named} is missing", where=self._where, hint="put it beside the model")
            return target.stat().st_size
        except (OSError, RuntimeError, ValueError) as error:  # a name too long; links in a circle
            raise InputError(f"{named} can't be read ({reason_of(error)})", where=self._where) from None


def is_external(tensor: TensorProto) -> bool:
    """Whether a tensor's values are in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """All tensors of a model that may hold weights: initializers, and those in attributes; also in bodies."""
    yield from _tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _held(node.attribute)


def external_files(path: str | os.PathLike[str], model: ModelProto) -> tuple[str, ...]:
    """Names of the files that hold weights of a model, whether they exist or not.

    Raises:
        InputError: a tensor doesn't say where its values are.
    """
    places = DataPlaces(Path(path))
    return tuple(sorted({places._said(t).location for t in tensors(model) if is_external(t)}))


def external_paths(path: Path, model: ModelProto) -> tuple[Path, ...]:
    """The files that hold weights of a model, whether they exist or not.

    Raises:
        InputError: a tensor doesn't say where its values are.
    """
    places = DataPlaces(path)
    return tuple(sorted({places._said(t).file for t in tensors(model) if is_external(t)}))


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _held(node.attribute)


def _held(attributes: Iterable[AttributeProto]) -> Iterator[TensorProto]:
    for a in attributes:
        if a.type == AttributeProto.TENSOR:
            yield a.t
        yield from a.tensors
        for body in [a.g] if a.type == AttributeProto.GRAPH else a.graphs:
            yield from _tensors(body)
