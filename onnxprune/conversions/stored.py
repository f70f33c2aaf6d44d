"""Weights that are stored as integers: fitted as floats, and stored as integers again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import Array, Edits, Graph, Node, make_node
from ..ops.layers import LINEAR
from ..ops.layers.storage import along, dequantized, nearest, stored


@dataclass(frozen=True)
class Code:
    """How one constant is stored.

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
        """The nearest that can be stored."""
        values, scale, zero = self.values
        scale, zero = (along(vector, values.ndim, self._axis) for vector in (scale, zero))
        return nearest(floats.astype(np.float64) / scale + zero, values.dtype)

    @property
    def _axis(self) -> int:
        return int(self.attrs.get("axis", 1))


def decoded(graph: Graph) -> tuple[Graph, dict[str, Code]]:
    """The graph with the stored weights of linear layers as floats; by their names, how they were stored."""
    codes = {n.index: _code(graph, n) for n in graph.nodes if _stores_weights(graph, n)}
    if not codes:
        return graph, {}
    folded = {index: code.floats() for index, code in codes.items()}
    return graph.edited(Edits(folded=folded)), {graph.nodes[i].outputs[0]: c for i, c in codes.items()}


def encoded(graph: Graph, codes: Mapping[str, Code]) -> Graph:
    """The graph with these constants stored as they were; scales stay, so what is too large is cut off."""
    edits = Edits()
    for name, code in codes.items():
        if name not in graph.constants:
            continue
        ((reader, i),) = graph.readers[name]
        parts = zip(code.inputs, (code.integers(graph.array(name)), *code.values[1:]), strict=False)
        edits.added.update({part: array for part, array in parts if part not in graph.constants})
        again = f"{name}.stored"
        node = make_node("DequantizeLinear", code.inputs, [again], code.name, **code.attrs)
        edits.before.setdefault(reader.index, []).append(node)
        edits.rewire[reader.index, i] = again
    return graph.edited(edits)


def _stores_weights(graph: Graph, node: Node) -> bool:
    if node.op != "DequantizeLinear" or stored(graph, node.outputs[0]) is None:
        return False
    readers = graph.readers.get(node.outputs[0], ())
    if len(readers) != 1 or node.outputs[0] in graph.outputs:
        return False
    reader, i = readers[0]
    alone = len(graph.readers[node.inputs[0]]) == 1
    return alone and i in _parameters(reader.op)


def _parameters(op: str) -> tuple[int, ...]:
    """Which inputs of a layer of floats may hold its weight or bias."""
    row = LINEAR.get(op)
    if row is None or row.recurrent or row.zero is not None:
        return ()
    return row.weights if row.bias is None else (*row.weights, row.bias)


def _code(graph: Graph, node: Node) -> Code:
    arrays = [graph.array(i) for i in node.inputs]
    zero = arrays[2] if len(arrays) > 2 else np.zeros_like(arrays[1])
    return Code(node.name, tuple(node.inputs), (arrays[0], arrays[1], zero), dict(node.attrs))
