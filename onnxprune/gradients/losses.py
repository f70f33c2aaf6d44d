"""Losses: small graphs that map tensors of a network, and targets, to one number for each sample.

They are ONNX graphs like any other, and are differentiated like any other: one of yours, from a file, stands
in their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import UsageError
from ..graph import Array, Facts, Graph, infer, input_specs, is_floating
from .assembly import Spec, blank, extended, joined
from .lengths import fixed_lengths
from .tape import FLOAT32, INT64, Tape, Tensor

_TINY = 1e-30


@dataclass(frozen=True)
class Loss:
    """What is made small.

    Attributes:
        graph: its first output is float32, one number for each sample, or a single one.
        facts: of that graph.
        targets: inputs that are no tensors of the network, to be fed beside its inputs.
    """

    graph: Graph
    facts: Facts
    targets: tuple[str, ...]


class _Sketch:
    """A loss under construction, on one tensor of a network."""

    def __init__(self, graph: Graph, facts: Facts, tensor: str) -> None:
        shape, dtype = facts.shapes.get(tensor), facts.dtypes.get(tensor)
        if shape is None or dtype is None or not is_floating(dtype):
            reason = "no loss can be taken here: it is no floating-point tensor of known shape"
            raise UsageError(reason, where=f"{graph.where}: '{tensor}'")
        self.graph = graph
        self.tape = Tape(graph.opset(), "loss.")
        self.dtype = np.dtype(np.float64) if dtype == np.float64 else FLOAT32
        self.shape = shape
        lengths = fixed_lengths(graph, facts)[tensor]
        self.symbols = [f"{tensor}[{a}]" if n is None else n for a, n in enumerate(lengths)]
        self.inputs: dict[str, Spec] = {tensor: (self.dtype, self.symbols)}
        self.z = self.tape.tensor(tensor, self.dtype)

    def target(self, name: str, *, without: int | None = None, dtype: np.dtype | None = None) -> Tensor:
        """A target as large as the tensor, perhaps without one axis."""
        shape = [n for a, n in enumerate(self.symbols) if a != without]
        self.inputs[name] = (dtype or self.dtype, shape)
        return self.tape.tensor(name, dtype or self.dtype)

    def done(self, value: Tensor) -> Loss:
        """The loss that is the mean of a tensor over all axes but the first."""
        rank = len(self.shape)
        losses = value.mean(list(range(1, rank))) if rank > 1 else value
        return self.of_samples(losses)

    def of_samples(self, losses: Tensor) -> Loss:
        """The loss that is a number for each sample."""
        losses = losses.cast(FLOAT32)
        graph = extended(
            blank(self.graph, "loss"), self.tape.nodes, self.tape.constants, self.inputs, [losses.name]
        )
        sizes = {s: n for s, n in zip(self.symbols, self.shape, strict=True) if isinstance(s, str)}
        return Loss(graph, infer(graph, sizes), tuple(self.inputs)[1:])


def squared_error(graph: Graph, facts: Facts, tensor: str, scale: Array | float = 1.0) -> Loss:
    """The squared error against a target, times a scale, on average over a sample's elements.

    Args:
        graph: the network.
        facts: its shapes.
        tensor: an output, or any other tensor; its target is fed as `<tensor>.target`, in its shape.
        scale: broadcast to the tensor; one over the target's variance makes errors relative.

    Raises:
        UsageError: the tensor isn't one of floating point and known shape.
    """
    sketch = _Sketch(graph, facts, tensor)
    difference = sketch.z - sketch.target(f"{tensor}.target")
    return sketch.done(difference * difference * sketch.z.like(scale))


def divergence(
    graph: Graph,
    facts: Facts,
    tensor: str,
    squash: Literal["softmax", "sigmoid"] = "softmax",
    *,
    axis: int = -1,
    given: Literal["logits", "probabilities"] = "logits",
) -> Loss:
    """The Kullback-Leibler divergence of what a network says from target probabilities.

    Args:
        graph: the network.
        facts: its shapes.
        tensor: logits: what a Softmax or Sigmoid is taken of (`before_squashing` finds it). The target is fed
            as `<tensor>.target`, in its shape.
        squash: what makes probabilities of logits: along one axis, or of each element.
        axis: that axis.
        given: what targets are.

    Returns:
        The mean over a sample's positions, or elements.

    Raises:
        UsageError: the tensor isn't one of floating point and known shape.
    """
    sketch = _Sketch(graph, facts, tensor)
    z, t = sketch.z, sketch.target(f"{tensor}.target")
    if squash == "sigmoid":
        if given == "logits":
            p = t.map("Sigmoid")
            information = -(p * (-t).map("Softplus") + (1.0 - p) * t.map("Softplus"))
        else:
            p = t
            information = p * _log(p) + (1.0 - p) * _log(1.0 - p)
        return sketch.done(information + z.map("Softplus") - p * z)
    rank = len(sketch.shape)
    log_q = _log_softmax(z, axis % rank, rank)
    if given == "logits":
        log_p = _log_softmax(t, axis % rank, rank)
        p = log_p.map("Exp")
    else:
        p = _last(t, axis % rank, rank)
        log_p = _log(p)
    return sketch.done((p * (log_p - log_q)).sum([rank - 1], keep=True))


def cross_entropy(graph: Graph, facts: Facts, tensor: str, *, axis: int = 1) -> Loss:
    """The cross entropy against class labels, on average over a sample's positions.

    Args:
        graph: the network.
        facts: its shapes.
        tensor: logits; labels are fed as `<tensor>.labels`, int64, in its shape without the axis of classes.
            A position with a negative label counts nothing.
        axis: of the classes.

    Raises:
        UsageError: the tensor isn't one of floating point and known shape, or the classes aren't fixed.
    """
    sketch = _Sketch(graph, facts, tensor)
    rank = len(sketch.shape)
    at = axis % rank
    if not isinstance(sketch.symbols[at], int):
        raise UsageError("the number of classes isn't fixed", where=f"{graph.where}: '{tensor}'")
    labels = sketch.target(f"{tensor}.labels", without=at, dtype=INT64)
    classes = sketch.tape.ints(range(sketch.shape[at]))
    is_it = sketch.tape.emit("Equal", labels.unsqueeze(rank - 1), classes, dtype=np.dtype(np.bool_))
    chosen = is_it.cast(sketch.dtype) * _log_softmax(sketch.z, at, rank)
    return sketch.done(-chosen.sum([rank - 1], keep=True))


def linear(graph: Graph, facts: Facts, tensor: str) -> Loss:
    """The inner product of a tensor with another, a single number: its gradients are vector-Jacobian products.

    The other is fed as `<tensor>.target`, in the tensor's shape.

    Raises:
        UsageError: the tensor isn't one of floating point and known shape.
    """
    sketch = _Sketch(graph, facts, tensor)
    product = sketch.z * sketch.target(f"{tensor}.target")
    return sketch.of_samples(product.sum(list(range(len(sketch.shape)))))


def custom(graph: Graph, facts: Facts, loss: Graph, tensors: Mapping[str, str] | None = None) -> Loss:
    """A loss from a graph of yours.

    Args:
        graph: the network.
        facts: its shapes.
        loss: its first output is a number, or one for each sample. Inputs that are named as an output of the
            network, or any other tensor of it, are that; others are targets.
        tensors: input of the loss -> tensor of the network, where names differ.

    Raises:
        UsageError: nothing of the network enters it, or what enters has another dtype.
    """
    renamed = _with_inputs(loss, tensors or {})
    known = {*graph.outputs, *graph.producer}
    specs = {s.name: s for s in input_specs(renamed)}
    entering = [name for name in specs if name in known]
    if not entering:
        hint = f"name an input as an output: {', '.join(graph.outputs)}"
        raise UsageError("no tensor of the network enters the loss", where=loss.where, hint=hint)
    sizes: dict[str, int] = {}
    for name in entering:
        dtype, shape = facts.dtypes.get(name), facts.shapes.get(name)
        if dtype is not None and dtype != specs[name].dtype and not is_floating(dtype):
            reason = f"input '{name}' is {specs[name].dtype}, and the network gives {dtype}"
            raise UsageError(reason, where=loss.where)
        for symbol, length in zip(specs[name].shape, shape or (), strict=False):
            if isinstance(symbol, str):
                sizes[symbol] = length
    targets = tuple(name for name in specs if name not in known)
    return Loss(renamed, infer(renamed, sizes), targets)


def weighted(losses: Sequence[tuple[float, Loss]]) -> Loss:
    """A sum of losses, each with its weight.

    Raises:
        UsageError: one is a number for each sample, and another isn't, or of other samples.
    """
    shapes = {loss.facts.shapes.get(loss.graph.outputs[0]) for _, loss in losses}
    if len(shapes) > 1:
        raise UsageError("losses of different numbers of samples can't be added", where="loss")
    whole = losses[0][1].graph
    terms: list[str] = []
    for index, (_, loss) in enumerate(losses):
        if index == 0:
            terms.append(loss.graph.outputs[0])
            continue
        whole, names = joined(whole, loss.graph, f"loss{index}.")
        terms.append(names[loss.graph.outputs[0]])
    tape = Tape(whole.opset(), "sum.")
    total: Tensor | None = None
    for (weight, _), name in zip(losses, terms, strict=True):
        term = tape.tensor(name, FLOAT32) * weight
        total = term if total is None else total + term
    if total is None:
        raise ValueError("no losses")
    graph = extended(whole, tape.nodes, tape.constants, {}, [total.name])
    sizes = {k: n for _, loss in losses for k, n in loss.facts.dims.items()}
    targets = dict.fromkeys(t for _, loss in losses for t in loss.targets)
    return Loss(graph, infer(graph, sizes), tuple(targets))


@dataclass(frozen=True)
class Squashed:
    """Where logits are.

    Attributes:
        tensor: logits.
        squash: what probabilities are made with.
        axis: of a softmax.
    """

    tensor: str
    squash: Literal["softmax", "sigmoid"]
    axis: int


def before_squashing(graph: Graph, output: str) -> Squashed | None:
    """What the Softmax or Sigmoid at the end of a graph is taken of; nothing if it ends otherwise."""
    node = graph.producer.get(output)
    while node is not None and node.op in ("Identity", "Cast"):
        node = graph.producer.get(node.inputs[0])
    if node is None or node.op not in ("Softmax", "LogSoftmax", "Sigmoid"):
        return None
    if node.op == "Sigmoid":
        return Squashed(node.inputs[0], "sigmoid", -1)
    return Squashed(node.inputs[0], "softmax", int(node.attrs.get("axis", -1 if graph.opset() >= 13 else 1)))


def _with_inputs(loss: Graph, tensors: Mapping[str, str]) -> Graph:
    """The graph with other names for some inputs."""
    if not tensors:
        return loss
    model = type(loss.model)()
    model.CopyFrom(loss.model)
    for value in model.graph.input:
        value.name = tensors.get(value.name, value.name)
    for node in model.graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = tensors.get(name, name)
    return Graph(model, loss.path)


def _log(p: Tensor) -> Tensor:
    return p.tape.emit("Max", p, p.like(_TINY)).map("Log")


def _last(x: Tensor, axis: int, rank: int) -> Tensor:
    """With the axis last."""
    return x.transpose(*(a for a in range(rank) if a != axis), axis)


def _log_softmax(x: Tensor, axis: int, rank: int) -> Tensor:
    """Along an axis, which is the last one then."""
    return _last(x, axis, rank).map("LogSoftmax", axis=rank - 1)
