"""Products of the Hessian with a vector: the gradient of the inner product of the gradient with it.

Pearlmutter 1994, Fast Exact Multiplication by the Hessian, taken as reverse over reverse: a graph with
gradients is a graph, and most of what rules emit has rules itself. What has none (the loops of recurrent
layers) is refused as any obstacle is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..graph import Facts, Graph, infer
from .gradient_graph import GradientGraph, backward
from .losses import Loss, linear


@dataclass(frozen=True)
class HessianGraph:
    """A graph that multiplies with the Hessian of a loss.

    Attributes:
        gradient: the graph; its `gradients` are the product, its `loss` is the inner product of gradient and
            vector.
        directions: tensor -> the input that takes its part of the vector, in its shape.
    """

    gradient: GradientGraph
    directions: Mapping[str, str]


def hessian_product(
    graph: Graph,
    facts: Facts,
    loss: Loss,
    wrt: Sequence[str],
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> HessianGraph:
    """The Hessian of a loss with respect to weights, times a vector, as a graph.

    Args:
        graph: the network.
        facts: its shapes.
        loss: the loss.
        wrt: constants and inputs of floating-point numbers.
        reduction: of the losses of samples.

    Raises:
        Infeasible: something can't be differentiated, or not twice.
        UsageError: a tensor does not exist or isn't one of floating point.
    """
    first = backward(graph, facts, loss, wrt, reduction=reduction)
    known = infer(first.graph, {**loss.facts.dims, **facts.dims})
    product = linear(first.graph, known, *(first.gradients[name] for name in wrt))
    second = backward(first.graph, known, product, wrt)
    directions = {name: f"{first.gradients[name]}.target" for name in wrt}
    inputs = tuple(name for name in second.inputs if name not in first.weights)
    return HessianGraph(replace(second, inputs=inputs, weights=first.weights), directions)
