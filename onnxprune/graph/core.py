"""A model with its nodes, constants and links, read only."""

from __future__ import annotations

import copy
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from ..errors import InputError
from .apart import PROTOBUF_LIMIT
from .encoding import encoded_size, header, without
from .external import DataPlaces, is_external
from .nesting import bodies, captures, constant, nested, tensors
from .tensors import nbytes as nbytes_of

Array = NDArray[Any]


Shape = tuple[int, ...]


VALUE_TYPES = frozenset({TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL})


_STANDARD = frozenset({"", "ai.onnx"})

OPTIONAL_INPUTS = 4
"""The IR version from which on initializers need not be inputs as well."""


@dataclass(frozen=True)
class Node:
    """One node, with attributes as Python values (graphs as `GraphProto`)."""

    index: int
    op: str
    """Operator type; those of a domain other than ai.onnx read `domain:Type`."""
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    captured: tuple[str, ...] = ()
    """Outer tensors that the node's subgraphs read."""

    def __str__(self) -> str:
        return f"{self.op} '{self.name or self.outputs[0]}'"


@dataclass
class Edits:
    """What to change in a graph; `Graph.edited` carries it out on a copy."""

    constants: dict[str, Array] = field(default_factory=dict)
    """New value of a constant, under its own name."""
    literals: dict[tuple[int, int], Array] = field(default_factory=dict)
    """(node index, input index) -> a value that only this input shall read."""
    attrs: dict[tuple[int, str], Any] = field(default_factory=dict)
    """(node index, attribute) -> new value; `None` removes it."""
    folded: dict[int, Array] = field(default_factory=dict)
    """Nodes to replace with a constant, under the name of their first output."""
    shapes: dict[str, dict[int, int]] = field(default_factory=dict)
    """tensor -> axis -> new length, for the recorded shapes of intermediate values."""
    before: dict[int, list[NodeProto]] = field(default_factory=dict)
    """Node index -> nodes to insert right before it."""
    replaced: dict[int, list[NodeProto]] = field(default_factory=dict)
    """Node index -> nodes to have in its place."""
    rewire: dict[tuple[int, int], str] = field(default_factory=dict)
    """(node index, input index) -> the tensor to read instead."""
    added: dict[str, Array] = field(default_factory=dict)
    """New initializers."""

    def __bool__(self) -> bool:
        values = (self.constants, self.literals, self.attrs, self.folded, self.added)
        return any((*values, self.before, self.replaced, self.rewire))


class Graph:
    """An ONNX model with its nodes, constants and links, read only.

    Args:
        model: the parsed model; owned by the graph from now on.
        path: where it came from, for messages and for external data.
        held: values of initializers that are neither in `model` nor in a file, by name. Graphs share them:
            what is held is never copied.
        outer: constants that a body reads from the graph around it.

    Attributes:
        model: the model. Values that are external are in a file beside `path`, or held.
    """

    def __init__(
        self,
        model: ModelProto,
        path: Path | None = None,
        held: Mapping[str, Array] | None = None,
        outer: Mapping[str, TensorProto] | None = None,
    ) -> None:
        self.model = model
        self.path = path
        self.held: Mapping[str, Array] = held or {}
        proto = model.graph
        if 0 < model.ir_version < OPTIONAL_INPUTS:
            _list_initializers(proto)
        self.constants: dict[str, TensorProto] = {**(outer or {}), **{t.name: t for t in proto.initializer}}
        self.nodes: tuple[Node, ...] = tuple(_node(i, n) for i, n in enumerate(proto.node))
        for node, n in zip(self.nodes, proto.node, strict=True):
            if node.op == "Constant" and (tensor := constant(n)) is not None:
                self.constants[n.output[0]] = tensor
        self.inputs: tuple[str, ...] = tuple(v.name for v in proto.input if v.name not in self.constants)
        self.outputs: tuple[str, ...] = tuple(v.name for v in proto.output)
        self.producer: dict[str, Node] = {o: n for n in self.nodes for o in n.outputs if o}
        self.readers: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for i, name in enumerate(node.inputs):
                self.readers.setdefault(name, []).append((node, i))
            for name in node.captured:
                self.readers.setdefault(name, []).append((node, -1))

    @property
    def where(self) -> str:
        """The file, for messages."""
        return str(self.path) if self.path else "model"

    def opset(self, domain: str = "") -> int:
        """The version of an operator set, 0 where it is not imported."""
        same = _STANDARD if domain in _STANDARD else {domain}
        return max((o.version for o in self.model.opset_import if o.domain in same), default=0)

    def array(self, name: str) -> Array:
        """The value of a constant, in the dtype it is stored in (ml_dtypes for bfloat16 and friends).

        Raises:
            InputError: what is stored isn't what the shape says, or can't be read.
        """
        tensor = self.constants[name]
        if is_external(tensor):
            return self.held[name] if name in self.held else DataPlaces(Path(self.where)).array(tensor)
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise InputError(f"tensor '{name}' can't be read ({error})", where=self.where) from None

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a constant as files have them.

        Raises:
            InputError: they can't be read.
        """
        tensor = self.constants[name]
        if is_external(tensor):
            return (
                _bytes_of(self.held[name]) if name in self.held else DataPlaces(Path(self.where)).read(tensor)
            )
        if tensor.HasField("raw_data"):
            return np.frombuffer(tensor.raw_data, np.uint8)
        return np.frombuffer(numpy_helper.from_array(self.array(name)).raw_data, np.uint8)

    def stored(self, name: str) -> bytes:
        """A constant with all that belongs to it, as bytes: the same wherever its values are.

        Raises:
            InputError: they can't be read.
        """
        tensor = self.constants[name]
        if nbytes_of(tensor) > PROTOBUF_LIMIT // 2:
            return header(tensor).SerializeToString(deterministic=True) + self.raw(name).tobytes()
        return self._inside(tensor).SerializeToString(deterministic=True)

    def shape_of_constant(self, name: str) -> Shape:
        """The shape of a constant, without reading its value."""
        return tuple(self.constants[name].dims)

    def dtype(self, name: str) -> np.dtype[Any]:
        """The numpy dtype of a constant."""
        return dtype_of(self.constants[name])

    def tensors(self) -> Iterator[TensorProto]:
        """Every constant, those in the bodies of If, Loop and Scan as well."""
        for proto in (self.model.graph, *nested(self.model.graph)):
            yield from tensors(proto)

    def parameters(self) -> int:
        """The number of values in floating-point or quantised constants of more than one element."""
        return sum(count_of(tensor) for tensor in self.tensors() if is_weight(tensor))

    def is_weight(self, name: str) -> bool:
        """Whether a constant is of floating-point or quantised numbers, more than one of them."""
        return is_weight(self.constants[name])

    def count(self, name: str) -> int:
        """The number of values in a constant."""
        return count_of(self.constants[name])

    def operators(self) -> Counter[str]:
        """How often each operator is used, also in the bodies of If, Loop and Scan; Constant nodes apart."""
        protos = (self.model.graph, *nested(self.model.graph))
        return Counter(op for proto in protos for op in map(op_of, proto.node) if op != "Constant")

    def nbytes(self, name: str) -> int:
        """Bytes that a constant takes in memory, without reading it."""
        return nbytes(self.dtype(name), self.shape_of_constant(name))

    def fingerprint(self) -> str:
        """SHA-256 over what a plan depends on: nodes, links, names and shapes of constants, in bodies too."""
        digest = hashlib.sha256()
        for node in self.nodes:
            digest.update(repr((node.op, node.inputs, node.outputs)).encode())
        for name in sorted(self.constants):
            digest.update(repr((name, self.shape_of_constant(name))).encode())
        for body in nested(self.model.graph):
            links = [(op_of(n), tuple(n.input), tuple(n.output)) for n in body.node]
            shapes = sorted((t.name, tuple(t.dims)) for t in tensors(body))
            digest.update(repr((links, shapes, [v.name for v in body.output])).encode())
        return digest.hexdigest()

    def digest(self) -> str:
        """SHA-256 over nodes, links and weights: statistics are of these weights, a plan fits others, too."""
        digest = hashlib.sha256(self.fingerprint().encode())
        for name in sorted(self.constants):
            digest.update(self.stored(name))
        return digest.hexdigest()

    def size(self) -> int:
        """Bytes of the model as one file."""
        return self._bytes

    @cached_property
    def _bytes(self) -> int:
        outside = [t for t in self.model.graph.initializer if is_external(t)]
        return encoded_size(self.model) + sum(nbytes_of(t) for t in outside)

    def serialized(self) -> bytes:
        """The model as bytes.

        Raises:
            InputError: it is larger than protobuf allows.
        """
        if self.size() > PROTOBUF_LIMIT:
            raise InputError("the model is larger than 2 GB", where=self.where)
        return self.whole().SerializeToString(deterministic=True)

    @cached_property
    def is_apart(self) -> bool:
        """Whether weights are somewhere else than in `model`."""
        return any(map(is_external, self.model.graph.initializer))

    def whole(self) -> ModelProto:
        """The model with all its weights in it.

        Raises:
            InputError: they can't be read.
        """
        if not self.is_apart:
            return self.model
        model, outside = without(self.model, is_external)
        inside = {t.name: self._inside(t) for t in outside}
        for tensor in model.graph.initializer:
            if tensor.name in inside:
                tensor.CopyFrom(inside[tensor.name])
        return model

    def _inside(self, tensor: TensorProto) -> TensorProto:
        """A tensor with its values in it."""
        if not is_external(tensor):
            return tensor
        made = header(tensor)
        made.raw_data = self.raw(tensor.name).tobytes()
        return made

    @cached_property
    def flat(self) -> Graph:
        """With both branches of every If computed before it: see `flattened`."""
        from .flatten import flattened

        return flattened(self)

    def edited(self, edits: Edits) -> Graph:
        """A copy with the edits carried out."""
        from .editing import applied

        held = dict(self.held)
        model = applied(self, edits, held if self.is_apart else None)
        return Graph(model, self.path, held)

    def tapped(self, outputs: Sequence[str]) -> Graph:
        """A copy that gives the named tensors, too, as outputs after its own."""
        model = copy.deepcopy(self.model)
        have = set(self.outputs)
        for name in dict.fromkeys(outputs):
            if name not in have:
                model.graph.output.add().name = name
        return Graph(model, self.path, self.held)


def _bytes_of(array: Array) -> NDArray[np.uint8]:
    return np.asarray(array, order="C").reshape(-1).view(np.uint8)


def _list_initializers(proto: GraphProto) -> None:
    """Declare each initializer among the inputs, with the shape that it has."""
    declared = {v.name: v for v in proto.input}
    for t in proto.initializer:
        v = declared[t.name] if t.name in declared else proto.input.add(name=t.name)
        v.type.CopyFrom(onnx.helper.make_tensor_type_proto(t.data_type, list(t.dims)))


def _node(index: int, n: NodeProto) -> Node:
    attrs: dict[str, Any] = {}
    for a in n.attribute:
        value = onnx.helper.get_attribute_value(a)
        attrs[a.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    captured = dict.fromkeys(name for _, body in bodies(n) for name in captures(body))
    return Node(index, op_of(n), n.name, tuple(n.input), tuple(n.output), attrs, tuple(captured))


def op_of(n: NodeProto) -> str:
    """Operator type; those of a domain other than ai.onnx read `domain:Type`."""
    return n.op_type if n.domain in _STANDARD else f"{n.domain}:{n.op_type}"


def count_of(tensor: TensorProto) -> int:
    """The number of values in a constant."""
    return int(np.prod(tensor.dims, dtype=np.int64))


def is_weight(tensor: TensorProto) -> bool:
    """Whether a constant is of floating-point or quantised numbers, more than one of them."""
    return tensor.data_type not in VALUE_TYPES and count_of(tensor) > 1


def dtype_of(tensor: TensorProto) -> np.dtype[Any]:
    """The numpy dtype of a constant."""
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)


def dtype_numbered(number: int) -> np.dtype[Any]:
    """The numpy dtype of a number of ONNX's DataType, as Cast has it."""
    return onnx.helper.tensor_dtype_to_np_dtype(number)


def type_text(value: onnx.ValueInfoProto) -> str:
    """The type of an input or output for people: `float32[batch, 3, 224, 224]`."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return str(value.type.WhichOneof("value") or "unknown").removesuffix("_type")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "unknown"
    if not tensor.HasField("shape"):
        return f"{dtype}[...]"
    dims = [str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim]
    return f"{dtype}[{', '.join(dims)}]"


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether numbers are floating point: bfloat16 is, though NumPy doesn't say so."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def nbytes(dtype: np.dtype[Any], shape: Shape) -> int:
    """Bytes of a tensor; types of fewer than eight bits are packed, as ONNX stores them."""
    packed = re.match(r"u?(?:int|float)([24])(?:_|$)", dtype.name)
    bits = int(packed[1]) if packed else 8 * dtype.itemsize
    return -(-int(np.prod(shape, dtype=np.int64)) * bits // 8)
