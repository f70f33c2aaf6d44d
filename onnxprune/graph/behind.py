"""New nodes behind a tensor, for all that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import Edits, Graph, Node


def is_free(graph: Graph, tensor: str) -> bool:
    """Whether every reader of a tensor can be rewired: no body of a node is one, nor a graph output."""
    readers = graph.readers.get(tensor, [])
    return bool(readers) and tensor not in graph.outputs and all(i >= 0 for _, i in readers)


def only_reader(graph: Graph, tensor: str) -> Node | None:
    """The one node that reads a tensor; `None` if others do, or it is an output of the graph."""
    readers = graph.readers.get(tensor, ())
    return readers[0][0] if len(readers) == 1 and tensor not in graph.outputs else None


def fresh(graph: Graph, base: str) -> str:
    """A name that no tensor and no node of the graph has."""
    taken = {*graph.producer, *graph.constants, *graph.inputs, *(n.name for n in graph.nodes)}
    name, k = base, 0
    while name in taken:
        k += 1
        name = f"{base}.{k}"
    return name


def insert(edits: Edits, graph: Graph, tensor: str, nodes: Sequence[Any], output: str) -> None:
    """Put nodes, made by `graph.make_node`, behind a tensor; what read it reads `output` from now on."""
    readers = graph.readers[tensor]
    edits.before.setdefault(min(node.index for node, _ in readers), []).extend(nodes)
    edits.rewire.update({(node.index, i): output for node, i in readers})
