"""The filters that make each unit of a group, with the BatchNormalization behind them as part of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Group
from ..contracts.reduction import ChannelUnits
from ..graph import Array, Graph, Node
from ..ops.label import rank
from ..ops.layers import LINEAR, is_depthwise
from ..ops.layers.storage import values
from ..types import Floats, Units


@dataclass(frozen=True, eq=False)
class UnitMaker:
    """What one node makes units of.

    Attributes:
        rows: (units, d), the weights of each unit.
        bias: (units, t), what is added.
        serial: whether the node reads the same units: it scales what those before it have made.
    """

    rows: Floats
    bias: Floats
    serial: bool


class Mixed(Exception):
    """Something between filters and their readers is not known to keep their proportions."""


def makers(space: ChannelUnits, group: Group) -> list[UnitMaker]:
    """The nodes that make a group, those that read one another in order.

    Raises:
        Mixed: a BatchNormalization is elsewhere than behind one of them.
    """
    graph = space.network.graph
    known = _touching(space, group)
    found = []
    for made in space.makers(group):
        node = graph.nodes[made.node]
        rows = by_unit(group, made.rows, made.units)
        bias = np.zeros((group.size, 1))
        at = node.outputs[0]
        for vector in _biases(graph, node):
            bias = bias + _along(space, group, at, vector)
        while (after := _constant_step(graph, at)) is not None:
            known.discard(after.index)
            at = after.outputs[0]
            scale, shift = _affine(graph, after)
            scale, shift = _along(space, group, at, scale), _along(space, group, at, shift)
            if scale.shape[1] > 1 and rows.shape[1] % scale.shape[1]:
                raise Mixed
            rows = rows * np.repeat(scale, rows.shape[1] // scale.shape[1], 1)
            bias = bias * scale + shift
        found.append(UnitMaker(rows, bias, is_depthwise(graph, node)))
    if any(graph.nodes[i].op == "BatchNormalization" for i in known):
        raise Mixed
    return found


def by_unit(group: Group, rows: Floats, units: Units) -> Floats:
    """(group.size, d): the rows of each unit one behind the other, zeros where it has none."""
    times = rank(units)
    result = np.zeros((group.size, int(times.max(initial=0)) + 1, rows.shape[1]))
    result[units, times] = rows
    return result.reshape(group.size, -1)


def _touching(space: ChannelUnits, group: Group) -> set[int]:
    """Indices of the nodes that read units of a group."""
    effect = space.effect
    units = next(units for one, units in zip(effect.groups, effect.units, strict=True) if one.id == group.id)
    mine = (n for n, places in effect.tensors.items() if any(np.isin(p.units, units).any() for p in places))
    return {node.index for n in mine for node, _ in space.network.graph.readers.get(n, [])}


def _biases(graph: Graph, node: Node) -> Iterator[Array]:
    row = LINEAR.get(node.op)
    at = None if row is None or row.recurrent else row.bias
    if at is not None and len(node.inputs) > at and node.inputs[at]:
        value = values(graph, node.inputs[at])
        if value is not None:
            yield value * float(node.attrs.get("beta", 1.0))


def _constant_step(graph: Graph, tensor: str) -> Node | None:
    """The only reader of a tensor, if it scales and shifts channels by constants."""
    readers = graph.readers.get(tensor, ())
    if len(readers) != 1 or tensor in graph.outputs:
        return None
    node, i = readers[0]
    if node.op == "BatchNormalization" and i == 0:
        return node if all(n in graph.constants for n in node.inputs[1:5]) else None
    if node.op == "Add" and len(node.inputs) == 2:
        return node if values(graph, node.inputs[1 - i]) is not None else None
    return None


def _affine(graph: Graph, node: Node) -> tuple[Floats, Floats]:
    """Scale and shift of such a node."""
    if node.op == "Add":
        vector = next(v for n in node.inputs if (v := values(graph, n)) is not None)
        return np.ones(1), vector
    scale, shift, mean, variance = (graph.array(n).astype(np.float64) for n in node.inputs[1:5])
    scale = scale / np.sqrt(variance + float(node.attrs.get("epsilon", 1e-5)))
    return scale, shift - mean * scale


def _along(space: ChannelUnits, group: Group, tensor: str, vector: Array) -> Floats:
    """(group.size, t): the entries of a vector over the channels of a tensor, by unit."""
    if vector.size == 1:
        return np.full((group.size, 1), float(vector.reshape(())))
    place = space.along(tensor, group)
    if place is None or place[1].size != vector.size:
        raise Mixed
    mine = place[1] >= 0
    return by_unit(group, vector.reshape(-1, 1)[mine].astype(np.float64), place[1][mine])
