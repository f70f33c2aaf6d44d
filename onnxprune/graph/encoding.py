"""How large models are as protobuf, and models apart from their weights; never by writing all of it.

Protobuf in Python finds out how large a message is by writing it. For a model of some GB that takes as much
memory again, and beyond 2 GB it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from .tensors import KNOWN_TYPES, nbytes

_HEAVY = {ModelProto: ("graph",), GraphProto: ("initializer", "node"), NodeProto: ("attribute",)}
"""Fields that may hold weights, by message."""


def encoded_size(message: Any) -> int:
    """Bytes of a model, or of a part of one, as protobuf."""
    if isinstance(message, TensorProto):
        return _tensor_size(message)
    if isinstance(message, AttributeProto):
        heavy: tuple[str, ...] = ("t", "g", "tensors", "graphs") if _is_heavy(message) else ()
    elif isinstance(message, NodeProto) and not any(map(_is_heavy, message.attribute)):
        heavy = ()
    else:
        heavy = _HEAVY.get(type(message), ())
    if not heavy:
        return int(message.ByteSize())
    total, light = 0, type(message)()
    for field, value in message.ListFields():
        if field.name in heavy:
            tag = _varint(field.number << 3)
            for inner in value if _is_many(value) else [value]:
                size = encoded_size(inner)
                total += tag + _varint(size) + size
        else:
            _copy(light, field.name, value)
    return total + int(light.ByteSize())


def without(model: ModelProto, leave: Callable[[TensorProto], bool]) -> tuple[ModelProto, list[TensorProto]]:
    """A copy of a model in which some initializers of its main graph have no values.

    Args:
        model: the model.
        leave: which ones.

    Returns:
        The copy, and the initializers of `model` that are left out, in the order in which they are listed.
    """
    copy = ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy(copy, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy(copy.graph, field.name, value)
    left = []
    for tensor in model.graph.initializer:
        if leave(tensor):
            left.append(tensor)
            copy.graph.initializer.append(header(tensor))
        else:
            copy.graph.initializer.append(tensor)
    return copy, left


def encoded(model: ModelProto, values: Mapping[str, memoryview]) -> Iterator[bytes | memoryview]:
    """A model as protobuf, piece by piece, with values for some initializers of its main graph.

    Args:
        model: the model.
        values: of initializers that hold none themselves, by name.
    """
    top, graph = ModelProto(), GraphProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy(top, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy(graph, field.name, value)
    shell = graph.SerializeToString(deterministic=True)
    tensors = []
    for tensor in model.graph.initializer:
        raw = values.get(tensor.name)
        shown = tensor if raw is None else header(tensor)
        start = shown.SerializeToString(deterministic=True)
        start += b"" if raw is None else _prefix(TensorProto.RAW_DATA_FIELD_NUMBER, raw.nbytes)
        size = len(start) + (0 if raw is None else raw.nbytes)
        tensors.append((_prefix(GraphProto.INITIALIZER_FIELD_NUMBER, size), start, raw))
    total = len(shell) + sum(len(a) + len(b) + (0 if raw is None else raw.nbytes) for a, b, raw in tensors)
    yield top.SerializeToString(deterministic=True)
    yield _prefix(ModelProto.GRAPH_FIELD_NUMBER, total)
    yield shell
    for tag, start, raw in tensors:
        yield tag + start
        if raw is not None:
            yield raw


def header(tensor: TensorProto) -> TensorProto:
    """A tensor without its values, nor where they are."""
    made = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    if tensor.HasField("doc_string"):
        made.doc_string = tensor.doc_string
    made.metadata_props.extend(tensor.metadata_props)
    return made


def _tensor_size(tensor: TensorProto) -> int:
    if not tensor.HasField("raw_data") or tensor.data_type not in KNOWN_TYPES:
        return int(tensor.ByteSize())
    size = nbytes(tensor)
    return int(header(tensor).ByteSize()) + 1 + _varint(size) + size


def _is_heavy(attribute: AttributeProto) -> bool:
    """Whether an attribute may hold weights."""
    return attribute.HasField("t") or attribute.HasField("g") or bool(attribute.tensors or attribute.graphs)


def _copy(message: Any, name: str, value: Any) -> None:
    if _is_many(value):
        getattr(message, name).extend(value)
    elif hasattr(value, "ListFields"):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


def _is_many(value: Any) -> bool:
    return hasattr(value, "extend")


def _varint(number: int) -> int:
    """Bytes that a number takes."""
    return max(1, -(-number.bit_length() // 7))


def _prefix(field: int, size: int) -> bytes:
    """What stands before a message or bytes of that size in a field."""
    written = bytearray()
    for number in (field << 3 | 2, size):
        left = number
        while left >= 0x80:
            written.append(left & 0x7F | 0x80)
            left >>= 7
        written.append(left)
    return bytes(written)
