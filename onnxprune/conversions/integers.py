"""Layers that compute with integers, dynamically quantised: fitted as the float layers that they stand for.

DynamicQuantizeLinear makes integers of x, ConvInteger or MatMulInteger multiplies them, and the scales of x
and of the weight make floats of that again. While weights are fitted, a float node gives the same.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from ..graph import Array, Edits, Graph, Node, make_node
from ..graph.behind import fresh, only_reader
from ..ops.layers.storage import along, dequantized, nearest
from ..types import Floats

Use = tuple[Node, int]

_FLOAT = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
_PASSING = frozenset({"Cast", "Floor", "Round", "Reshape", "Identity"})
"""What a bias goes through on its way to being integers."""


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One layer.

    Attributes:
        output: what it gives, in floats.
        data: what it reads, in floats.
        node: of integers.
        last: makes `output` of what the integers give.
        values: the weight, its scale and its zero point.
        axis: along which there may be a scale for each output.
        scales: (node, which input) of all that read the scale.
        bias: (node, which input) that reads the bias as floats, where it is added as integers.
    """

    output: str
    data: str
    node: Node
    last: Node
    values: tuple[Array, Array, Array]
    axis: int
    scales: tuple[Use, ...]
    bias: Use | None

    def integers(self, floats: Array) -> tuple[Array, Floats]:
        """The nearest that can be stored, and by how much scales have to grow so that nothing is cut off."""
        values, scale, zero = self.values
        limits = np.iinfo(values.dtype)
        scale, zero = (along(vector, values.ndim, self.axis) for vector in (scale, zero))
        steps = floats.astype(np.float64) / scale
        ends = [np.maximum(limits.max - zero, 1), np.minimum(limits.min - zero, -1)]
        rest = tuple(a for a in range(values.ndim) if scale.shape[a] == 1)
        growth = np.maximum(1, [(steps / end).max(rest, keepdims=True) for end in ends]).max(0)
        return nearest(steps / growth + zero, values.dtype), growth.ravel()


def layers_of(graph: Graph) -> tuple[IntegerLayer, ...]:
    """All these layers of a graph."""
    return tuple(layer for node in graph.nodes if (layer := _layer(graph, node)) is not None)


def with_float_layers(graph: Graph) -> tuple[Graph, tuple[IntegerLayer, ...]]:
    """The graph with a float node for each of these layers, and what they are; the others give nothing."""
    layers = layers_of(graph)
    edits = Edits()
    for layer in layers:
        weight, aside = (
            fresh(graph, f"{layer.output}.weight"),
            copy.deepcopy(graph.model.graph.node[layer.last.index]),
        )
        aside.output[0] = _aside(layer)
        bias = [layer.bias[0].inputs[layer.bias[1]]] if layer.bias else []
        edits.added[weight] = dequantized(*layer.values, layer.axis)
        inputs = [layer.data, weight, *bias]
        name = f"{layer.node.name}.float"
        new = make_node(_FLOAT[layer.node.op], inputs, [layer.output], name, **layer.node.attrs)
        edits.replaced[layer.last.index] = [new, aside]
    return (graph.edited(edits) if layers else graph), layers


def with_integer_layers(graph: Graph, layers: Iterable[IntegerLayer]) -> Graph:
    """The graph with integers again, of weights and biases as they are now."""
    edits = Edits()
    for layer in layers:
        node, last = graph.producer[layer.output], graph.producer[_aside(layer)]
        integer = graph.producer[layer.node.outputs[0]]
        proto = copy.deepcopy(graph.model.graph.node[last.index])
        proto.output[0] = layer.output
        edits.replaced |= {node.index: [], last.index: [proto]}
        edits.literals[integer.index, 1], growth = layer.integers(graph.array(node.inputs[1]))
        for reader, i in layer.scales if (growth > 1).any() else ():
            scale = graph.array(reader.inputs[i])
            new = (scale.ravel() * growth).reshape(scale.shape).astype(scale.dtype)
            edits.literals[graph.producer[reader.outputs[0]].index, i] = new
        if len(node.inputs) < 3:
            continue
        bias = graph.array(node.inputs[2])
        if layer.bias is not None:
            reader, i = layer.bias
            if node.inputs[2] != reader.inputs[i]:
                edits.literals[graph.producer[reader.outputs[0]].index, i] = bias
        else:
            name = fresh(graph, f"{layer.output}.bias")
            proto.output[0] = f"{layer.output}.unbiased"
            edits.added[name] = bias.reshape(-1, *[1] * (layer.values[0].ndim - 2))
            add = make_node("Add", [proto.output[0], name], [layer.output], name)
            edits.replaced[last.index].append(add)
    return graph.edited(edits) if edits else graph


def _aside(layer: IntegerLayer) -> str:
    return f"{layer.output}.integers"


class _Other(Exception):
    """Not such a layer."""


def _layer(graph: Graph, node: Node) -> IntegerLayer | None:
    """The layer of a node of integers; `None` if what belongs to it is otherwise, or others use it."""
    try:
        return _matched(graph, node)
    except _Other:
        return None


def _matched(graph: Graph, node: Node) -> IntegerLayer:
    if node.op not in _FLOAT or len(graph.readers[node.inputs[1]]) > 1:
        raise _Other
    data, weight, zero_of_data, zero = (*node.inputs, "", "")[:4]
    quantizer = _maker(graph, data, "DynamicQuantizeLinear")
    if zero_of_data != quantizer.outputs[2]:
        raise _Other
    reader, y = _only_reader(graph, node.outputs[0]), node.outputs[0]
    division = None
    if reader.op == "Add":
        division = _division(graph, _beside(reader, y))
        reader, y = _only_reader(graph, reader.outputs[0]), reader.outputs[0]
    last = _only_reader(graph, reader.outputs[0])
    if (reader.op, last.op) != ("Cast", "Mul"):
        raise _Other
    factors = [_beside(last, reader.outputs[0]), *([division.inputs[1]] if division is not None else [])]
    users = {last.index} | ({division.index} if division is not None else set())
    scales = tuple(_scale(graph, name, quantizer, users) for name in factors)
    arrays = [_constant(graph, node.inputs[i]) for node, i in scales]
    values = _constant(graph, weight)
    zeros = _constant(graph, zero) if zero else np.zeros(1)
    axis = 0 if node.op == "ConvInteger" else values.ndim - 1
    aligned = [1] * axis + [values.shape[axis]] + [1] * (values.ndim - 1 - axis)
    for array in arrays:
        shape = [1] * (len(aligned) - array.ndim) + list(array.shape)
        if array.size > 1 and (shape != aligned or not np.array_equal(array.ravel(), arrays[0].ravel())):
            raise _Other
    if zeros.size not in (1, values.shape[axis]):
        raise _Other
    bias = None if division is None else (division, 0)
    code = (values, arrays[0].ravel(), zeros.ravel())
    return IntegerLayer(last.outputs[0], quantizer.inputs[0], node, last, code, axis, scales, bias)


def _maker(graph: Graph, tensor: str, op: str) -> Node:
    made = graph.producer.get(tensor)
    if made is None or made.op != op:
        raise _Other
    return made


def _only_reader(graph: Graph, tensor: str) -> Node:
    reader = only_reader(graph, tensor)
    if reader is None:
        raise _Other
    return reader


def _beside(node: Node, tensor: str) -> str:
    """The other one of two inputs."""
    return node.inputs[1] if node.inputs[0] == tensor else node.inputs[0]


def _constant(graph: Graph, name: str) -> Array:
    if name not in graph.constants:
        raise _Other
    return graph.array(name)


def _division(graph: Graph, tensor: str) -> Node:
    """What divides a bias, a constant, before it becomes integers."""
    while (made := graph.producer.get(tensor)) is not None and made.op in _PASSING:
        tensor = made.inputs[0]
    division = _maker(graph, tensor, "Div")
    _constant(graph, division.inputs[0])
    return division


def _scale(graph: Graph, tensor: str, quantizer: Node, users: Collection[int]) -> Use:
    """Where the scale of a weight is multiplied by that of the data, for nobody else."""
    made = _maker(graph, tensor, "Mul")
    if quantizer.outputs[1] not in made.inputs or {n.index for n, _ in graph.readers[tensor]} - set(users):
        raise _Other
    return made, int(made.inputs[0] == quantizer.outputs[1])
