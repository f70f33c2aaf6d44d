"""Where a constant can be added to what a linear node gives: its bias input, or an Add right behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import Array, Edits, Graph, Node, make_node
from ..types import Floats
from .layout import Layout, Product


@dataclass(frozen=True)
class Intercept:
    """A place for a bias.

    Attributes:
        graph: the graph.
        node: the node that has it.
        input: which of its inputs.
        own: whether what was measured contains it already.
        factor: what it is multiplied by.
        insert: the linear node's output, where an Add must be inserted for it.
        possible: whether there is any.
    """

    graph: Graph
    node: Node
    input: int
    own: bool = True
    factor: float = 1.0
    insert: str | None = None
    possible: bool = True

    @property
    def _constant(self) -> Array | None:
        names = self.node.inputs
        name = names[self.input] if self.possible and self.insert is None and self.input < len(names) else ""
        return self.graph.array(name) if name else None

    def value(self, shape: tuple[int, ...]) -> Floats:
        """(G, O): what is added now, as far as it was measured."""
        constant = self._constant
        if constant is None or not self.own:
            return np.zeros(shape)
        return np.broadcast_to(
            self.factor * constant.astype(np.float64).ravel(), (int(np.prod(shape)),)
        ).reshape(shape)

    def write(self, edits: Edits, bias: Floats, dtype: np.dtype[Any]) -> None:
        """Have `bias` (G, O) added, instead of what was or (if that was not measured) on top of it."""
        constant = self._constant
        new = bias.ravel() / self.factor
        if constant is not None and not self.own:
            new = constant.astype(np.float64).ravel() + new
        if constant is not None and constant.size == new.size:
            new = new.reshape(constant.shape)
        if self.insert is not None:
            name = f"{self.insert}.repaired"
            edits.added[f"{name}.bias"] = new.astype(dtype)
            readers = self.graph.readers[self.insert]
            first = min(node.index for node, _ in readers)
            edits.before.setdefault(first, []).append(
                make_node("Add", [self.insert, f"{name}.bias"], [name], name)
            )
            edits.rewire.update({(node.index, i): name for node, i in readers})
            return
        edits.literals[self.node.index, self.input] = new.astype(dtype)
        if self.factor == 0:
            edits.attrs[self.node.index, "beta"] = 1.0


def intercept(graph: Graph, node: Node, layout: Layout) -> Intercept | None:
    """Where the bias of a linear node is, or can be; `None` where it is something that can't be told apart."""
    if layout.bias is not None:
        if layout.bias >= len(node.inputs) or not node.inputs[layout.bias]:
            return Intercept(graph, node, layout.bias)
        name = node.inputs[layout.bias]
        if name not in graph.constants:
            return None
        shape = graph.shape_of_constant(name)
        vector = all(n == 1 for n in shape[:-1])
        factor = float(node.attrs.get("beta", 1.0)) if isinstance(layout, Product) else 1.0
        return Intercept(graph, node, layout.bias, factor=factor) if vector and factor else None
    if node.op != "MatMul":
        return None
    output = node.outputs[0]
    readers = graph.readers.get(output, [])
    if layout.channels == -1 and len(readers) == 1 and readers[0][0].op == "Add":
        add, i = readers[0]
        name = add.inputs[1 - i]
        if name in graph.constants and all(n == 1 for n in graph.shape_of_constant(name)[:-1]):
            return Intercept(graph, add, 1 - i, own=False)
    possible = layout.channels == -1 and output not in graph.outputs and all(i >= 0 for _, i in readers)
    return Intercept(graph, node, -1, insert=output, possible=possible)
