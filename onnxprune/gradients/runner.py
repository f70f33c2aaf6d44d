"""A gradient graph, ready to be run step after step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..execution.sessions import open_session
from ..graph import Array, Edits, Graph
from ..runtime import Binding, ExecutionOptions
from .gradient_graph import GradientGraph


def with_weights(graph: Graph, weights: Mapping[str, Array]) -> Graph:
    """A network with other values of its weights, in the dtypes in which it stores them."""
    return graph.edited(Edits(constants={n: w.astype(graph.dtype(n)) for n, w in weights.items()}))


@dataclass(frozen=True)
class Stepped:
    """What one step gives.

    Attributes:
        loss: the loss.
        losses: float32, one number for each sample.
        gradients: tensor -> its gradient. Those of weights are the same arrays each time: the next step
            writes over them.
        gates: for every gate (samples, units).
        kept: further tensors that were asked for.
    """

    loss: float
    losses: Array
    gradients: Mapping[str, Array]
    gates: tuple[Array, ...]
    kept: Mapping[str, Array]


class Runner:
    """Runs a gradient graph; a step is one run of a session.

    Args:
        gradient: the graph.
        options: how to execute it.

    Attributes:
        weights: the weights that are inputs, in memory that the session reads: change them in place.

    Raises:
        InputError: ONNX Runtime can't load it.
    """

    def __init__(self, gradient: GradientGraph, options: ExecutionOptions | None = None) -> None:
        self._gradient = gradient
        self.weights: dict[str, Array] = {
            name: np.array(value, order="C") for name, value in gradient.weights.items()
        }
        buffers = {gradient.gradients[name]: np.zeros_like(w) for name, w in self.weights.items()}
        self._buffers = buffers
        session = open_session(gradient.graph, options)
        self._binding = Binding(session, self.weights, buffers)

    def step(self, feeds: Mapping[str, Array]) -> Stepped:
        """The loss and its gradients on a batch.

        Args:
            feeds: the network's inputs, and targets; what the graph does not need may be there, too.

        Raises:
            InputError: the feeds don't fit the graph, or a node fails.
        """
        found = self._gradient
        given = {name: feeds[name] for name in found.inputs if name in feeds}
        free = self._binding.run(given)
        every = {**free, **self._buffers}
        named = {found.loss, found.losses, *found.gradients.values(), *found.gates}
        return Stepped(
            float(every[found.loss]),
            np.atleast_1d(every[found.losses]),
            {name: every[output] for name, output in found.gradients.items()},
            tuple(every[output] for output in found.gates),
            {name: value for name, value in free.items() if name not in named},
        )
