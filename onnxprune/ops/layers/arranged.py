"""Constants that a graph casts, reshapes or transposes before a layer reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from ...graph import Array, Graph, Node, Shape, dtype_numbered, is_floating

_OPS = frozenset({"Cast", "Identity", "Reshape", "Transpose"})


@dataclass(frozen=True, eq=False)
class Arranged:
    """What is made of a constant: the same numbers, in another order, shape or precision.

    Attributes:
        source: the constant.
        nodes: from there to what is read.
        shapes: of the constant, and of what each node gives.
        dtypes: the same of dtypes.
    """

    source: str
    nodes: tuple[Node, ...]
    shapes: tuple[Shape, ...]
    dtypes: tuple[np.dtype[np.generic], ...]

    def value(self, array: Array) -> Array:
        """What the nodes make of a value of the constant."""
        for node, shape, dtype in zip(self.nodes, self.shapes[1:], self.dtypes[1:], strict=True):
            array = array.transpose(_order(node, array.ndim)) if node.op == "Transpose" else array
            array = array.reshape(shape).astype(dtype)
        return array

    def constant(self, value: Array) -> Array:
        """The value of the constant of which the nodes make this, as nearly as its dtype allows."""
        steps = zip(reversed(self.nodes), reversed(self.shapes[:-1]), reversed(self.dtypes[:-1]), strict=True)
        for node, shape, dtype in steps:
            if node.op == "Transpose":
                value = value.transpose(np.argsort(_order(node, value.ndim)))
            value = _within(value.reshape(shape), dtype)
        return value


def arranged(graph: Graph, name: str) -> Arranged | None:
    """How a tensor is made of one constant of floats; `None` where it is something else."""
    nodes: list[Node] = []
    while name not in graph.constants:
        made = graph.producer.get(name)
        if made is None or made.op not in _OPS or any(i not in graph.constants for i in made.inputs[1:]):
            return None
        nodes.append(made)
        name = made.inputs[0]
    if not nodes or not is_floating(graph.dtype(name)):
        return None
    shapes, dtypes = [graph.shape_of_constant(name)], [graph.dtype(name)]
    for node in reversed(nodes):
        following = _following(graph, node, shapes[-1], dtypes[-1])
        if following is None:
            return None
        shapes.append(following[0])
        dtypes.append(following[1])
    return Arranged(name, tuple(reversed(nodes)), tuple(shapes), tuple(dtypes))


def _following(
    graph: Graph, node: Node, shape: Shape, dtype: np.dtype[np.generic]
) -> tuple[Shape, np.dtype[np.generic]] | None:
    """Shape and dtype behind a node; `None` if it makes something else than floats."""
    if node.op == "Transpose":
        return tuple(shape[axis] for axis in _order(node, len(shape))), dtype
    if node.op == "Cast":
        dtype = dtype_numbered(node.attrs["to"])
        return (shape, dtype) if is_floating(dtype) else None
    if node.op == "Reshape":
        wanted = [int(n) for n in graph.array(node.inputs[1])]
        if not node.attrs.get("allowzero"):
            wanted = [shape[a] if n == 0 and a < len(shape) else n for a, n in enumerate(wanted)]
        known = math.prod(n for n in wanted if n >= 0)
        return tuple(math.prod(shape) // max(known, 1) if n < 0 else n for n in wanted), dtype
    return shape, dtype


def _order(node: Node, rank: int) -> tuple[int, ...]:
    return tuple(node.attrs.get("perm") or range(rank)[::-1])


def _within(value: Array, dtype: np.dtype[np.generic]) -> Array:
    """In a dtype, and not infinite there."""
    if value.dtype == dtype:
        return value
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    return np.clip(value, -largest, largest).astype(dtype)
