"""Constants that nodes compute from constants alone, and what computes with them."""

from __future__ import annotations

from collections.abc import Collection, Set

from .core import Graph, Node


def readers_of(graph: Graph, names: Collection[str]) -> set[int]:
    """Indices of nodes that compute with constants: not those that read nothing else, but what reads them."""
    wanted, seen, found = sorted(names), set(names), set()
    while wanted:
        for node, _ in graph.readers.get(wanted.pop(), ()):
            if prepares(graph, node, seen):
                new = {o for o in node.outputs if o} - seen
                seen |= new
                wanted += sorted(new)
            else:
                found.add(node.index)
    return found


def prepares(graph: Graph, node: Node, prepared: Set[str]) -> bool:
    """Whether a node reads nothing but constants, and what is `prepared` of them."""
    return not node.captured and all(i in prepared or i in graph.constants for i in node.inputs if i)
