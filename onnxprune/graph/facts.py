"""Shapes of all tensors, and values of all shape arithmetic."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.reference
from numpy.typing import NDArray
from onnx import TensorProto, TypeProto, numpy_helper

from .core import Array, Graph, Node, Shape
from .editing import make_node
from .inputs import symbolic_dims
from .shapes import BASES, SHAPES
from .values import VALUE_LIMIT, evaluate, is_value

TINY = 16
"""Constants of up to this many elements may say a shape, whatever their dtype (the scales of a Resize)."""


@dataclass(frozen=True)
class Facts:
    """Shapes and known values of all tensors, for one choice of the symbolic dimensions.

    Attributes:
        shapes: tensor -> shape, or `None` where inference does not reach.
        values: tensor -> value, for shape arithmetic and lone constants.
        dynamic: tensor -> mask over its value: which elements depend on symbolic dimensions.
        dims: the choice made for each symbolic dimension.
        dtypes: tensor -> dtype, where known.
    """

    shapes: Mapping[str, Shape | None]
    values: Mapping[str, Array]
    dynamic: Mapping[str, NDArray[np.bool_]]
    dims: Mapping[str, int]
    dtypes: Mapping[str, np.dtype[Any]]

    def is_dynamic(self, name: str) -> bool:
        """Whether any element of a known value depends on symbolic dimensions."""
        return name in self.dynamic and bool(self.dynamic[name].any())


def _guess(rank: int, axis: int, spatial: int, sequence: int, batch: int) -> int:
    if axis == 0:
        return batch
    return spatial if rank >= 4 and axis >= 2 else sequence


def infer(graph: Graph, dims: Mapping[str, int] | None = None) -> Facts:
    """Shapes of all tensors and values of all shape arithmetic.

    Symbolic dimensions are given a concrete size (from `dims`, else a guess by rank and axis), and
    a second one to see which values depend on them.
    """
    symbols = symbolic_dims(graph)
    given = dict(dims or {})

    def choose(spatial: int, sequence: int, batch: int) -> dict[str, int]:
        return {s: given.get(s) or _guess(r, a, spatial, sequence, batch) for s, (r, a) in symbols.items()}

    first = choose(64, 16, 3)
    shapes, values, types = _propagate(graph, first)
    if symbols and sum(s is None for s in shapes.values()) > 0:
        other = choose(224, 16, 3)
        alternative = _propagate(graph, other)
        if sum(s is None for s in alternative[0].values()) < sum(s is None for s in shapes.values()):
            first, (shapes, values, types) = other, alternative
    dynamic: dict[str, NDArray[np.bool_]] = {}
    if symbols:
        second = {s: 5 if a == 0 else first[s] + 32 for s, (_, a) in symbols.items()}
        _, moved, _ = _propagate(graph, second)
        for name, value in values.items():
            other_value = moved.get(name)
            same = other_value is not None and other_value.shape == value.shape
            dynamic[name] = np.asarray(value != other_value) if same else np.ones(value.shape, bool)
    return Facts(shapes, values, dynamic, first, _dtypes(types))


def _dtypes(types: Mapping[str, TypeProto]) -> dict[str, np.dtype[Any]]:
    known = {name: t.tensor_type.elem_type for name, t in types.items() if t.tensor_type.elem_type}
    return {name: onnx.helper.tensor_dtype_to_np_dtype(elem) for name, elem in known.items()}


def _propagate(
    graph: Graph, dims: Mapping[str, int]
) -> tuple[dict[str, Shape | None], dict[str, Array], dict[str, TypeProto]]:
    shapes: dict[str, Shape | None] = {}
    types: dict[str, TypeProto] = {}
    values: dict[str, Array] = {}
    sizes: dict[str, Array] = {}
    known_sizes = ChainMap(values, sizes)
    for name, tensor in graph.constants.items():
        shapes[name] = tuple(tensor.dims)
        types[name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        if is_value(tensor.data_type, shapes[name] or ()):
            values[name] = graph.array(name)
        elif _is_tiny(graph, name) and tensor.data_type != TensorProto.STRING:
            sizes[name] = graph.array(name)
    for v in graph.model.graph.input:
        if v.name not in graph.constants and v.type.HasField("tensor_type"):
            shape = tuple(
                d.dim_value if d.dim_value > 0 else dims.get(d.dim_param or f"{v.name}[{axis}]", 1)
                for axis, d in enumerate(v.type.tensor_type.shape.dim)
            )
            shapes[v.name] = shape if v.type.tensor_type.HasField("shape") else None
            types[v.name] = onnx.helper.make_tensor_type_proto(v.type.tensor_type.elem_type, shapes[v.name])
    declared = {v.name: v for v in [*graph.model.graph.value_info, *graph.model.graph.output]}
    for node in graph.nodes:
        if node.op == "Constant":
            continue
        known = evaluate(graph, node, shapes, values)
        if known is not None:
            for name, value in zip(node.outputs, known, strict=False):
                if name:
                    shapes[name] = value.shape
                    elem = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
                    types[name] = onnx.helper.make_tensor_type_proto(elem, value.shape)
                    if value.size <= VALUE_LIMIT:
                        values[name] = value
            continue
        made = evaluate(graph, node, shapes, known_sizes)
        sizes.update((o, v) for o, v in zip(node.outputs, made or [], strict=False) if o and v.size <= TINY)
        inferred = _infer_node(graph, node, types, known_sizes)
        for name in filter(None, node.outputs):
            proto = inferred.get(name)
            shapes[name] = _static(proto) if proto is not None else None
            if shapes[name] is None and name in declared:
                shapes[name] = _static(declared[name].type)
                proto = proto if proto is not None and proto.HasField("tensor_type") else declared[name].type
            if proto is not None:
                types[name] = proto
    return shapes, values, types


def _static(proto: TypeProto) -> Shape | None:
    tensor = proto.tensor_type
    if not proto.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
    return None if any(d < 0 for d in dims) else tuple(dims)


def _infer_node(
    graph: Graph, node: Node, types: Mapping[str, TypeProto], values: Mapping[str, Array]
) -> dict[str, TypeProto]:
    """Types of the outputs, as far as they are known."""
    found = _by_schema(graph, node, types, values)
    rule = SHAPES.get(node.op)
    if rule is None or all(o in found and _static(found[o]) is not None for o in node.outputs if o):
        return found
    inputs = [_static(types[i]) if i in types else None for i in node.inputs]
    for name, shape in zip(node.outputs, rule.shapes(node.attrs, inputs), strict=False):
        like = found.get(name) or types.get(node.inputs[rule.like])
        if name and shape is not None and like is not None:
            found[name] = onnx.helper.make_tensor_type_proto(like.tensor_type.elem_type, shape)
    return found


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
    return onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, _static(proto))


def _is_tiny(graph: Graph, name: str) -> bool:
    return bool(np.prod(graph.shape_of_constant(name), dtype=np.int64) <= TINY)
