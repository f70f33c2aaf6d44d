"""A list of parts of which single ones are taken, as a Split: so that its parts have shapes and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Array, Edits, Facts, Graph, Node, make_node


def with_splits(graph: Graph, facts: Facts) -> Graph:
    """The graph with a Split for each SplitToSequence that SequenceAt alone reads; the same if none is."""
    edits = Edits()
    for node in graph.nodes:
        sizes = _sizes(graph, facts, node) if node.op == "SplitToSequence" and graph.opset() >= 13 else None
        if sizes is None:
            continue
        list_name, axis = node.outputs[0], node.attrs.get("axis", 0)
        parts = [f"{list_name}/{k}" for k in range(len(sizes))]
        edits.added[f"{list_name}/sizes"] = np.asarray(sizes, np.int64)
        edits.replaced[node.index] = [
            make_node("Split", [node.inputs[0], f"{list_name}/sizes"], parts, f"{list_name}/split", axis=axis)
        ]
        for reader, _ in graph.readers[list_name]:
            at = int(facts.values[reader.inputs[1]].item())
            edits.replaced[reader.index] = [_taken(reader, parts[at])]
    return graph.edited(edits) if edits.replaced else graph


def _taken(reader: Node, part: str) -> Any:
    return make_node("Identity", [part], reader.outputs, f"{reader.outputs[0]}/taken")


def _sizes(graph: Graph, facts: Facts, node: Node) -> list[int] | None:
    """How long the parts are, if that and all indices are known."""
    shape, name = facts.shapes.get(node.inputs[0]), node.inputs[1] if len(node.inputs) > 1 else ""
    given: Array | None = facts.values.get(name)
    readers = graph.readers.get(node.outputs[0], [])
    single = all(r.op == "SequenceAt" and r.inputs[1] in facts.values for r, _ in readers)
    moving = any(facts.is_dynamic(i) for r, _ in readers for i in r.inputs[1:])
    if shape is None or given is None or facts.is_dynamic(name) or not readers or not single or moving:
        return None
    if given.ndim:
        return [int(n) for n in given]
    length, each = shape[node.attrs.get("axis", 0)], int(given.item())
    return [min(each, length - start) for start in range(0, length, each)]
