"""A model that protobuf can't hold, for a runtime that takes weights as arrays."""

from __future__ import annotations

from onnx import TensorProto

from ..errors import InputError
from .core import PROTOBUF_LIMIT, Array, Graph
from .encoding import encoded_size, without
from .external import is_external
from .tensors import bits, nbytes

LARGE = 1024
"""Bytes from which on a weight is passed as an array."""


def apart(graph: Graph) -> tuple[bytes, dict[str, Array]]:
    """A model without its large weights, and these by name; nothing is copied that is mapped from a file.

    In the place of a weight is a reference to a file that isn't there.

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
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "-"), ("offset", "0"), ("length", str(nbytes(tensor)))):
                tensor.external_data.add(key=key, value=value)
    if encoded_size(model) > PROTOBUF_LIMIT:
        raise InputError("the model without its weights is larger than 2 GB", where=graph.where)
    return model.SerializeToString(deterministic=True), {name: graph.array(name) for name in names}


def _is_large(tensor: TensorProto) -> bool:
    if tensor.data_type == TensorProto.STRING or bits(tensor.data_type) < 8:  # NumPy packs no values
        return False
    return is_external(tensor) or nbytes(tensor) >= LARGE
