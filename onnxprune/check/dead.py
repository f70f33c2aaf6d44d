"""Dead channels: output channels of a layer whose weights are all zero."""

from __future__ import annotations

import numpy as np

from ..graph import Array, Graph, Node, body_graphs
from ..ops.layers import LINEAR, Layout

_COPIES = frozenset({"Cast", "DequantizeLinear", "Identity"})
"""What may stand between a stored weight and its reader, and keeps its shape and its zeros."""


def dead_channels(graph: Graph) -> int:
    """The number of output channels of Conv, ConvTranspose, Gemm and MatMul that sum over zeros only.

    Such a channel gives its bias whatever the input: the next pruning can take it. A weight that several
    nodes read in the same way counts once. What is in bodies of If, Loop and Scan counts as well. Reads one
    weight at a time.
    """
    return _dead(graph, {})


def _dead(graph: Graph, seen: dict[tuple[int, Layout | int], object]) -> int:
    """`seen`: weights that have been counted, by identity and by how they were read."""
    total = 0
    for node in graph.nodes:
        total += sum(_dead(body, seen) for _, body in body_graphs(graph, node))
        found = _weight(graph, node)
        if found is None:
            continue
        position, name, zero_point = found
        # A stack of matrices, which MatMul alone takes, has no layout: its outputs are columns, or rows.
        layout = LINEAR[node.op].layout(node, position, graph.shape_of_constant(name)) or -1 - position
        key = (id(graph.constants[name]), layout)
        if key not in seen:
            seen[key] = graph.constants[name]
            weight = graph.array(name)
            used = weight != _zero(graph, node.inputs[position], zero_point, weight.ndim)
            sums = used.any(layout) if isinstance(layout, int) else layout.matrix(used).any(-1)
            total += int((~sums.astype(bool)).sum())
    return total


def _weight(graph: Graph, node: Node) -> tuple[int, str, str | None] | None:
    """Which input of a linear layer is its weight, the constant behind it, and its zero point."""
    row = LINEAR.get(node.op)
    if row is None or row.recurrent or row.zero is not None:
        return None
    for position in row.weights:
        name, zero_point = _stored(graph, node.inputs[position])
        if name in graph.constants and len(graph.shape_of_constant(name)) >= 2:
            return position, name, zero_point
    return None


def _stored(graph: Graph, name: str) -> tuple[str, str | None]:
    """The constant behind a tensor, and its zero point where it is quantised."""
    zero_point = None
    while name not in graph.constants and name in graph.producer and graph.producer[name].op in _COPIES:
        node = graph.producer[name]
        if node.op == "DequantizeLinear" and len(node.inputs) > 2 and node.inputs[2] in graph.constants:
            zero_point = node.inputs[2]
        name = node.inputs[0]
    return name, zero_point


def _zero(graph: Graph, name: str, zero_point: str | None, rank: int) -> Array:
    """What a stored weight holds in place of zero, to be compared with it."""
    if zero_point is None:
        return np.zeros((), np.int8)
    value = graph.array(zero_point)
    if value.size == 1:
        return value.reshape(())
    node = graph.producer.get(name)
    axis = int(node.attrs.get("axis", 1)) % rank if node is not None else 1
    return value.reshape([-1 if a == axis else 1 for a in range(rank)])
