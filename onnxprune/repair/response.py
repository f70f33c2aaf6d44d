"""What becomes of a layer's output before anything else reads it: f(y + a shortcut).

An error of y matters as far as f shows it: not at all where a ReLU is flat. And where a shortcut is added
that has drifted, y can make up for that, too (He, Zhang and Sun 2017, Channel Pruning, section 3.3).
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..execution.prefix import ancestors, free_nodes
from ..execution.sessions import open_session
from ..graph import Array, Graph, Node, Shape, segment
from ..graph.behind import is_free
from ..ops.layers import LinearLayer
from ..ops.layers.bias import AddBehind, intercept
from .fitted import stages
from .task import Task

_POINTWISE = frozenset(
    [
        *("Abs", "Add", "Celu", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish"),
        *("Identity", "LeakyRelu", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Relu", "Selu"),
        *("Sigmoid", "Softplus", "Softsign", "Sub", "Swish", "Tanh", "ThresholdedRelu"),
        *(f"com.microsoft:{name}" for name in ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")),
    ]
)
"""Operators that look at no other position."""


@dataclass(frozen=True)
class Shortcut:
    """A sum of a layer's output and of a tensor that is there before it.

    Attributes:
        sum: what the sum gives.
        first: what it takes that comes of the layer.
    """

    sum: str
    first: str

    def other(self, graph: Graph) -> str:
        """What else it takes; its name in the graph as it is now."""
        (name,) = (i for i in graph.producer[self.sum].inputs if i != self.first)
        return name


def shortcut(task: Task, layer: LinearLayer, found: Collection[str]) -> Shortcut | None:
    """What is added to what a layer gives, if nothing else reads that, and it is known by then.

    Args:
        task: what was done.
        layer: of the cut network.
        found: the outputs of all layers that are fitted, one after the other.
    """
    graph, shapes = task.origin.graph, task.origin.facts.shapes
    slot = intercept(task.network.graph, layer.node, layer.input)
    first = slot.add.outputs[0] if isinstance(slot, AddBehind) else layer.output
    readers = graph.readers.get(first, [])
    if layer.row.recurrent or len(readers) != 1 or not is_free(graph, first):
        return None
    ((adding, i),) = readers
    other = adding.inputs[1 - i] if adding.op == "Add" else first
    fixed = {*graph.constants, *(o for node in free_nodes(graph) for o in node.outputs)}
    if other in {first, *fixed} or shapes.get(other) is None or shapes[other] != shapes.get(first):
        return None
    stage, maker = stages(graph, found), graph.producer.get(other)
    known = 0 if maker is None else stage[maker.index] + (other in found)
    late = known > stage[graph.producer[layer.output].index]
    return None if late or adding.index not in ancestors(graph, found) else Shortcut(adding.outputs[0], first)


class Function:
    """f, for rows of what it is taken of.

    Args:
        graph: the graph.
        nodes: those that compute it.
        end: what it gives.
        start: what it is taken of.
        dtype: of both.
        rank: of both.
        axis: along which outputs of the layer lie.
    """

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[Node],
        end: str,
        start: str,
        dtype: np.dtype[Any],
        rank: int,
        axis: int,
    ) -> None:
        self._start, self._end, self._dtype, self._rank, self._axis = start, end, dtype, rank, axis % rank
        self._session = open_session(segment(graph, nodes, {start: dtype}, [end]))

    def __call__(self, values: Array) -> Array:
        """(G, R, O) -> (G, R, O), float32."""
        groups, rows, outputs = values.shape
        shape = [1] * self._rank
        shape[self._axis], shape[0 if self._axis else -1] = groups * outputs, rows
        flat = values.swapaxes(0, 1).reshape(rows, -1)
        placed = (flat if self._axis else flat.T).reshape(shape).astype(self._dtype)
        given = self._session.run({self._start: placed})[self._end].reshape(placed.shape)
        back = given.reshape(rows, -1) if self._axis else given.reshape(-1, rows).T
        return back.astype(np.float32).reshape(rows, groups, outputs).swapaxes(0, 1)


def function(graph: Graph, start: str, dtype: np.dtype[Any], y: Shape, axis: int) -> Function | None:
    """What is taken of a tensor, as far as it looks at no other position; `None` if it is linear.

    Args:
        graph: the graph as it is now.
        start: the tensor.
        dtype: of it.
        y: its shape.
        axis: along which outputs of the layer lie.
    """
    *_, (nodes, end) = [([], start), *_regions(graph, start, y, axis % len(y))]
    if all(_is_affine(graph, node) for node in nodes):
        return None
    return Function(graph, nodes, end, start, dtype, len(y), axis)


def _regions(graph: Graph, start: str, y: Shape, axis: int) -> Iterator[tuple[list[Node], str]]:
    """Nodes that compute a tensor which is all that anything else sees of `start`, more and more of them."""
    inside, nodes = {start}, list[Node]()
    waiting = [node.index for node, _ in graph.readers.get(start, ())]
    heapq.heapify(waiting)
    while waiting:
        node = graph.nodes[heapq.heappop(waiting)]
        if node.outputs and node.outputs[0] in inside:
            continue
        if not _is_pointwise(graph, node, inside, y, axis):
            continue
        end = node.outputs[0]
        nodes.append(node)
        hidden = set(inside)
        inside.add(end)
        known = {n.index for n in nodes}
        if all(
            is_free(graph, t) and all(reader.index in known for reader, _ in graph.readers[t]) for t in hidden
        ):
            yield list(nodes), end
        for reader, _ in graph.readers.get(end, ()):
            heapq.heappush(waiting, reader.index)


def _is_pointwise(graph: Graph, node: Node, inside: Collection[str], y: Shape, axis: int) -> bool:
    if node.op not in _POINTWISE or len(node.outputs) != 1 or node.captured:
        return False
    others = [i for i in node.inputs if i and i not in inside]
    return all(i in graph.constants and _is_along(graph.shape_of_constant(i), y, axis) for i in others)


def _is_affine(graph: Graph, node: Node) -> bool:
    """Whether its slope is the same everywhere."""
    linear = node.op in ("Add", "Sub") or (node.op in ("Mul", "Div") and node.inputs[1] in graph.constants)
    return linear or node.op in ("Identity", "Neg")


def _is_along(shape: Shape, y: Shape, axis: int) -> bool:
    """Whether a constant is the same for all positions."""
    aligned = (1,) * (len(y) - len(shape)) + tuple(shape)
    return len(aligned) == len(y) and all(n == 1 for k, n in enumerate(aligned) if k != axis)
