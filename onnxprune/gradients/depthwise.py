"""Depthwise convolutions of small images as products of matrices, where their weights move.

ONNX Runtime has fast kernels for depthwise convolutions of constant weights only; with others it runs one
tiny product for each channel of each sample. For images of a few positions one product for each channel is
several times as fast, forward and backward: x (samples, positions) times T (positions, positions), where
T[p, q] is the weight of the tap through which q sees p. T itself is a product of the kernel with a constant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from ..graph import Array, Edits, Facts, Graph, Node
from .assembly import written
from .lengths import Lengths, dependent_tensors, fixed_lengths
from .tape import FLOAT32, Tape

_MOST_PAIRS = 10_000
"""Pairs of positions up to which multiplying with all of them is faster."""


def with_small_depthwise(
    graph: Graph, facts: Facts, moving: Collection[str], asked: Collection[str] = ()
) -> Graph:
    """The graph with such convolutions as products; the same graph if there are none.

    Args:
        graph: the graph.
        facts: its shapes.
        moving: constants that will be inputs.
        asked: tensors whose nodes must stay as they are.
    """
    depends = dependent_tensors(graph, moving)
    found = [
        n
        for n in graph.nodes
        if n.op == "Conv" and n.inputs[1] in depends and n.outputs[0] not in asked and _is_depthwise(facts, n)
    ]
    if not found:
        return graph
    lengths, edits = fixed_lengths(graph, facts), Edits()
    for node in found:
        pattern = _pattern(node, lengths)
        if pattern is not None:
            _replace(edits, graph.opset(), node, pattern, lengths)
    return graph.edited(edits) if edits.replaced else graph


def _is_depthwise(facts: Facts, node: Node) -> bool:
    source, weight = facts.shapes.get(node.inputs[0]), facts.shapes.get(node.inputs[1])
    group = node.attrs.get("group", 1)
    fits = source is not None and weight is not None and source[1] == group > 1 and weight[:2] == (group, 1)
    return fits and facts.dtypes.get(node.inputs[0]) == FLOAT32


def _pattern(node: Node, lengths: Mapping[str, Lengths]) -> Array | None:
    """Bool (taps, positions read, positions written): what each tap connects; nothing if that is too much."""
    sides = [lengths.get(name) for name in (node.inputs[0], node.outputs[0], node.inputs[1])]
    if any(s is None or None in s[2:] for s in sides) or node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    large, small, kernel = ([n or 0 for n in (s or ())[2:]] for s in sides)
    if np.prod(large) * np.prod(small) > _MOST_PAIRS:
        return None
    rank = len(kernel)
    pads = node.attrs.get("pads") or [0] * 2 * rank
    strides = node.attrs.get("strides") or [1] * rank
    dilations = node.attrs.get("dilations") or [1] * rank
    whole: Array = np.ones((1, 1, 1), bool)
    for axis in range(rank):
        windows = np.arange(small[axis]) * strides[axis] - pads[axis]
        at = windows + np.arange(kernel[axis])[:, None] * dilations[axis]
        one = at[:, None, :] == np.arange(large[axis])[:, None]
        whole = np.einsum("tpq,kij->tkpiqj", whole, one)
        whole = whole.reshape([int(np.prod(whole.shape[k : k + 2])) for k in (0, 2, 4)])
    return whole


def _replace(edits: Edits, opset: int, node: Node, pattern: Array, lengths: Mapping[str, Lengths]) -> None:
    """Put a product in the place of a convolution."""
    out = node.outputs[0]
    tape = Tape(opset, f"{out}/product.")
    x, w = (tape.tensor(name, FLOAT32) for name in node.inputs[:2])
    channels, small = lengths[node.inputs[1]][0] or 0, [n or 0 for n in lengths[out][2:]]
    taps, read, result = pattern.shape
    matrix = w.reshape([channels, taps]).matmul(tape.constant(pattern.reshape(taps, -1)))
    turned = x.reshape([0, channels, read]).transpose(1, 0, 2)
    product = turned.matmul(matrix.reshape([channels, read, result]))
    y = product.transpose(1, 0, 2).reshape([0, channels, *small])
    if len(node.inputs) > 2 and node.inputs[2]:
        y = y + tape.tensor(node.inputs[2], FLOAT32).reshape([channels, *[1] * len(small)])
    edits.replaced[node.index] = written(tape, y, out)
    edits.added.update(tape.constants)
