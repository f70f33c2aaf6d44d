"""What a network says: at which tensors a loss of its outputs is taken, and of which kind each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..graph import Array, Graph, is_floating
from ..quality.loss import are_scores, squashed
from ..types import Floats
from .losses import before_squashing

Kind = Literal["softmax", "sigmoid", "values"]


@dataclass(frozen=True)
class Head:
    """One output of a network, or what its last Softmax or Sigmoid is taken of.

    Attributes:
        tensor: its name.
        kind: `softmax`: logits of classes along `axis`; `sigmoid`: logits of yes and no each; `values`:
            anything else.
        axis: of the classes.
        shape: of a batch.
    """

    tensor: str
    kind: Kind
    axis: int = 1
    shape: tuple[int, ...] = ()

    @property
    def is_classes(self) -> bool:
        """Whether a sample is in one of several classes."""
        return self.kind == "softmax" and self.axis == 1 and all(n == 1 for n in self.shape[2:])


def taps(graph: Graph) -> tuple[str, ...]:
    """The tensors that heads may be at."""
    found: dict[str, None] = {}
    for output in graph.outputs:
        before = before_squashing(graph, output)
        found.update(dict.fromkeys((*squashed(graph, output), output)))
        if before is not None:
            found.setdefault(before.tensor)
    return tuple(found)


def heads(graph: Graph, outputs: Mapping[str, Array], count: int) -> tuple[Head, ...]:
    """One head for each output of floating-point numbers.

    Args:
        graph: the network.
        outputs: what `taps` hold for a batch.
        count: samples of that batch.
    """
    found: dict[str, Head] = {}
    for output in graph.outputs:
        if is_floating(outputs[output].dtype):
            head = _head(graph, outputs, output, count)
            found.setdefault(head.tensor, head)
    return tuple(found.values())


def own_answer(graph: Graph, outputs: Mapping[str, Array], count: int) -> tuple[Head, ...]:
    """The first class scores of a network; if it gives none, all its outputs as values."""
    for output in graph.outputs:
        for name in (*squashed(graph, output), output):
            if are_scores(outputs[name], count):
                return (Head(name, "softmax", 1, outputs[name].shape),)
    floats = [o for o in graph.outputs if is_floating(outputs[o].dtype)]
    return tuple(Head(o, "values", 1, outputs[o].shape) for o in floats)


def _head(graph: Graph, outputs: Mapping[str, Array], output: str, count: int) -> Head:
    before = before_squashing(graph, output)
    if before is not None:
        shape = outputs[before.tensor].shape
        axis = before.axis % len(shape) if shape else 0
        flattened = graph.opset() < 13 and any(n > 1 for n in shape[axis + 1 :])
        if before.squash == "sigmoid" or not flattened:
            return Head(before.tensor, before.squash, axis, shape)
    elif are_scores(outputs[output], count):
        return Head(output, "softmax", 1, outputs[output].shape)
    return Head(output, "values", 1, outputs[output].shape)


# ---------------------------------------------------------------- derivatives at a head


def probabilities(z: Floats, axis: int) -> Floats:
    """Softmax along an axis."""
    e = np.exp(z - z.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True))


def entropy_slope(z: Floats, classes: Array, axis: int) -> Floats:
    """The gradient of the cross entropy against classes, with all its digits where the network is sure.

    Args:
        z: logits.
        classes: int64, as `z` without the axis of classes; negative ones don't count.
        axis: that axis.
    """
    p = probabilities(z, axis)
    own = np.expand_dims(np.maximum(classes, 0), axis)
    np.put_along_axis(p, own, 0, axis)
    np.put_along_axis(p, own, -p.sum(axis, keepdims=True), axis)
    return np.where(np.expand_dims(classes, axis) < 0, 0, p)


def factor(head: Head, z: Floats, scale: float, way: Floats) -> Floats:
    """F times a vector, for F Fᵀ the Hessian at a head of its divergence from what it says.

    For ways of covariance 1 the squared inner product with a Jacobian is that Hessian, on average.

    Args:
        head: the head.
        z: what it says.
        scale: what the divergence is multiplied by; of values it is half the squared error.
        way: of the shape of `z`.
    """
    way = np.sqrt(scale) * way
    if head.kind == "softmax":
        p = probabilities(z, head.axis)
        root = np.sqrt(p) * way
        return np.asarray(root - p * root.sum(head.axis, keepdims=True))
    if head.kind == "sigmoid":
        p = 1 / (1 + np.exp(-np.abs(z)))
        return np.asarray(np.sqrt(p * (1 - p)) * way)
    return way


def names(found: Sequence[Head]) -> tuple[str, ...]:
    """The tensors of heads."""
    return tuple(head.tensor for head in found)
