"""BatchNormalization behind a convolution, as part of its weights, inside the graph.

    scale (W * x + b - mean) / sd + bias  =  (W scale / sd) * x + (b - mean) scale / sd + bias

All that remains of it works on weights, so that it costs nothing forward, and its parameters' gradients follow
from those of the weights: nothing as large as an activation is multiplied or kept for it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from ..graph import Edits, Facts, Graph, Node, make_node

_EPSILON = 1e-5


def with_folded_norms(graph: Graph, facts: Facts, asked: Collection[str]) -> Graph:
    """The graph with such normalisations in weights; the same graph if there are none.

    Args:
        graph: the graph.
        facts: its shapes.
        asked: tensors that must stay.
    """
    edits = Edits()
    for node in graph.nodes:
        conv = graph.producer.get(node.inputs[0]) if node.op == "BatchNormalization" else None
        if conv is not None and _folds(graph, facts, node, conv, asked):
            edits.replaced[conv.index] = []
            edits.replaced[node.index] = _folded(graph, facts, node, conv, edits)
    return graph.edited(edits) if edits.replaced else graph


def _folds(graph: Graph, facts: Facts, norm: Node, conv: Node, asked: Collection[str]) -> bool:
    inner = conv.outputs[0]
    inference = not norm.attrs.get("training_mode", 0) and len([o for o in norm.outputs if o]) == 1
    lone = len(graph.readers[inner]) == 1 and inner not in graph.outputs and inner not in asked
    same = {facts.dtypes.get(i) for i in (conv.inputs[1], *norm.inputs[1:])}
    return conv.op == "Conv" and inference and lone and len(same) == 1 and facts.shapes.get(inner) is not None


def _folded(graph: Graph, facts: Facts, norm: Node, conv: Node, edits: Edits) -> list[Any]:
    """The nodes in the place of both."""
    name = f"{norm.outputs[0]}/folded"
    scale, bias, mean, variance = norm.inputs[1:5]
    rank = len(facts.shapes[conv.outputs[0]] or ())
    dtype = facts.dtypes[variance]
    edits.added[f"{name}.epsilon"] = np.asarray(norm.attrs.get("epsilon", _EPSILON), dtype)
    edits.added[f"{name}.filters"] = np.asarray([-1, *[1] * (rank - 1)], np.int64)

    def node(op: str, inputs: list[str], suffix: str, **attrs: Any) -> Any:
        return make_node(op, inputs, [f"{name}.{suffix}"], f"{name}.{suffix}", **attrs)

    offset = f"{name}.negative"
    nodes = [
        node("Add", [variance, f"{name}.epsilon"], "variance"),
        node("Sqrt", [f"{name}.variance"], "deviation"),
        node("Div", [scale, f"{name}.deviation"], "slope"),
        node("Reshape", [f"{name}.slope", f"{name}.filters"], "slopes"),
        node("Mul", [conv.inputs[1], f"{name}.slopes"], "weight"),
    ]
    if len(conv.inputs) > 2 and conv.inputs[2]:
        nodes.append(node("Sub", [conv.inputs[2], mean], "centre"))
        offset = f"{name}.centre"
    else:
        nodes.append(node("Neg", [mean], "negative"))
    nodes += [
        node("Mul", [offset, f"{name}.slope"], "moved"),
        node("Add", [f"{name}.moved", bias], "bias"),
        make_node(
            "Conv",
            [conv.inputs[0], f"{name}.weight", f"{name}.bias"],
            [norm.outputs[0]],
            f"{name}.conv",
            **conv.attrs,
        ),
    ]
    return nodes
