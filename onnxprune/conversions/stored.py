"""Weights that are stored as something else: fitted as floats of a layer, and stored as they were again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import Array, Edits, Graph, Node, make_node
from ..ops.layers import LINEAR
from ..ops.layers.arranged import Arranged, arranged
from ..ops.layers.storage import along, dequantized, nearest, stored


class Code(ABC):
    """How one weight is stored."""

    @abstractmethod
    def floats(self) -> Array:
        """What is stored, as the layer reads it."""

    @abstractmethod
    def write(self, graph: Graph, name: str, edits: Edits) -> None:
        """Store the constant that a weight has become as it was, in front of its only reader."""


@dataclass(frozen=True)
class Integers(Code):
    """Integers, for DequantizeLinear.

    Attributes:
        name: of the DequantizeLinear node.
        inputs: integers, scales and zero points, as tensors.
        values: the same, as arrays; zeros where there is no zero point.
        attrs: attributes of the node.
    """

    name: str
    inputs: tuple[str, ...]
    values: tuple[Array, Array, Array]
    attrs: Mapping[str, Any]

    def floats(self) -> Array:
        """What the integers stand for."""
        return dequantized(*self.values, self._axis)

    def integers(self, floats: Array) -> Array:
        """The nearest integers; scales stay, so what is too large is cut off."""
        values, scale, zero = self.values
        scale, zero = (along(vector, values.ndim, self._axis) for vector in (scale, zero))
        return nearest(floats.astype(np.float64) / scale + zero, values.dtype)

    def write(self, graph: Graph, name: str, edits: Edits) -> None:
        """The nearest integers."""
        parts = zip(self.inputs, (self.integers(graph.array(name)), *self.values[1:]), strict=False)
        edits.added.update({part: array for part, array in parts if part not in graph.constants})
        node = make_node("DequantizeLinear", self.inputs, [f"{name}.stored"], self.name, **self.attrs)
        _put_before(graph, name, edits, [node])

    @property
    def _axis(self) -> int:
        return int(self.attrs.get("axis", 1))


@dataclass(frozen=True)
class Rearranged(Code):
    """Floats in another order, shape or precision.

    Attributes:
        made: what is done to them.
        values: of the constant.
        others: constants that the nodes read besides.
    """

    made: Arranged
    values: Array
    others: Mapping[str, Array]

    def floats(self) -> Array:
        """What the layer reads."""
        return self.made.value(self.values)

    def write(self, graph: Graph, name: str, edits: Edits) -> None:
        """The nearest floats of the constant's precision."""
        wanted = {self.made.source: self.made.constant(graph.array(name)), **self.others}
        edits.added.update({part: array for part, array in wanted.items() if part not in graph.constants})
        last = self.made.nodes[-1]
        names = {node.outputs[0]: f"{node.outputs[0]}.stored" for node in self.made.nodes}
        nodes = [
            make_node(
                node.op,
                [names.get(i, i) for i in node.inputs],
                [names[node.outputs[0]] if node is not last else f"{name}.stored"],
                node.name,
                **node.attrs,
            )
            for node in self.made.nodes
        ]
        _put_before(graph, name, edits, nodes)


def _put_before(graph: Graph, name: str, edits: Edits, nodes: list[Any]) -> None:
    ((reader, i),) = graph.readers[name]
    edits.before.setdefault(reader.index, []).extend(nodes)
    edits.rewire[reader.index, i] = f"{name}.stored"


def decoded(graph: Graph) -> tuple[Graph, dict[str, Code]]:
    """The graph with the stored weights of linear layers as floats; by their names, how they were stored."""
    codes = {n.index: code for n in graph.nodes if (code := _code(graph, n)) is not None}
    if not codes:
        return graph, {}
    folded = {index: code.floats() for index, code in codes.items()}
    return graph.edited(Edits(folded=folded)), {graph.nodes[i].outputs[0]: c for i, c in codes.items()}


def encoded(graph: Graph, codes: Mapping[str, Code]) -> Graph:
    """The graph with these constants stored as they were."""
    edits = Edits()
    for name, code in codes.items():
        if name in graph.constants:
            code.write(graph, name, edits)
    return graph.edited(edits)


def _code(graph: Graph, node: Node) -> Code | None:
    """How a node's output is stored, if it is the weight or bias of one layer, and of nothing else."""
    name = node.outputs[0] if node.outputs else ""
    readers = graph.readers.get(name, ())
    if len(readers) != 1 or name in graph.outputs or name in graph.constants or stored(graph, name) is None:
        return None
    reader, i = readers[0]
    if i not in _parameters(reader.op):
        return None
    made = arranged(graph, name)
    if made is None:
        return _integers(graph, node) if len(graph.readers[node.inputs[0]]) == 1 else None
    between = (made.source, *(step.outputs[0] for step in made.nodes[:-1]))
    if any(len(graph.readers[part]) != 1 or part in graph.outputs for part in between):
        return None
    others = {i: graph.array(i) for step in made.nodes for i in step.inputs[1:]}
    return Rearranged(made, graph.array(made.source), others)


def _parameters(op: str) -> tuple[int, ...]:
    """Which inputs of a layer of floats may hold its weight or bias."""
    row = LINEAR.get(op)
    if row is None or row.recurrent or row.zero is not None:
        return ()
    return row.weights if row.bias is None else (*row.weights, row.bias)


def _integers(graph: Graph, node: Node) -> Integers:
    arrays = [graph.array(i) for i in node.inputs]
    zero = arrays[2] if len(arrays) > 2 else np.zeros_like(arrays[1])
    return Integers(node.name, tuple(node.inputs), (arrays[0], arrays[1], zero), dict(node.attrs))
