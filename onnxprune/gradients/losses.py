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
from .tape import BOOL, FLOAT32, INT64, Tape, Tensor

_TINY = 1e-30

_HANDED_ON = frozenset(
    {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
"""What gives each of its numbers on, in another place perhaps."""


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
    """A loss under construction, on tensors of a network."""

    def __init__(self, graph: Graph, facts: Facts) -> None:
        self.tape = Tape(graph.opset(), "loss.")
        self._graph, self._facts = graph, facts
        self._lengths = fixed_lengths(graph, facts)
        self._inputs: dict[str, Spec] = {}
        self._targets: list[str] = []
        self._sizes: dict[str, int] = {}

    def tensor(self, name: str) -> Tensor:
        """A tensor of the network.

        Raises:
            UsageError: it isn't one of floating point and known shape.
        """
        shape, dtype = self._facts.shapes.get(name), self._facts.dtypes.get(name)
        if shape is None or dtype is None or not is_floating(dtype):
            reason = "no loss can be taken here: it is no floating-point tensor of known shape"
            raise UsageError(reason, where=f"{self._graph.where}: '{name}'")
        symbols = self.symbols(name)
        self._sizes |= {s: n for s, n in zip(symbols, shape, strict=True) if isinstance(s, str)}
        wide = np.dtype(np.float64) if dtype == np.float64 else FLOAT32
        self._inputs[name] = (wide, symbols)
        return self.tape.tensor(name, wide)

    def symbols(self, name: str) -> list[int | str]:
        """The lengths of a tensor's axes; a name where one isn't fixed."""
        return [f"{name}[{a}]" if n is None else n for a, n in enumerate(self._lengths[name])]

    def target(self, z: Tensor, kind: str = "target", *, without: int | None = None) -> Tensor:
        """A target as large as a tensor; labels are int64 and lack one axis."""
        name = f"{z.name}.{kind}"
        dtype = z.dtype if without is None else INT64
        self._inputs[name] = (dtype, [n for a, n in enumerate(self.symbols(z.name)) if a != without])
        self._targets.append(name)
        return self.tape.tensor(name, dtype)

    def by_sample(self, value: Tensor, rank: int) -> Loss:
        """The loss that is the mean of a tensor over all axes but the first."""
        return self.done(value.mean(list(range(1, rank))) if rank > 1 else value)

    def done(self, losses: Tensor) -> Loss:
        """The loss that a tensor is."""
        losses = losses.cast(FLOAT32)
        bare = blank(self._graph, "loss")
        graph = extended(bare, self.tape.nodes, self.tape.constants, self._inputs, [losses.name])
        return Loss(graph, infer(graph, self._sizes), tuple(self._targets))


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
    sketch = _Sketch(graph, facts)
    z = sketch.tensor(tensor)
    difference = z - sketch.target(z)
    return sketch.by_sample(difference * difference * z.like(scale), _rank(facts, tensor))


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
    sketch, rank = _Sketch(graph, facts), _rank(facts, tensor)
    z = sketch.tensor(tensor)
    t = sketch.target(z)
    if squash == "sigmoid":
        if given == "logits":
            p = t.map("Sigmoid")
            information = -(p * (-t).map("Softplus") + (1.0 - p) * t.map("Softplus"))
        else:
            p = t
            information = p * _log(p) + (1.0 - p) * _log(1.0 - p)
        return sketch.by_sample(information + z.map("Softplus") - p * z, rank)
    log_q = _log_softmax(z, axis % rank, rank)
    if given == "logits":
        log_p = _log_softmax(t, axis % rank, rank)
        p = log_p.map("Exp")
    else:
        p = _last(t, axis % rank, rank)
        log_p = _log(p)
    return sketch.by_sample((p * (log_p - log_q)).sum([rank - 1], keep=True), rank)


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
    sketch, rank = _Sketch(graph, facts), _rank(facts, tensor)
    z, at = sketch.tensor(tensor), axis % rank
    classes = sketch.symbols(tensor)[at]
    if not isinstance(classes, int):
        raise UsageError("the number of classes isn't fixed", where=f"{graph.where}: '{tensor}'")
    labels = sketch.target(z, "labels", without=at)
    numbers = sketch.tape.ints(range(classes))
    is_it = sketch.tape.emit("Equal", labels.unsqueeze(rank - 1), numbers, dtype=BOOL)
    chosen = is_it.cast(z.dtype) * _log_softmax(z, at, rank)
    return sketch.by_sample(-chosen.sum([rank - 1], keep=True), rank)


def linear(graph: Graph, facts: Facts, *tensors: str) -> Loss:
    """The inner product of tensors with others, a single number: its gradients are vector-Jacobian products.

    The others are fed as `<tensor>.target`, each in the shape of its tensor.

    Raises:
        UsageError: a tensor isn't one of floating point and known shape, or there is none.
    """
    sketch = _Sketch(graph, facts)
    total: Tensor | None = None
    for name in tensors:
        z = sketch.tensor(name)
        product = (z * sketch.target(z)).sum(list(range(_rank(facts, name)))).cast(FLOAT32)
        total = product if total is None else total + product
    if total is None:
        raise UsageError("no tensor is named", where="loss")
    return sketch.done(total)


def custom(graph: Graph, facts: Facts, loss: Graph, tensors: Mapping[str, str] | None = None) -> Loss:
    """A loss from a graph of yours.

    Args:
        graph: the network.
        facts: its shapes.
        loss: its first output is a number, or one for each sample. Inputs that are named as an output of the
            network, or any other tensor of it, are that; others are targets.
        tensors: input of the loss -> tensor of the network, where names differ.

    Raises:
        UsageError: nothing of the network enters it, what enters has another dtype, its operator set isn't
            the network's, or it has loops or branches.
    """
    if loss.opset() != graph.opset():
        reason = f"is of opset {loss.opset()}, and the network of opset {graph.opset()}"
        raise UsageError(reason, where=loss.where, hint="convert one of them")
    if any(n.op in ("If", "Loop", "Scan") for n in loss.nodes):
        raise UsageError("has loops or branches", where=loss.where, hint="write it without")
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
        pairs = zip(specs[name].shape, shape or (), strict=False)
        sizes |= {symbol: length for symbol, length in pairs if isinstance(symbol, str)}
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
    while node is not None and node.op in _HANDED_ON:
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
    return Graph(model, loss.path, loss.held)


def _rank(facts: Facts, tensor: str) -> int:
    return len(facts.shapes.get(tensor) or ())


def _log(p: Tensor) -> Tensor:
    return p.tape.emit("Max", p, p.like(_TINY)).map("Log")


def _last(x: Tensor, axis: int, rank: int) -> Tensor:
    """With the axis last."""
    return x.transpose(*(a for a in range(rank) if a != axis), axis)


def _log_softmax(x: Tensor, axis: int, rank: int) -> Tensor:
    """Along an axis, which is the last one then."""
    return _last(x, axis, rank).map("LogSoftmax", axis=rank - 1)
