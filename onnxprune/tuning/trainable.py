"""What of a network is trained: weights of linear layers, biases, scales; nothing that isn't a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import Infeasible
from ..gradients import Obstacle, differentiable
from ..graph import Facts, Graph, is_floating
from ..ops.layers import LINEAR

_NORMS: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "PRelu": (1,),
}
"""Operator -> inputs that are learned, and not statistics."""

_HANDED_ON = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

_ELEMENTWISE = frozenset({"Add", "Mul", "Sub", "Div"})


@dataclass(frozen=True)
class Trainable:
    """What is trained.

    Attributes:
        weights: constants that are matrices, kernels or the like, in the order of the graph.
        vectors: biases and scales: one number for each channel.
        fixed: constants that would be trained -> the node in the way of their gradient.
    """

    weights: tuple[str, ...]
    vectors: tuple[str, ...]
    fixed: Mapping[str, Obstacle] = field(default_factory=dict)

    @property
    def all(self) -> tuple[str, ...]:
        """Both."""
        return (*self.weights, *self.vectors)


def trainable(graph: Graph, facts: Facts) -> Trainable:
    """What of a network can be trained.

    Statistics of normalisations stay, and so do tables, grids and masks that are added or multiplied: only
    what has one number for each channel counts as a bias or a scale there.

    Args:
        graph: the network.
        facts: its shapes.

    Raises:
        Infeasible: nothing can be.
    """
    known = {name: _is_vector(graph, name) for name in graph.constants if _is_parameter(graph, name)}
    coverage = differentiable(graph, facts, known)
    if not coverage.differentiable:
        reasons = [f": {o}" for o in coverage.obstacles][:1]
        integers = any(node.op in ("DequantizeLinear", "MatMulInteger") for node in graph.nodes)
        hint = "fine-tune before quantising" if integers else None
        reason = f"none of its weights can be trained{''.join(reasons)}"
        raise Infeasible(reason, where=graph.where, hint=hint)
    return Trainable(
        tuple(n for n in coverage.differentiable if not known[n]),
        tuple(n for n in coverage.differentiable if known[n]),
        {name: obstacles[0] for name, obstacles in coverage.fixed.items()},
    )


def _is_parameter(graph: Graph, name: str) -> bool:
    if not graph.is_weight(name) or not is_floating(graph.dtype(name)):
        return False
    return _is_learned(graph, name, name)


def _is_learned(graph: Graph, name: str, tensor: str) -> bool:
    """Whether all that read a constant, or what hands it on as `tensor`, learn it."""
    readers = graph.readers.get(tensor, [])
    return bool(readers) and all(
        _is_learned(graph, name, node.outputs[0])
        if node.op in _HANDED_ON
        else _learns(graph, name, node.op, index)
        for node, index in readers
    )


def _learns(graph: Graph, name: str, op: str, index: int) -> bool:
    """Whether an operator learns what it reads there."""
    row = LINEAR.get(op)
    if row is not None:
        return index in {*row.weights, *row.states, *row.vectors, row.bias}
    if op in _NORMS:
        return index in _NORMS[op]
    return op in _ELEMENTWISE and _is_vector(graph, name) and bool(np.isfinite(graph.array(name)).all())


def _is_vector(graph: Graph, name: str) -> bool:
    shape = graph.shape_of_constant(name)
    return sum(n > 1 for n in shape) <= 1
