"""BatchNormalization behind a convolution, as part of its weights, inside the graph.

    scale (W * x + b - mean) / sd + bias  =  (W scale / sd) * x + (b - mean) scale / sd + bias

All that remains of it works on weights: it costs nothing forward, and its parameters' gradients follow from
those of the weights, so that nothing as large as an activation is multiplied or kept for it.
"""

from __future__ import annotations

from collections.abc import Collection

from ..graph import Edits, Facts, Graph, Node
from .assembly import written
from .tape import Tape

_EPSILON = 1e-5


def with_folded_norms(graph: Graph, facts: Facts, asked: Collection[str]) -> Graph:
    """The graph with such normalisations in weights; the same graph if there are none.

    Args:
        graph: the graph.
        facts: its shapes.
        asked: tensors whose nodes must stay as they are.
    """
    edits = Edits()
    for node in graph.nodes:
        conv = graph.producer.get(node.inputs[0]) if node.op == "BatchNormalization" else None
        if conv is not None and _folds(graph, facts, node, conv, asked):
            edits.replaced[conv.index] = []
            _replace(edits, graph.opset(), facts, node, conv)
    return graph.edited(edits) if edits.replaced else graph


def _folds(graph: Graph, facts: Facts, norm: Node, conv: Node, asked: Collection[str]) -> bool:
    if conv.op != "Conv":
        return False
    inner = conv.outputs[0]
    inference = not norm.attrs.get("training_mode", 0) and len([o for o in norm.outputs if o]) == 1
    lone = len(graph.readers[inner]) == 1 and inner not in graph.outputs and inner not in asked
    one_dtype = len({facts.dtypes.get(i) for i in (conv.inputs[1], *norm.inputs[1:])}) == 1
    return inference and lone and one_dtype and facts.shapes.get(inner) is not None


def _replace(edits: Edits, opset: int, facts: Facts, norm: Node, conv: Node) -> None:
    """Put a convolution of scaled weights in the place of a normalisation."""
    tape = Tape(opset, f"{norm.outputs[0]}/folded.")
    dtype = facts.dtypes[norm.inputs[1]]
    scale, bias, mean, variance = (tape.tensor(name, dtype) for name in norm.inputs[1:5])
    x, weight = (tape.tensor(name, dtype) for name in conv.inputs[:2])
    slope = scale / (variance + norm.attrs.get("epsilon", _EPSILON)).map("Sqrt")
    has_bias = len(conv.inputs) > 2 and bool(conv.inputs[2])
    offset = tape.tensor(conv.inputs[2], dtype) - mean if has_bias else -mean
    rank = len(facts.shapes[conv.outputs[0]] or ())
    filters = weight * slope.reshape([-1, *[1] * (rank - 1)])
    y = tape.emit("Conv", x, filters, offset * slope + bias, attrs=conv.attrs)
    edits.replaced[norm.index] = written(tape, y, norm.outputs[0])
    edits.added.update(tape.constants)
