"""Depthwise convolutions of small images as products of matrices, where their weights move.

ONNX Runtime has fast kernels for depthwise convolutions of constant weights only; with others it runs one tiny
product for each channel of each sample. For images of a few positions, one product for each channel is several
times as fast, forward and backward: x (samples, positions) T (positions, positions), with T[p, q] the weight
of the tap through which q sees p, which is itself a product of the kernel with a constant.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from ..graph import Array, Edits, Facts, Graph, Node, make_node
from .lengths import Lengths, fixed_lengths

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
    depends = set(moving)
    for node in graph.nodes:
        if any(i in depends for i in node.inputs):
            depends.update(node.outputs)
    found = [
        n for n in graph.nodes if n.op == "Conv" and n.inputs[1] in depends and n.outputs[0] not in asked
    ]
    if not found:
        return graph
    lengths = fixed_lengths(graph, facts)
    edits = Edits()
    for node in found:
        pattern = _pattern(graph, node, lengths)
        if pattern is not None:
            edits.replaced[node.index] = _product(node, pattern, lengths, edits)
    return graph.edited(edits) if edits.replaced else graph


def _pattern(graph: Graph, node: Node, lengths: dict[str, Lengths]) -> Array | None:
    """bool (taps, positions read, positions written): which tap connects which; nothing if it is no such node."""
    source, result = lengths.get(node.inputs[0]), lengths.get(node.outputs[0])
    shape = lengths.get(node.inputs[1])
    if source is None or result is None or shape is None or None in shape:
        return None
    if node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    rank = len(shape) - 2
    group = node.attrs.get("group", 1)
    small, large = result[2:], source[2:]
    if group == 1 or shape[:2] != (group, 1) or source[1] != group or None in small or None in large:
        return None
    if np.prod([n or 0 for n in small]) * np.prod([n or 0 for n in large]) > _MOST_PAIRS:
        return None
    pads = node.attrs.get("pads") or [0] * 2 * rank
    strides = node.attrs.get("strides") or [1] * rank
    dilations = node.attrs.get("dilations") or [1] * rank
    whole: Array = np.ones((1, 1, 1), bool)
    for axis in range(rank):
        n, m, k = large[axis] or 0, small[axis] or 0, shape[2 + axis] or 0
        at = np.arange(m) * strides[axis] - pads[axis] + np.arange(k)[:, None] * dilations[axis]
        row = at[:, None, :] == np.arange(n)[None, :, None]
        whole = np.einsum("tpq,kij->tkpiqj", whole, row).reshape([a * b for a, b in zip(whole.shape, row.shape)])
    return whole


def _product(node: Node, pattern: Array, lengths: dict[str, Lengths], edits: Edits) -> list[Any]:
    """The nodes in the place of a convolution."""
    out = node.outputs[0]
    taps, read, written = pattern.shape
    channels = lengths[node.inputs[0]][1] or 0
    rank = len(lengths[out]) - 2
    name = f"{out}/product"

    def constant(suffix: str, value: Array) -> str:
        edits.added[f"{name}.{suffix}"] = value
        return f"{name}.{suffix}"

    def ints(suffix: str, values: list[int]) -> str:
        return constant(suffix, np.asarray(values, np.int64))

    flat = [0, channels, -1]
    small = [n or 0 for n in lengths[out][2:]]
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Reshape", [node.inputs[0], ints("flat", flat)], "x", {}),
        ("Transpose", [f"{name}.x"], "turned", {"perm": [1, 0, 2]}),
        ("Reshape", [node.inputs[1], ints("kernel", [channels, taps])], "w", {}),
        ("MatMul", [f"{name}.w", constant("taps", pattern.reshape(taps, -1).astype(np.float32))], "t", {}),
        ("Reshape", [f"{name}.t", ints("square", [channels, read, written])], "matrix", {}),
        ("MatMul", [f"{name}.turned", f"{name}.matrix"], "y", {}),
        ("Transpose", [f"{name}.y"], "back", {"perm": [1, 0, 2]}),
    ]
    last = "shaped" if len(node.inputs) > 2 and node.inputs[2] else ""
    steps.append(("Reshape", [f"{name}.back", ints("shape", [0, channels, *small])], last, {}))
    if last:
        along = ints("along", [channels, *[1] * rank])
        steps.append(("Reshape", [node.inputs[2], along], "bias", {}))
        steps.append(("Add", [f"{name}.shaped", f"{name}.bias"], "", {}))
    return [
        make_node(op, inputs, [f"{name}.{suffix}" if suffix else out], f"{name}.{suffix or 'done'}", **attrs)
        for op, inputs, suffix, attrs in steps
    ]
