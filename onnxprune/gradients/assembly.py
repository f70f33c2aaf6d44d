"""Graphs out of what was emitted."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..graph import Array, Graph, make_node
from ..graph.editing import tensor_of
from .scan import Body
from .tape import ELEMENT_TYPES, DType, Emitted, Tape, Tensor

Spec = tuple[DType, Sequence[int | str | None]]
"""Of an input: dtype, and for each axis a length, the name of a symbolic one, or nothing."""


def extended(
    graph: Graph,
    nodes: Sequence[Emitted],
    constants: Mapping[str, Array],
    inputs: Mapping[str, Spec],
    outputs: Sequence[str],
    freed: Collection[str] = (),
) -> Graph:
    """The graph with more nodes; what its outputs don't need is left out.

    Args:
        graph: the graph.
        nodes: in the order they run.
        constants: what they read beside the graph's own tensors.
        inputs: new inputs.
        outputs: the only outputs from now on; their types are left to the runtime.
        freed: constants that are inputs from now on, and in `inputs`.
    """
    model = copy.deepcopy(graph.model)
    proto = model.graph
    _free(proto, freed)
    proto.node.extend(_proto(n, type(proto)) for n in nodes)
    proto.initializer.extend(tensor_of(array, name) for name, array in constants.items())
    for name, (dtype, shape) in inputs.items():
        _declare(proto.input.add(), name, ELEMENT_TYPES[dtype.name], shape)
    del proto.output[:]
    for name in outputs:
        proto.output.add().name = name
    _drop_unneeded(proto, Graph(model, graph.path, graph.held))
    return Graph(model, graph.path, graph.held)


def joined(graph: Graph, other: Graph, prefix: str) -> tuple[Graph, dict[str, str]]:
    """Two graphs as one: the inputs of the second that are tensors of the first are those tensors.

    Args:
        graph: the first; its outputs stay the only ones.
        other: the second. Its other inputs become inputs, under their own names.
        prefix: what the names of its inner tensors begin with from now on.

    Returns:
        The graph, and the new names of the second's tensors.
    """
    model = copy.deepcopy(graph.model)
    proto = model.graph
    domains = {o.domain for o in model.opset_import}
    model.opset_import.extend(o for o in other.model.opset_import if o.domain not in domains)
    known = {*graph.inputs, *graph.constants, *graph.producer}
    names = {name: name for name in other.inputs}
    for name in (*other.constants, *other.producer):
        names[name] = f"{prefix}{name}"
    for value in other.model.graph.input:
        if value.name in other.inputs and value.name not in known:
            proto.input.add().CopyFrom(value)
    for tensor in other.model.graph.initializer:
        proto.initializer.add().CopyFrom(tensor)
        proto.initializer[-1].name = names[tensor.name]
    for node in other.model.graph.node:
        made = proto.node.add()
        made.CopyFrom(node)
        made.name = f"{prefix}{node.name}" if node.name else ""
        for field in (made.input, made.output):
            for k, name in enumerate(field):
                field[k] = names.get(name, name)
    return Graph(model, graph.path, graph.held), names


def blank(graph: Graph, name: str) -> Graph:
    """A graph without nodes, of the same operator sets."""
    model = type(graph.model)(ir_version=graph.model.ir_version, opset_import=graph.model.opset_import)
    model.graph.name = name
    return Graph(model, graph.path, graph.held)


def written(tape: Tape, result: Tensor, name: str) -> list[Any]:
    """The nodes of a tape, with another name for one of their results."""
    names = {result.name: name}
    return [
        make_node(
            n.op,
            [names.get(i, i) for i in n.inputs],
            [names.get(o, o) for o in n.outputs],
            names.get(n.outputs[0], n.outputs[0]),
            **n.attrs,
        )
        for n in tape.nodes
    ]


def _free(proto: Any, names: Collection[str]) -> None:
    """Take constants out."""
    for values in (proto.initializer, proto.input):
        for index in reversed(range(len(values))):
            if values[index].name in names:
                del values[index]
    for index in reversed(range(len(proto.node))):
        if proto.node[index].op_type == "Constant" and proto.node[index].output[0] in names:
            del proto.node[index]


def _proto(node: Emitted, graph_type: Any) -> Any:
    attrs = {
        key: _body(value, graph_type) if isinstance(value, Body) else value
        for key, value in node.attrs.items()
    }
    return make_node(node.op, node.inputs, node.outputs, node.outputs[0], **attrs)


def _body(body: Body, graph_type: Any) -> Any:
    proto = graph_type(name="body")
    for name, element in body.inputs:
        proto.input.add(name=name).type.tensor_type.elem_type = element
    for name in body.outputs:
        proto.output.add().name = name
    proto.node.extend(_proto(n, graph_type) for n in body.nodes)
    proto.initializer.extend(tensor_of(array, name) for name, array in body.constants)
    return proto


def _declare(value: Any, name: str, element: int, shape: Sequence[int | str | None]) -> None:
    value.name = name
    tensor = value.type.tensor_type
    tensor.elem_type = element
    tensor.shape.SetInParent()
    for length in shape:
        dim = tensor.shape.dim.add()
        if isinstance(length, int):
            dim.dim_value = length
        elif length is not None:
            dim.dim_param = length


def _drop_unneeded(proto: Any, graph: Graph) -> None:
    """Nodes, constants and inputs that no output needs."""
    needed: set[int] = set()
    read = set(graph.outputs)
    wanted = list(graph.outputs)
    while wanted:
        node = graph.producer.get(wanted.pop())
        if node is not None and node.index not in needed:
            needed.add(node.index)
            wanted += [*node.inputs, *node.captured]
            read.update((*node.inputs, *node.captured))
    for index in reversed(range(len(proto.node))):
        if index not in needed:
            del proto.node[index]
    for values in (proto.initializer, proto.input):
        for index in reversed(range(len(values))):
            if values[index].name not in read:
                del values[index]
