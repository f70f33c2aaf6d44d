"""The bodies of If, Loop and Scan as graphs of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import GraphProto, ModelProto, TensorProto, TypeProto, ValueInfoProto

from .core import Graph, Node, Shape, op_of
from .editing import tensor_of
from .facts import Facts, infer
from .nesting import bodies, captures, nested


@dataclass(frozen=True)
class Body:
    """A body of a node.

    Attributes:
        name: of the attribute that it is.
        graph: the body; what it reads from around it are inputs, constants from around it are constants.
        facts: its shapes and values, for one turn.
    """

    name: str
    graph: Graph
    facts: Facts


def bodies_of(graph: Graph, facts: Facts, node: Node) -> Iterator[Body]:
    """The bodies of a node, with what is known around it."""
    if has_bodies(node):
        for name, body in body_graphs(graph, node, facts):
            yield Body(name, body, infer(body))


def body_graphs(graph: Graph, node: Node, facts: Facts | None = None) -> Iterator[tuple[str, Graph]]:
    """The bodies of a node, by the names of their attributes; without `facts` inputs have no types."""
    for name, proto in bodies(graph.model.graph.node[node.index]):
        yield name, _body_graph(graph, facts or _NOTHING, node, proto)


_NOTHING = Facts({}, {}, {}, {}, {})


def has_bodies(node: Node) -> bool:
    """Whether any attribute of a node is a graph."""
    return any(isinstance(value, GraphProto) or _are_graphs(value) for value in node.attrs.values())


def _are_graphs(value: object) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, GraphProto) for item in value)


def operators_within(graph: Graph, node: Node) -> set[str]:
    """The operators of all bodies of a node, and of those in them."""
    inside = [body for _, b in bodies(graph.model.graph.node[node.index]) for body in (b, *nested(b))]
    return {op_of(n) for body in inside for n in body.node}


def iterations(graph: Graph, facts: Facts, node: Node) -> int | None:
    """How often a body runs, at most; `None` where that is not known. Of an If one branch runs once."""
    if node.op == "If":
        return 1
    if node.op == "Scan" and graph.opset() >= 9:
        lengths = {shape[axis] for shape, axis in _scanned(facts, node) if shape is not None}
        return lengths.pop() if len(lengths) == 1 else None
    if node.op == "Loop" and node.inputs[0]:
        known = facts.values.get(node.inputs[0])
        return None if known is None else int(known.item())
    return None


def _scanned(facts: Facts, node: Node) -> list[tuple[Shape | None, int]]:
    """Shapes of what a Scan goes through, and along which axis."""
    count = int(node.attrs.get("num_scan_inputs", 0))
    names = node.inputs[len(node.inputs) - count :]
    axes = node.attrs.get("scan_input_axes") or [0] * count
    shapes = [facts.shapes.get(name) for name in names]
    return [(s, axis % len(s) if s else 0) for s, axis in zip(shapes, axes, strict=False)]


def _body_graph(graph: Graph, facts: Facts, node: Node, body: GraphProto) -> Graph:
    """A body as a graph of its own."""
    model = ModelProto(ir_version=max(graph.model.ir_version, 4), opset_import=graph.model.opset_import)
    proto = model.graph
    proto.CopyFrom(body)
    for v, t in zip(proto.input, _given(graph, facts, node, len(body.input)), strict=True):
        if t is not None:
            v.type.CopyFrom(t)
    outer: dict[str, TensorProto] = {}
    for name in captures(body):
        if name in graph.constants:
            outer[name] = graph.constants[name]
        elif name in facts.values:
            outer[name] = tensor_of(facts.values[name], name)
        else:
            proto.input.append(ValueInfoProto(name=name, type=_type(facts, name)))
    return Graph(model, graph.path, graph.held, outer)


def _given(graph: Graph, facts: Facts, node: Node, count: int) -> list[TypeProto | None]:
    """Types of what a node gives to its body, where they don't change from turn to turn."""
    if node.op == "Loop":
        carried = [_type(facts, name) if name else None for name in node.inputs[2:]]
        return [*[None] * min(2, count), *carried, *[None] * count][:count]
    if node.op == "Scan" and graph.opset() >= 9:
        parts = _scanned(facts, node)
        states = [_type(facts, name) for name in node.inputs[: len(node.inputs) - len(parts)]]
        names = node.inputs[len(states) :]
        steps = [
            _typed(facts, name, None if s is None else (*s[:axis], *s[axis + 1 :]))
            for name, (s, axis) in zip(names, parts, strict=True)
        ]
        return [*states, *steps, *[None] * count][:count]
    return [None] * count


def _type(facts: Facts, name: str) -> TypeProto | None:
    return _typed(facts, name, facts.shapes.get(name))


def _typed(facts: Facts, name: str, shape: Shape | None) -> TypeProto | None:
    dtype = facts.dtypes.get(name)
    if dtype is None:
        return None
    return onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(dtype), shape)
