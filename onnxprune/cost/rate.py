"""How fast a layer runs, as a straight line: what its time follows when it becomes narrower."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..graph import Facts, Graph, Node


@dataclass(frozen=True)
class Rate:
    """The time of some nodes that run together: `fixed + per_mac * MACs + per_byte * bytes`.

    Attributes:
        nodes: their indices.
        fixed: seconds that no width changes.
        per_mac: seconds for each multiply-accumulate.
        per_byte: seconds for each byte that they read from, or write for, others; weights are read, too.
    """

    nodes: tuple[int, ...]
    fixed: float
    per_mac: float
    per_byte: float

    def seconds(self, macs: float, traffic: float) -> float:
        """The time for some number of multiply-accumulates and bytes."""
        return self.fixed + self.per_mac * macs + self.per_byte * traffic


def fitting(multiple: int, size: int) -> int:
    """The part of a power of two that leaves at least two widths to a group of `size` channels."""
    while multiple > 1 and size < 2 * multiple:
        multiple //= 2
    return multiple


def boundary(graph: Graph, nodes: Sequence[Node]) -> list[str]:
    """The tensors that some nodes read from, or make for, others; constants too."""
    indices = {node.index for node in nodes}
    made = {o for node in nodes for o in node.outputs if o}
    read = dict.fromkeys(i for node in nodes for i in (*node.inputs, *node.captured) if i and i not in made)
    given = [
        o
        for node in nodes
        for o in node.outputs
        if o in graph.outputs or any(n.index not in indices for n, _ in graph.readers.get(o, ()))
    ]
    return [*read, *given]


def traffic(graph: Graph, facts: Facts, name: str) -> int:
    """Bytes of a tensor; 0 where its shape or dtype isn't known."""
    if name in graph.constants:
        return math.prod(graph.shape_of_constant(name)) * graph.dtype(name).itemsize
    shape, dtype = facts.shapes.get(name), facts.dtypes.get(name)
    return 0 if shape is None or dtype is None else math.prod(shape) * dtype.itemsize
