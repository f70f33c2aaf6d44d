"""Models apart from their weights, for what protobuf can't hold: values are passed or written as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

from ..errors import InputError
from .encoding import encoded_size, without
from .external import is_external
from .tensors import bits, nbytes

if TYPE_CHECKING:
    from .core import Array, Graph

LARGE = 1024
"""Bytes from which on a value is kept apart."""

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes; no message of protobuf is larger."""


def apart(graph: Graph) -> tuple[bytes, dict[str, Array]]:
    """A model without its large initializers, and these by name; what is mapped or held isn't copied.

    Raises:
        InputError: what is left is still larger than protobuf allows, or weights can't be read.
    """
    model, left = without(graph.model, _is_large)
    read = {*graph.readers, *graph.outputs}  # a runtime drops what isn't, and then doesn't find it
    names = {tensor.name for tensor in left if tensor.name in read}
    unread = {tensor.name for tensor in left} - names
    for k in reversed(range(len(model.graph.initializer))):
        tensor = model.graph.initializer[k]
        if tensor.name in unread:
            del model.graph.initializer[k]
        elif tensor.name in names:
            refer(tensor)
    if encoded_size(model) > PROTOBUF_LIMIT:
        raise InputError("the model without its weights is larger than 2 GB", where=graph.where)
    return model.SerializeToString(deterministic=True), {name: graph.array(name) for name in names}


def refer(tensor: TensorProto, location: str = "-", offset: int = 0) -> None:
    """Make a tensor without values one whose values are in a file; `-` stands for one that isn't there."""
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", nbytes(tensor))):
        tensor.external_data.add(key=key, value=str(value))


def is_plain(data_type: int) -> bool:
    """Whether arrays of NumPy have the elements as files do: not strings, nor several to a byte."""
    return data_type != TensorProto.STRING and bits(data_type) >= 8


def _is_large(tensor: TensorProto) -> bool:
    return is_plain(tensor.data_type) and (is_external(tensor) or nbytes(tensor) >= LARGE)
