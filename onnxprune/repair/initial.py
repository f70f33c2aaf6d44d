"""Weights drawn anew, as for training from scratch: only the architecture of a pruned model is kept.

Source: Liu et al. 2019, Rethinking the Value of Network Pruning; for the spread of weights He et al. 2015,
Delving Deep into Rectifiers, equation 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..errors import InputError
from ..graph import Array, Edits, Graph, Node, Shape, is_floating
from ..ops.layers import LINEAR

_SCALES = ("InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization")

_FILLED: Mapping[tuple[str, int], float] = {
    **{("BatchNormalization", i): value for i, value in enumerate((1.0, 0.0, 0.0, 1.0), 1)},
    **{(op, i): value for op in _SCALES for i, value in ((1, 1.0), (2, 0.0))},
}
"""What normalisations scale and shift by."""


def drawn(graph: Graph, seed: int) -> tuple[Graph, tuple[str, ...]]:
    """The graph with weights of normal distribution, variance 2 / fan-in, and biases of zero.

    Normalisations neither scale nor shift. What is added right behind a matrix product is a bias. All other
    constants stay as they are: they may be mathematics.

    Args:
        graph: the graph.
        seed: of the draw; weights are drawn in the order of the nodes.

    Returns:
        The graph, and the names of the weights that stay as they are.

    Raises:
        InputError: it has no weights to draw.
    """
    random = np.random.default_rng(seed)
    new: dict[str, Array] = {}
    weights = 0
    for node in graph.nodes:
        for i, name in enumerate(node.inputs):
            if name in new or name not in graph.constants or not is_floating(graph.dtype(name)):
                continue
            shape, dtype = graph.shape_of_constant(name), graph.dtype(name)
            fan_in = _fan_in(node, i, shape)
            if fan_in is not None:
                spread = math.sqrt(2 / max(fan_in, 1))
                new[name] = (random.standard_normal(shape) * spread).astype(dtype)
                weights += 1
            elif (node.op, i) in _FILLED:
                new[name] = np.full(shape, _FILLED[node.op, i], dtype)
            elif _is_bias(graph, node, i):
                new[name] = np.zeros(shape, dtype)
    if not weights:
        raise InputError("has no weights that could be drawn anew", where=graph.where)
    stay = tuple(name for name in graph.constants if graph.is_weight(name) and name not in new)
    return graph.edited(Edits(constants=new)), stay


def _fan_in(node: Node, i: int, shape: Shape) -> int | None:
    """How many values each output sums over, if the input holds weights."""
    row = LINEAR.get(node.op)
    if row is None or i not in (*row.weights, *row.states):
        return None
    layout = row.layout(node, i, shape)
    if layout is not None:
        return layout.fan_in(shape)
    return shape[-2 if i else -1] if len(shape) > 1 else shape[0]  # a stack of matrices


def _is_bias(graph: Graph, node: Node, i: int) -> bool:
    """Whether a constant is a bias: of a linear layer, or a vector that is added to a matrix product."""
    row = LINEAR.get(node.op)
    if row is not None:
        return i == row.bias or i in row.vectors
    if node.op != "Add" or len(graph.shape_of_constant(node.inputs[i])) != 1:
        return False
    made = graph.producer.get(node.inputs[1 - i])
    return made is not None and made.op == "MatMul"
