"""What of a graph can be differentiated, and which nodes block the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import Infeasible
from ..graph import Facts, Graph, is_floating
from .prepare import prepared
from .reverse import Obstacle, scene_of, walk_back
from .tape import OLDEST_OPSET, Tape

_SETTINGS: Mapping[str, frozenset[int]] = {
    "Resize": frozenset({1, 2, 3}),
    "Upsample": frozenset({1}),
    "Clip": frozenset({1, 2}),
    "Pad": frozenset({2}),
    "OneHot": frozenset({2}),
    "Range": frozenset({0, 1, 2}),
    "NonMaxSuppression": frozenset({2, 3, 4}),
}
"""Operator -> inputs that are settings: floats that are never trained."""

_HANDED_ON = frozenset({"Cast", "Concat", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class Coverage:
    """Which tensors have gradients.

    Attributes:
        differentiable: those that have one, in the order asked for.
        fixed: the others -> the blocking nodes.
        unused: those that no output depends on.
    """

    differentiable: tuple[str, ...]
    fixed: Mapping[str, tuple[Obstacle, ...]]
    unused: tuple[str, ...] = ()

    @property
    def obstacles(self) -> Mapping[Obstacle, tuple[str, ...]]:
        """Obstacle -> the tensors behind it, in the order of the graph."""
        found: dict[Obstacle, list[str]] = {}
        for name, obstacles in self.fixed.items():
            for obstacle in obstacles:
                found.setdefault(obstacle, []).append(name)
        return {o: tuple(found[o]) for o in sorted(found, key=lambda o: o.node)}


def weights_of(graph: Graph) -> tuple[str, ...]:
    """Every constant of floating-point numbers, more than one, that is more than a setting of some nodes."""
    return tuple(
        name
        for name in graph.constants
        if graph.is_weight(name) and is_floating(graph.dtype(name)) and not _is_setting(graph, name)
    )


def _is_setting(graph: Graph, name: str) -> bool:
    """Whether a tensor is only read as a setting, perhaps by way of nodes that hand it on."""
    readers = graph.readers.get(name, [])
    return bool(readers) and all(
        i in _SETTINGS.get(node.op, ()) or (node.op in _HANDED_ON and _is_setting(graph, node.outputs[0]))
        for node, i in readers
    )


def differentiable(graph: Graph, facts: Facts, wanted: Iterable[str]) -> Coverage:
    """Which of some weights and other tensors have gradients with respect to the outputs.

    Args:
        graph: the network.
        facts: its shapes.
        wanted: constants, inputs, or any tensor between; `weights_of` lists all weights.
    """
    names = tuple(dict.fromkeys(wanted))
    if graph.opset() < OLDEST_OPSET:
        reason = f"gradients need opset {OLDEST_OPSET} or newer, and this is {graph.opset()}"
        old = Obstacle(0, graph.where, "", reason)
        return Coverage((), dict.fromkeys(names, (old,)))
    try:
        graph, facts = prepared(graph, facts)
    except Infeasible as error:
        return Coverage((), {name: (Obstacle(0, graph.where, "", error.reason),) for name in names})
    scene = scene_of(graph, facts, names, names)
    tape = Tape(graph.opset(), "onnxprune.coverage.")
    floats = [o for o in graph.outputs if (d := facts.dtypes.get(o)) is None or is_floating(d)]
    dtypes = {o: facts.dtypes.get(o, tape.constant(0.0).dtype) for o in floats}
    seeds = {o: tape.tensor(o, dtypes[o]) for o in floats}
    found = walk_back(tape, scene, seeds, names)
    used = [n for n in names if n in found.of or n in found.obstacles]
    fixed = {n: tuple(found.obstacles[n]) for n in used if n in found.obstacles}
    return Coverage(tuple(n for n in used if n not in fixed), fixed, tuple(n for n in names if n not in used))
