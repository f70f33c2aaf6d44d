"""Dead channels: output channels of a layer whose weights are all zero."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from ..graph import Array, Graph, Node, lifted
from ..types import Mask

_POSITIONS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (1, 0)}
)
"""Which inputs may be the weight."""

_COPIES = frozenset({"Cast", "DequantizeLinear", "Identity"})
"""What may stand between a stored weight and its reader, and keeps its shape and its zeros."""


def dead_channels(graph: Graph) -> int:
    """The number of output channels of Conv, ConvTranspose, Gemm and MatMul that sum over zeros only.

    Such a channel gives its bias whatever the input: the next pruning can take it. A weight that several
    nodes read in the same way counts once. What is in bodies of If, Loop and Scan counts as well. Reads one
    weight at a time.
    """
    return _dead(graph, {})


def _dead(graph: Graph, seen: dict[tuple[int, str], object]) -> int:
    """`seen`: weights that have been counted, by identity and by how they were read."""
    total = 0
    for node in graph.nodes:
        total += sum(_dead(body, seen) for _, body in lifted(graph, node))
        position = _weight(graph, node)
        if position is None:
            continue
        name, zero_point = _stored(graph, node.inputs[position])
        key = (
            id(graph.constants[name]),
            f"{node.op} {position} {node.attrs.get('transB', 0)} {node.attrs.get('group', 1)}",
        )
        if key not in seen:
            seen[key] = graph.constants[name]
            weight = graph.array(name)
            used = weight != _zero(graph, node.inputs[position], zero_point, weight.ndim)
            total += int((~_by_channel(node, position, used)).sum())
    return total


def _weight(graph: Graph, node: Node) -> int | None:
    """Which input of a node is its constant weight."""
    for position in _POSITIONS.get(node.op, ()):
        name = _stored(graph, node.inputs[position])[0]
        if name in graph.constants and len(graph.shape_of_constant(name)) >= 2:
            return position
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


def _by_channel(node: Node, position: int, used: Mask) -> Mask:
    """Whether each output channel has any weight, from whether each weight is one."""
    if node.op == "Conv":
        axes: tuple[int, ...] = tuple(range(1, used.ndim))
    elif node.op == "ConvTranspose":  # (inputs, outputs / groups, *kernel)
        used = used.reshape(int(node.attrs.get("group", 1)), -1, *used.shape[1:])
        axes = (1, *range(3, used.ndim))
    elif node.op == "Gemm":
        axes = (1 if node.attrs.get("transB", 0) else 0,)
    else:
        axes = (used.ndim - (2 if position == 1 else 1),)
    return np.asarray(used.any(axis=axes))
