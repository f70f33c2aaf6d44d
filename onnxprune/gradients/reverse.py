"""The walk from a loss back to what it depends on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..graph import Facts, Graph, Node, is_floating
from .lengths import dependent_tensors, fixed_lengths
from .rules import CARRIERS, CONSTANT, RULES
from .tape import FLOAT32, Tape, Tensor
from .vjp import Blocked, Cotangent, Rule, Scene, Undifferentiable, Vjp

_BODIES = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_FIRST_OUTPUT_ONLY = frozenset({"DynamicQuantizeLinear"})


@dataclass(frozen=True)
class Obstacle:
    """A node that no gradient passes.

    Attributes:
        node: its place in the graph that is differentiated (`prepared`).
        where: the node, in words.
        op: its operator.
        reason: why.
    """

    node: int
    where: str
    op: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


Use = tuple[str, int]
"""One reader of a tensor: the first output of a node, and the index of its input."""


@dataclass
class Gradients:
    """What the walk finds.

    Attributes:
        of: tensor -> its cotangent, summed over all readers.
        uses: the part that comes from one reader, for those that were asked for.
        obstacles: tensor, or reader -> what blocks the gradient between it and the loss.
    """

    of: dict[str, Tensor] = field(default_factory=dict)
    uses: dict[Use, Tensor] = field(default_factory=dict)
    obstacles: dict[str | Use, dict[Obstacle, None]] = field(default_factory=dict)

    def add(self, name: str, cotangent: Tensor) -> None:
        """Add what arrives from one reader."""
        self.of[name] = self.of[name] + cotangent if name in self.of else cotangent

    def block(self, where: str | Use, obstacles: Iterable[Obstacle]) -> None:
        """Some of what should arrive can't be said."""
        self.obstacles.setdefault(where, {}).update(dict.fromkeys(obstacles))


def scene_of(graph: Graph, facts: Facts, moving: Collection[str], asked: Collection[str]) -> Scene:
    """What rules may know of a graph.

    Args:
        graph: the graph.
        facts: its shapes and values.
        moving: constants that change from run to run.
        asked: tensors whose own cotangents, or those of whose readers, are asked for.
    """
    lengths, fixed = fixed_lengths(graph, facts), frozenset(fixed_tensors(graph, moving))
    depends = frozenset(dependent_tensors(graph, moving))
    return Scene(graph, facts, lengths, fixed, depends, frozenset(asked))


def fixed_tensors(graph: Graph, moving: Collection[str]) -> set[str]:
    """Constants that don't move, and what is computed from them alone."""
    found = set(graph.constants) - set(moving)
    for node in graph.nodes:
        reads = [i for i in (*node.inputs, *node.captured) if i]
        if reads and not node.op.startswith("Random") and all(i in found for i in reads):
            found.update(o for o in node.outputs if o)
    return found


def active_tensors(graph: Graph, facts: Facts, sources: Iterable[str]) -> set[str]:
    """The sources, and all tensors that move when these move a little."""
    found = set(sources)
    for node in graph.nodes:
        if node.op not in CONSTANT and any(i in found for i in (*node.inputs, *node.captured)):
            outputs = node.outputs[:1] if node.op in _FIRST_OUTPUT_ONLY else node.outputs
            found.update(o for o in outputs if o and _carries(facts, node, o))
    return found


def _carries(facts: Facts, node: Node, output: str) -> bool:
    dtype = facts.dtypes.get(output)
    return dtype is None or is_floating(dtype) or (dtype != np.bool_ and node.op in CARRIERS)


def walk_back(
    tape: Tape,
    scene: Scene,
    seeds: Mapping[str, Tensor],
    sources: Collection[str],
    uses: Collection[Use] = (),
    rules: Mapping[str, Rule] = RULES,
) -> Gradients:
    """Visit the nodes from the last to the first and let each rule say its inputs' cotangents.

    Where one can't be said, the walk goes on with something in its place, so that all obstacles are found;
    what depends on it is listed in `Gradients.obstacles` and worth nothing.

    Args:
        tape: where the nodes of the gradient go.
        scene: the graph.
        seeds: tensor -> its cotangent, where the walk begins.
        sources: the tensors whose gradients are asked for.
        uses: readers whose part is asked for on its own.
        rules: operator -> rule.
    """
    graph = scene.graph
    active = active_tensors(graph, scene.facts, sources)
    found = Gradients(dict(seeds))
    for node in reversed(graph.nodes):
        moves = any(i in active for i in (*node.inputs, *node.captured))
        if moves and any(o in found.of for o in node.outputs):
            _visit(tape, scene, node, active, found, uses, rules)
    return found


def _visit(
    tape: Tape,
    scene: Scene,
    node: Node,
    active: Collection[str],
    found: Gradients,
    uses: Collection[Use],
    rules: Mapping[str, Rule],
) -> None:
    """Add what a node says to the cotangents of what it reads."""
    inherited = [x for o in node.outputs for x in found.obstacles.get(o, ())]
    for i, cotangent in _said(tape, scene, node, active, found, rules).items():
        name = node.inputs[i] if i < len(node.inputs) else node.captured[i - len(node.inputs)]
        here = list(inherited)
        if isinstance(cotangent, Blocked):
            here.append(Obstacle(node.index, str(node), node.op, cotangent.reason))
            dtype = scene.facts.dtypes.get(name, FLOAT32)
            found.of.setdefault(name, tape.tensor(name, dtype if is_floating(dtype) else FLOAT32))
        else:
            found.add(name, cotangent)
        use = (node.outputs[0], i)
        if use in uses:
            if isinstance(cotangent, Tensor):
                found.uses[use] = cotangent
            found.block(use, here)
        if here:
            found.block(name, here)


def _said(
    tape: Tape,
    scene: Scene,
    node: Node,
    active: Collection[str],
    found: Gradients,
    rules: Mapping[str, Rule],
) -> dict[int, Tensor | Blocked]:
    """Input -> its cotangent, for those that need one; captured tensors count behind the inputs."""
    wanted = [i in active for i in node.inputs]
    cotangents = [found.of.get(o) if o else None for o in node.outputs]
    rule = rules.get(node.op)
    said: Sequence[Cotangent]
    if node.captured or node.op in _BODIES:
        wanted += [i in active for i in node.captured]
        said = [Blocked(f"{node.op} has a body")] * len(wanted)
    elif rule is None:
        said = [Blocked(f"there is no rule for {node.op}")] * len(wanted)
    else:
        try:
            said = rule(Vjp(tape, scene, node, cotangents, wanted))
        except Undifferentiable as error:
            said = [Blocked(str(error))] * len(wanted)
    return {i: c for i, c in enumerate(said) if c is not None and i < len(wanted) and wanted[i]}
