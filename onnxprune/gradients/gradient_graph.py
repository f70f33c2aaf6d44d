"""A graph into one that also computes the gradients of a loss."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from ..errors import Infeasible, UsageError
from ..graph import Array, Facts, Graph, is_floating
from .assembly import Spec, extended, joined
from .lengths import Lengths
from .losses import Loss
from .prepare import prepared
from .reverse import Gradients, Use, scene_of, walk_back
from .tape import FLOAT32, OLDEST_OPSET, Tape, Tensor
from .vjp import Scene

_PREFIX = "onnxprune.gradient"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Gate:
    """A factor 1 on the units along some axes of a tensor, whose gradient is asked for.

    The gradient of gate j of sample n is the sum over positions of dL_n/dx_j x_j.

    Attributes:
        tensor: the tensor.
        axes: the axes of the units.
        reader: the gate is at one reader alone: its first output, and the index of its input.
        by_sample: the first axis of the tensor is that of samples, and each has a gate of its own; else the
            sum is over all axes but those of the units.
    """

    tensor: str
    axes: tuple[int, ...]
    reader: Use | None = None
    by_sample: bool = True


@dataclass(frozen=True)
class GradientGraph:
    """A graph that gives a loss and its gradients.

    Attributes:
        graph: the graph.
        inputs: what is fed: those of the network that are needed, then targets.
        weights: constants of the network that are inputs now, with their values there.
        loss: the output with the loss, a single number.
        losses: the output with one number for each sample.
        gradients: tensor -> the output with its gradient, in its shape.
        gates: for every gate the output with its gradients: (samples, units), of several axes (samples, ...);
            without samples (units) or (...).
    """

    graph: Graph
    inputs: tuple[str, ...]
    weights: Mapping[str, Array]
    loss: str
    losses: str
    gradients: Mapping[str, str]
    gates: tuple[str, ...]


def backward(
    graph: Graph,
    facts: Facts,
    loss: Loss,
    wrt: Sequence[str],
    *,
    gates: Sequence[Gate] = (),
    reduction: Literal["mean", "sum"] = "mean",
    frozen: bool = False,
    keep: Sequence[str] = (),
) -> GradientGraph:
    """The gradients of a loss with respect to weights and other tensors, as a graph.

    Args:
        graph: the network.
        facts: its shapes.
        loss: what is made small.
        wrt: constants, which become inputs of the result; inputs; or any tensor between.
        gates: units whose gradients by sample are asked for.
        reduction: of the losses of samples; what samples have to themselves (gates) needs their sum.
        frozen: constants of `wrt` stay constants: for gradients at one point, which are faster so.
        keep: more tensors to give.

    Raises:
        Infeasible: something can't be differentiated; the message names the first blocking node.
        UsageError: a tensor does not exist or isn't one of floating point.
    """
    if graph.opset() < OLDEST_OPSET:
        reason = f"gradients need opset {OLDEST_OPSET} or newer, and this is {graph.opset()}"
        raise Infeasible(reason, where=graph.where)
    _check(graph, facts, [*wrt, *(g.tensor for g in gates), *keep])
    readers = _readers(graph, gates)
    asked = {*wrt, *(g.tensor for g in gates), *(name for name, _ in readers)}
    graph, facts = prepared(graph, facts, () if frozen else wrt, {*asked, *keep, *loss.graph.inputs})
    whole, names = joined(graph, loss.graph, _fresh_prefix(graph, "onnxprune.loss"))
    facts = _facts_of_both(facts, loss.facts, names)
    freed = () if frozen else tuple(name for name in wrt if name in graph.constants)
    scene = scene_of(whole, facts, freed, asked)
    tape = Tape(graph.opset(), _fresh_prefix(whole, _PREFIX))
    losses = tape.tensor(names[loss.graph.outputs[0]], FLOAT32)
    lengths = scene.lengths.get(losses.name)
    if lengths is None or len(lengths) > 1:
        raise UsageError("gives neither one number nor one for each sample", where="loss")
    total, seed = _reduced(losses, lengths, reduction)
    sources = {*wrt, *(g.tensor for g in gates)}
    found = walk_back(tape, scene, {losses.name: seed}, sources, readers)
    _refuse(found, [*((name, name) for name in wrt), *((g.reader or g.tensor, g.tensor) for g in gates)])
    outputs = _Outputs(tape, {*whole.inputs, *whole.constants, *freed})
    loss_output, losses_output = outputs.add(total), outputs.add(losses)
    gradients = {name: outputs.add(_gradient(tape, scene, found, name)) for name in wrt}
    gate_outputs = tuple(outputs.add(_gate(tape, scene, found, gate)) for gate in gates)
    kept = [name for name in keep if name not in outputs.names]
    inputs: dict[str, Spec] = {n: (graph.dtype(n), graph.shape_of_constant(n)) for n in freed}
    result = extended(whole, tape.nodes, tape.constants, inputs, [*outputs.names, *kept], freed)
    return GradientGraph(
        result,
        tuple(name for name in result.inputs if name not in inputs),
        {name: graph.array(name) for name in freed},
        loss_output,
        losses_output,
        gradients,
        gate_outputs,
    )


class _Outputs:
    """Names of outputs: each once, and none of them an input or a constant."""

    def __init__(self, tape: Tape, taken: Collection[str]) -> None:
        self._tape = tape
        self._taken = set(taken)
        self.names: list[str] = []

    def add(self, tensor: Tensor) -> str:
        """The name under which a tensor is put out."""
        while tensor.name in self._taken or tensor.name in self._tape.constants:
            tensor = tensor.map("Identity")
        self._taken.add(tensor.name)
        self.names.append(tensor.name)
        return tensor.name


def _reduced(losses: Tensor, lengths: Lengths, reduction: str) -> tuple[Tensor, Tensor]:
    """The loss, and its cotangents at the losses of samples."""
    if not lengths:
        return losses, losses.like(1.0)
    one = losses.like([1.0])
    shape = losses.shape() if lengths[0] is None else losses.tape.ints([lengths[0]])
    if reduction == "sum":
        return losses.sum([0]), one.expand(shape)
    return losses.mean([0]), (one / shape.cast(FLOAT32)).expand(shape)


def _gradient(tape: Tape, scene: Scene, found: Gradients, name: str) -> Tensor:
    """The gradient of a tensor, zeros where the loss does not depend on it."""
    if name in found.of:
        return found.of[name]
    tensor = tape.tensor(name, scene.facts.dtypes[name])
    return tape.zeros(tensor.shape(), tensor.dtype)


def _gate(tape: Tape, scene: Scene, found: Gradients, gate: Gate) -> Tensor:
    x = tape.tensor(gate.tensor, scene.facts.dtypes[gate.tensor])
    if gate.by_sample and (gate.tensor in scene.fixed or gate.tensor in scene.graph.constants):
        raise UsageError("a constant has no gradients by sample", where=f"'{gate.tensor}'")
    rank = len(scene.lengths[gate.tensor])
    cotangent = found.of.get(gate.tensor) if gate.reader is None else found.uses.get(gate.reader)
    own = {a % rank for a in gate.axes} | ({0} if gate.by_sample else set())
    axes = [a for a in range(rank) if a not in own]
    if cotangent is None:
        return tape.zeros(x.shape(), x.dtype).sum(axes)
    return (cotangent * x).sum(axes)


def _readers(graph: Graph, gates: Sequence[Gate]) -> set[Use]:
    """The readers that gates are at."""
    found = set()
    for gate in gates:
        if gate.reader is not None:
            name, i = gate.reader
            node = graph.producer.get(name)
            if node is None or i >= len(node.inputs) or node.inputs[i] != gate.tensor:
                raise UsageError(f"does not read '{gate.tensor}' as input {i}", where=f"'{name}'")
            found.add(gate.reader)
    return found


def _check(graph: Graph, facts: Facts, tensors: Sequence[str]) -> None:
    for name in tensors:
        known = name in graph.constants or name in graph.producer or name in graph.inputs
        if not known:
            raise UsageError("there is no such tensor", where=f"{graph.where}: '{name}'")
        dtype = facts.dtypes.get(name)
        if dtype is not None and not is_floating(dtype):
            raise UsageError(f"has no gradient, as it is {dtype}", where=f"{graph.where}: '{name}'")


def _refuse(found: Gradients, asked: Iterable[tuple[str | Use, str]]) -> None:
    """Refuse what can't be differentiated, and name the obstacle: (tensor or reader, tensor)."""
    for where, name in asked:
        obstacles = found.obstacles.get(where)
        if obstacles:
            first = next(iter(obstacles))
            reason = f"'{name}' has no gradient: {first.reason}"
            raise Infeasible(reason, where=first.where, hint=f"leave '{name}' out")


def _fresh_prefix(graph: Graph, base: str) -> str:
    """A prefix that no tensor has: a gradient may be differentiated again."""
    names = {*graph.inputs, *graph.constants, *graph.producer}
    count = 0
    while any(name.startswith(f"{base}{count}.") for name in names):
        count += 1
    return f"{base}{count}."


def _facts_of_both(facts: Facts, other: Facts, names: Mapping[str, str]) -> Facts:
    """Facts of two joined graphs; of what both know, those of the first."""

    def both(first: Mapping[str, _T], second: Mapping[str, _T]) -> dict[str, _T]:
        return {**{names.get(k, k): v for k, v in second.items()}, **first}

    return Facts(
        both(facts.shapes, other.shapes),
        both(facts.values, other.values),
        both(facts.dynamic, other.dynamic),
        {**other.dims, **facts.dims},
        both(facts.dtypes, other.dtypes),
    )
