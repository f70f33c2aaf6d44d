"""One pass through a graph: shapes, types and values of all tensors, for one choice of symbolic sizes."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, ValueInfoProto, numpy_helper

from .core import Array, Graph, Node, Shape
from .editing import make_node
from .flatten import choice
from .inputs import rank_of
from .shapes import BASES, SHAPES
from .values import VALUE_LIMIT, evaluate, is_value

TINY = 16
"""Constants of up to this many elements may say a shape, whatever their dtype (the scales of a Resize)."""


class Propagation:
    """What is known of all tensors.

    Args:
        graph: the graph.
        dims: a size for each symbolic dimension of its inputs.
        only: indices of the nodes to look at; all by default.

    Attributes:
        shapes: tensor -> shape, or `None` where inference does not reach.
        values: tensor -> value, for shape arithmetic and lone constants.
        types: tensor -> type, where known.
    """

    def __init__(self, graph: Graph, dims: Mapping[str, int], only: Container[int] | None = None) -> None:
        self.shapes: dict[str, Shape | None] = {}
        self.values: dict[str, Array] = {}
        self.types: dict[str, TypeProto] = {}
        self._graph = graph
        self._dims = dims
        self._sizes: dict[str, Array] = {}
        """Values that may say a size, though they aren't shape arithmetic."""
        proto = graph.model.graph
        declared = sorted(
            [*proto.value_info, *proto.output], key=lambda v: v.type.tensor_type.HasField("shape")
        )
        self._declared = {v.name: v for v in declared}
        self._learned: dict[str, int | None] = dict(dims)
        """Sizes of symbols, those that only declared shapes name as well; `None` where they contradict."""
        self._constants()
        self._inputs()
        for node in graph.nodes:
            if node.op != "Constant" and (only is None or node.index in only):
                self._node(node)

    @property
    def unknown(self) -> int:
        """How many shapes are not known."""
        return sum(shape is None for shape in self.shapes.values())

    def _constants(self) -> None:
        graph = self._graph
        for name, tensor in graph.constants.items():
            shape = tuple(tensor.dims)
            self.shapes[name] = shape
            self.types[name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            if is_value(tensor.data_type, shape):
                self.values[name] = graph.array(name)
            elif np.prod(shape, dtype=np.int64) <= TINY and tensor.data_type != TensorProto.STRING:
                self._sizes[name] = graph.array(name)

    def _inputs(self) -> None:
        for v in self._graph.model.graph.input:
            tensor = v.type.tensor_type
            if v.name in self._graph.constants or not v.type.HasField("tensor_type"):
                continue
            shape = tuple(
                d.dim_value if d.dim_value > 0 else self._dims.get(d.dim_param or f"{v.name}[{axis}]", 1)
                for axis, d in enumerate(tensor.shape.dim)
            )
            if not tensor.HasField("shape"):
                shape = tuple(
                    self._dims.get(f"{v.name}[{k}]", 1) for k in range(rank_of(self._graph, v.name) or 0)
                )
            self.shapes[v.name] = shape if shape or tensor.HasField("shape") else None
            self.types[v.name] = onnx.helper.make_tensor_type_proto(tensor.elem_type, self.shapes[v.name])

    def _node(self, node: Node) -> None:
        known = evaluate(self._graph, node, self.shapes, self.values)
        if known is not None:
            self._evaluated(node, known)
            return
        known_sizes = ChainMap(self.values, self._sizes)
        made = evaluate(self._graph, node, self.shapes, known_sizes)
        tiny = {o: v for o, v in zip(node.outputs, made or [], strict=False) if o and v.size <= TINY}
        self._sizes.update(tiny)
        inferred = infer_node(self._graph, node, self.types, known_sizes)
        for name in filter(None, node.outputs):
            self._inferred(name, inferred.get(name))

    def _evaluated(self, node: Node, outputs: Sequence[Array]) -> None:
        for name, value in zip(node.outputs, outputs, strict=False):
            if name:
                self.shapes[name] = value.shape
                elem = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
                self.types[name] = onnx.helper.make_tensor_type_proto(elem, value.shape)
                if value.size <= VALUE_LIMIT:
                    self.values[name] = value

    def _inferred(self, name: str, proto: TypeProto | None) -> None:
        """What a node makes, from what inference says of it or, where that is not enough, from the file."""
        declared: ValueInfoProto | None = self._declared.get(name)
        shape = static(proto) if proto is not None else None
        if shape is None and declared is not None:
            shape = static(declared.type, self._learned)
            proto = proto if proto is not None and proto.tensor_type.elem_type else declared.type
            if shape is not None:
                proto = onnx.helper.make_tensor_type_proto(proto.tensor_type.elem_type, shape)
        elif shape is not None and declared is not None:
            self._learn(declared.type, shape)
        self.shapes[name] = shape
        if proto is not None:
            self.types[name] = proto

    def _learn(self, declared: TypeProto, shape: Shape) -> None:
        """Sizes of the symbols of a declared shape, from the shape that it has."""
        dims = declared.tensor_type.shape.dim
        for d, size in zip(dims, shape, strict=True) if len(dims) == len(shape) else ():
            if d.dim_param and d.dim_param not in self._dims:
                self._learned[d.dim_param] = size if self._learned.get(d.dim_param, size) == size else None


def static(proto: TypeProto, symbols: Mapping[str, int | None] = MappingProxyType({})) -> Shape | None:
    """The shape of a tensor whose sizes are all numbers, or `symbols` of a known size."""
    tensor = proto.tensor_type
    if not proto.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    dims = [d.dim_value if d.HasField("dim_value") else symbols.get(d.dim_param) for d in tensor.shape.dim]
    known = tuple(d for d in dims if d is not None and d >= 0)
    return known if len(known) == len(dims) else None


# ---------------------------------------------------------------- one node


def infer_node(
    graph: Graph, node: Node, types: Mapping[str, TypeProto], values: Mapping[str, Array]
) -> dict[str, TypeProto]:
    """Types of the outputs of a node, as far as they are known."""
    pairs = choice(node)
    if pairs is not None:
        chosen = {o: _same(types.get(a), types.get(b)) for o, (a, b) in zip(node.outputs, pairs, strict=True)}
        return {name: t for name, t in chosen.items() if name and t is not None}
    found = _by_schema(graph, node, types, values)
    rule = SHAPES.get(node.op)
    if rule is None or all(o in found and static(found[o]) is not None for o in node.outputs if o):
        return found
    inputs = [static(types[i]) if i in types else None for i in node.inputs]
    try:
        shapes, source = rule.shapes(node.attrs, inputs), types.get(node.inputs[rule.like])
    except (
        KeyError,
        IndexError,
        ValueError,
    ):  # an attribute or input is missing, or shapes don't fit together
        return found
    for name, shape in zip(node.outputs, shapes, strict=False):
        like = found.get(name) or source
        if name and shape is not None and like is not None:
            found[name] = onnx.helper.make_tensor_type_proto(like.tensor_type.elem_type, shape)
    return found


def _same(a: TypeProto | None, b: TypeProto | None) -> TypeProto | None:
    """What two branches of an If give, if they give the same; without a shape where that differs."""
    if a is None or b is None:
        found = a or b
    else:
        found = a if a.tensor_type.elem_type == b.tensor_type.elem_type else None
    if found is None or (a is not None and b is not None and static(a) == static(b)):
        return found
    return onnx.helper.make_tensor_type_proto(found.tensor_type.elem_type, None)


def _by_schema(
    graph: Graph, node: Node, types: Mapping[str, TypeProto], values: Mapping[str, Array]
) -> dict[str, TypeProto]:
    domain, _, kind = BASES.get(node.op, node.op).rpartition(":")
    proto = graph.model.graph.node[node.index]
    try:
        schema = onnx.defs.get_schema(kind, graph.opset(domain), domain)
        if node.op in BASES:
            attrs = {k: v for k, v in node.attrs.items() if k in schema.attributes}
            proto = make_node(kind, node.inputs[: schema.max_input], node.outputs, node.name, **attrs)
        known = {i: numpy_helper.from_array(values[i], i) for i in node.inputs if i in values}
        present = {i: types[i] for i in node.inputs if i in types}
        elem = types[node.inputs[0]].tensor_type.elem_type if node.op in BASES else 0
        if node.op in BASES:
            present = {i: _as_float(t) for i, t in present.items()}
        found = onnx.shape_inference.infer_node_outputs(
            schema,
            proto,
            present,
            known,
            opset_imports=list(graph.model.opset_import),
            ir_version=graph.model.ir_version,
        )
    except Exception:  # onnx raises many kinds; a shape that is not known is a barrier later on
        return {}
    for made in found.values() if elem else ():
        made.tensor_type.elem_type = elem
    return dict(found)


def _as_float(proto: TypeProto) -> TypeProto:
    """The same shape, for operators on quantised values that are otherwise like those on floats."""
    return onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, static(proto))
