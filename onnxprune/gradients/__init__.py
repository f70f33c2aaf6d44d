"""A graph into one that also computes the gradients of a loss, for ONNX Runtime to run.

    graph, facts = load("model.onnx"), infer(graph)
    loss = cross_entropy(graph, facts, "logits")
    runner = Runner(backward(graph, facts, loss, weights_of(graph)))
    step = runner.step({"image": images, "logits.labels": labels})

In: a graph, its facts, a loss and names of tensors; no framework. Out: a `GradientGraph`, which a
`Runner` runs, or an error that names the node that can't be differentiated.

- `prepare` rewrites what has no gradient otherwise; a loss is a graph joined to the network (`losses`);
- `reverse` walks back from the loss; one rule per operator (`rules`) writes the cotangents of a node's
  inputs as arithmetic on a `tape`; `assembly` makes a graph of the tape, in which the weights are inputs;
- `runner` binds the weights once and runs steps; `coverage` lists what is differentiable, and what is
  not;
- a new operator is a function in a family of `rules` with its entry in `RULES`, and a row in
  `tests/test_gradients_rules.py`.

Why rules of our own: onnx-ad 0.3.0 (MIT), the one library that does this to ONNX graphs, was read and
measured. It refuses the weights of grouped convolutions, gives the running statistics of a
BatchNormalization no gradient, and wants fixed shapes; and its axis of seeds behind every tensor makes a
step cost 8 to 12 inferences on the networks in models/ that it takes, against 5 to 7 here. Changing that
would be to write it anew.
"""

from __future__ import annotations

from .coverage import Coverage, differentiable, weights_of
from .gradient_graph import Gate, GradientGraph, backward
from .losses import (
    Loss,
    Squashed,
    before_squashing,
    cross_entropy,
    custom,
    divergence,
    linear,
    squared_error,
    weighted,
)
from .prepare import prepared
from .reverse import Obstacle
from .runner import Runner, Stepped, with_weights
from .second import HessianGraph, hessian_product

__all__ = [
    "Coverage",
    "Gate",
    "GradientGraph",
    "HessianGraph",
    "Loss",
    "Obstacle",
    "Runner",
    "Squashed",
    "Stepped",
    "backward",
    "before_squashing",
    "cross_entropy",
    "custom",
    "differentiable",
    "divergence",
    "hessian_product",
    "linear",
    "prepared",
    "squared_error",
    "weighted",
    "weights_of",
    "with_weights",
]
