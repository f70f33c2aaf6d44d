"""Parts of a graph as models of their own, and graphs with more nodes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from ..errors import InputError
from .core import Array, Graph, Node
from .editing import make_node, tensor_of
from .facts import Facts


def of_constants(graph: Graph, outputs: Sequence[str]) -> Graph:
    """The part of the graph that computes `outputs`, which depend on constants only, as a graph."""
    import onnx_graphsurgeon as gs

    model = ModelProto()
    model.CopyFrom(graph.model)
    part = gs.import_onnx(model)
    tensors = part.tensors()
    part.inputs, part.outputs = [], [tensors[name] for name in outputs]
    return Graph(gs.export_onnx(part.cleanup(), do_type_check=False), graph.path, graph.held)


def cut(graph: Graph, nodes: Sequence[Node], facts: Facts) -> Graph:
    """Some nodes alone, as a model that runs on the shapes of `facts`.

    Tensors that come from other nodes are its inputs, except for shape arithmetic, whose known values
    are built in. What other nodes read is an output.

    Raises:
        InputError: the shape or dtype of an input isn't known.
    """
    made = {name for node in nodes for name in node.outputs if name}
    indices = {node.index for node in nodes}
    inputs: list[onnx.ValueInfoProto] = []
    constants: list[TensorProto] = []
    for name in dict.fromkeys(
        i for node in nodes for i in (*node.inputs, *node.captured) if i and i not in made
    ):
        shape, dtype = facts.shapes.get(name), facts.dtypes.get(name)
        if name in graph.constants:
            constants.append(tensor_of(graph.array(name), name))
        elif name in facts.values:
            constants.append(tensor_of(facts.values[name], name))
        elif shape is None or dtype is None:
            raise InputError(f"the shape of '{name}' isn't known", where=graph.where)
        else:
            elem = onnx.helper.np_dtype_to_tensor_dtype(dtype)
            inputs.append(onnx.helper.make_tensor_value_info(name, elem, shape))
    read = {name for name in made if any(n.index not in indices for n, _ in graph.readers.get(name, ()))}
    outputs = [
        onnx.ValueInfoProto(name=o) for n in nodes for o in n.outputs if o in read or o in graph.outputs
    ]
    proto = onnx.helper.make_graph(
        [graph.model.graph.node[node.index] for node in nodes], "part", inputs, outputs, constants
    )
    model = onnx.helper.make_model(
        proto, opset_imports=list(graph.model.opset_import), ir_version=graph.model.ir_version
    )
    return Graph(model, graph.path, graph.held)


def segment(
    graph: Graph, nodes: Iterable[Node], inputs: Mapping[str, np.dtype[Any]], outputs: Sequence[str]
) -> Graph:
    """Some nodes as a model of their own, with the constants that they read.

    Args:
        graph: where they are from.
        nodes: the nodes, in order.
        inputs: what they need from others, with dtypes; shapes are left open.
        outputs: what to compute.
    """
    model = ModelProto(ir_version=graph.model.ir_version, opset_import=graph.model.opset_import)
    part = model.graph
    part.name = "segment"
    part.node.extend(graph.model.graph.node[node.index] for node in nodes)
    made = {name for n in part.node for name in n.output}
    read = dict.fromkeys(name for node in nodes for name in (*node.inputs, *node.captured))
    for name in read:
        if name in graph.constants and name not in made:
            part.initializer.append(graph.constants[name])
            part.initializer[-1].name = name
    for name, dtype in inputs.items():
        part.input.add(name=name).type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    for name in outputs:
        part.output.add().name = name
    return Graph(model, graph.path, graph.held)


@dataclass(frozen=True)
class Appended:
    """A node to append, named as its only output."""

    op: str
    inputs: Sequence[str]
    output: str
    attrs: Mapping[str, Any]


def appended(
    graph: Graph,
    nodes: Sequence[Appended],
    constants: Mapping[str, Array],
    inputs: Mapping[str, tuple[np.dtype[Any], Sequence[int | None]]],
    outputs: Sequence[str],
) -> Graph:
    """The graph with more nodes, giving only `outputs`; what they don't need is left out.

    Args:
        graph: the graph.
        nodes: in the order they run.
        constants: what they read beside the graph's own tensors.
        inputs: new inputs of the graph: name -> dtype and shape.
        outputs: the graph's only outputs from now on; their types are left to the runtime.
    """
    model = copy.deepcopy(graph.model)
    proto = model.graph
    proto.node.extend(make_node(n.op, n.inputs, [n.output], n.output, **n.attrs) for n in nodes)
    proto.initializer.extend(tensor_of(array, name) for name, array in constants.items())
    for name, (dtype, shape) in inputs.items():
        elem = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        proto.input.append(onnx.helper.make_tensor_value_info(name, elem, list(shape)))
    del proto.output[:]
    for name in outputs:
        proto.output.add().name = name
    whole = Graph(model, graph.path, graph.held)
    needed, wanted = set(), list(outputs)
    while wanted:
        node = whole.producer.get(wanted.pop())
        if node is not None and node.index not in needed:
            needed.add(node.index)
            wanted += [*node.inputs, *node.captured]
    for index in reversed(range(len(proto.node))):
        if index not in needed:
            del proto.node[index]
    return Graph(model, graph.path, graph.held)
