"""Weights drawn anew, as for training from scratch: only the architecture of a pruned model is kept.

Source: Liu et al. 2019, Rethinking the Value of Network Pruning; for the spread of weights He et al. 2015,
Delving Deep into Rectifiers, equation 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from ..errors import InputError
from ..graph import Array, Edits, Graph, Node, Shape, is_floating

FanIn = Callable[[Node, Shape], int]

_ONE, _ZERO = 1.0, 0.0


def _transposed(node: Node, shape: Shape) -> int:
    return shape[0] // int(node.attrs.get("group", 1)) * math.prod(shape[2:])


_WEIGHTS: Mapping[tuple[str, int], FanIn] = {
    ("Conv", 1): lambda _, shape: math.prod(shape[1:]),
    ("ConvTranspose", 1): _transposed,
    ("Gemm", 0): lambda node, shape: shape[0 if node.attrs.get("transA", 0) else 1],
    ("Gemm", 1): lambda node, shape: shape[1 if node.attrs.get("transB", 0) else 0],
    ("MatMul", 0): lambda _, shape: shape[-1],
    ("MatMul", 1): lambda _, shape: shape[-2] if len(shape) > 1 else shape[0],
    **{(op, i): lambda _, shape: shape[-1] for op in ("LSTM", "GRU", "RNN") for i in (1, 2)},
}
"""How many values each output sums over, by operator and input."""

_FILLED: Mapping[tuple[str, int], float] = {
    ("Conv", 2): _ZERO,
    ("ConvTranspose", 2): _ZERO,
    ("Gemm", 2): _ZERO,
    **{(op, 3): _ZERO for op in ("LSTM", "GRU", "RNN")},
    ("LSTM", 7): _ZERO,
    **{("BatchNormalization", i): v for i, v in enumerate((_ONE, _ZERO, _ZERO, _ONE), 1)},
    **{
        (op, i): v
        for op in ("InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization")
        for i, v in ((1, _ONE), (2, _ZERO))
    },
}
"""Biases, and what normalisations scale and shift by."""


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
            fan_in = _WEIGHTS.get((node.op, i))
            if fan_in is not None:
                spread = math.sqrt(2 / max(fan_in(node, shape), 1))
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


def _is_bias(graph: Graph, node: Node, i: int) -> bool:
    """Whether a constant vector is added to what a matrix product gives."""
    if node.op != "Add" or len(graph.shape_of_constant(node.inputs[i])) != 1:
        return False
    made = graph.producer.get(node.inputs[1 - i])
    return made is not None and made.op == "MatMul"
