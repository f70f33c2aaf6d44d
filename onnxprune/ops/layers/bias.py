"""Where a constant is, or can be, added to what a linear node gives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ...graph import Array, Edits, Graph, Node, make_node
from ...graph.behind import fresh, insert, is_free
from ...types import Floats
from .arranged import arranged
from .storage import stored, weights
from .table import LINEAR


def shift(node: Node, rows: Floats, inputs: Floats) -> Floats:
    """What constants at the inputs of a linear node add to each of its outputs, borders apart.

    Args:
        node: the node.
        rows: float64 (inputs, outputs, ...), the taps of a kernel behind; of a recurrent layer, all outputs.
        inputs: float64 (inputs,).

    Returns:
        float64 (outputs,).
    """
    flat = inputs @ rows.reshape(len(rows), -1)
    if node.op not in ("Conv", "ConvTranspose"):
        return np.asarray(flat * node.attrs.get("alpha", 1.0))
    # Of a transposed kernel, each position sees one tap in so many.
    strides = node.attrs.get("strides", ()) if node.op == "ConvTranspose" else ()
    return np.asarray(flat.reshape(rows.shape[1], -1).sum(1) / math.prod(strides))


class Intercept(ABC):
    """A place for a bias."""

    possible: bool = True
    """Whether a bias can be written here."""

    @abstractmethod
    def now(self, count: int) -> Floats:
        """float64 (count,): the part of the bias that is in the node's output as it was measured."""

    def behind(self) -> Floats:
        """float64 (count,) or (1,): the part that is added to the node's output."""
        return np.zeros(1)

    @abstractmethod
    def write(self, edits: Edits, bias: Floats, like: Array) -> None:
        """Replace that part by `bias` (count,), in the dtype of `like`."""


@dataclass(frozen=True, eq=False)
class BiasInput(Intercept):
    """The bias of a Conv, ConvTranspose or Gemm; made where there was none.

    Attributes:
        graph: the graph.
        node: the node.
        factor: what the bias is multiplied by.
    """

    graph: Graph
    node: Node
    factor: float = 1.0

    def _value(self) -> Array | None:
        name = self.node.inputs[2] if len(self.node.inputs) > 2 else ""
        return weights(self.graph, name) if name else None

    def now(self, count: int) -> Floats:
        """See `Intercept.now`."""
        value = self._value()
        flat = np.zeros(1) if value is None else value.astype(np.float64).ravel() * self.factor
        return np.broadcast_to(flat, (count,))

    def write(self, edits: Edits, bias: Floats, like: Array) -> None:
        """See `Intercept.write`."""
        value = self._value()
        new = (bias / self.factor).astype(like.dtype)
        same = value is not None and value.size == new.size
        edits.literals[self.node.index, 2] = new.reshape(value.shape) if same and value is not None else new


@dataclass(frozen=True, eq=False)
class AddBehind(Intercept):
    """The vector that the only reader of a MatMul adds.

    Attributes:
        graph: the graph.
        add: that reader.
        input: where it has the vector.
    """

    graph: Graph
    add: Node
    input: int

    def now(self, count: int) -> Floats:
        """See `Intercept.now`: the Add comes after what was measured."""
        return np.zeros(count)

    def behind(self) -> Floats:
        """See `Intercept.behind`."""
        return weights(self.graph, self.add.inputs[self.input]).astype(np.float64).ravel()

    def write(self, edits: Edits, bias: Floats, like: Array) -> None:
        """See `Intercept.write`."""
        value = weights(self.graph, self.add.inputs[self.input])
        new = np.broadcast_to(self.behind(), bias.shape) + bias
        shape = value.shape if value.size == bias.size else bias.shape
        edits.literals[self.add.index, self.input] = new.reshape(shape).astype(like.dtype)


@dataclass(frozen=True, eq=False)
class NewAdd(Intercept):
    """An Add to insert behind a MatMul.

    Attributes:
        graph: the graph.
        output: what the MatMul gives.
        column: whether its outputs lie along the last axis but one, as with a weight on the left.
    """

    graph: Graph
    output: str
    column: bool

    def now(self, count: int) -> Floats:
        """See `Intercept.now`."""
        return np.zeros(count)

    def write(self, edits: Edits, bias: Floats, like: Array) -> None:
        """See `Intercept.write`."""
        name = fresh(self.graph, f"{self.output}.repaired")
        edits.added[f"{name}.bias"] = bias.reshape((-1, 1) if self.column else -1).astype(like.dtype)
        add = make_node("Add", [self.output, f"{name}.bias"], [name], name)
        insert(edits, self.graph, self.output, [add], name)


@dataclass(frozen=True, eq=False)
class GateBias(Intercept):
    """The bias of a recurrent layer: B (directions, 2 * gates * H), of which the first half is the input's.

    Attributes:
        graph: the graph.
        node: the node.
    """

    graph: Graph
    node: Node

    def now(self, count: int) -> Floats:
        """See `Intercept.now`: targets are computed without it."""
        return np.zeros(count)

    def write(self, edits: Edits, bias: Floats, like: Array) -> None:
        """See `Intercept.write`."""
        directions = like.shape[0]
        halves = np.zeros((directions, 2, bias.size // directions))
        if len(self.node.inputs) > 3 and self.node.inputs[3]:
            halves += self.graph.array(self.node.inputs[3]).astype(np.float64).reshape(halves.shape)
        halves[:, 0] += bias.reshape(directions, -1)
        edits.literals[self.node.index, 3] = halves.reshape(directions, -1).astype(like.dtype)


class Nowhere(Intercept):
    """There is no place for a bias."""

    possible = False

    def now(self, count: int) -> Floats:
        """See `Intercept.now`."""
        return np.zeros(count)

    def write(self, edits: Edits, bias: Floats, like: Array) -> None:
        """See `Intercept.write`: nothing."""


def intercept(graph: Graph, node: Node, weight: int) -> Intercept | None:
    """Where the bias of a linear node is, or can be; `None` if what is added there is not clear.

    Args:
        graph: the graph.
        node: the node.
        weight: which input holds the weight.
    """
    row = LINEAR.get(node.op)
    if row is None:
        return None
    if row.recurrent:
        name = node.inputs[row.bias] if row.bias is not None and len(node.inputs) > row.bias else ""
        return GateBias(graph, node) if not name or name in graph.constants else None
    if row.bias is not None:
        factor = float(node.attrs.get("beta", 1.0))
        name = node.inputs[row.bias] if len(node.inputs) > row.bias else ""
        if name and factor and not (_is_vector(graph, name) and weight == 1):
            return None
        return BiasInput(graph, node, factor) if weight == 1 and factor else Nowhere()
    output = node.outputs[0]
    readers = graph.readers.get(output, [])
    if not is_free(graph, output):
        return Nowhere()
    reader, i = readers[0]
    if weight == 1 and len(readers) == 1 and reader.op == "Add" and _is_vector(graph, reader.inputs[1 - i]):
        return AddBehind(graph, reader, 1 - i)
    return NewAdd(graph, output, column=weight == 0)


def _is_vector(graph: Graph, name: str) -> bool:
    held, made = stored(graph, name), arranged(graph, name)
    if held is None:
        return False
    shape = graph.shape_of_constant(held) if made is None else made.shapes[-1]
    return all(n == 1 for n in shape[:-1])
