"""What can become of every weight: it is prunable, coupled with others, or blocked."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...contracts.analysis import Analysis, Member
from ...graph import TINY, Graph, Node, Shape
from ...types import Cause, Mask, Units

State = Literal["prunable", "coupled", "blocked"]
Fate = Literal["pruned", "coupled", "whole", "blocked"]


@dataclass(frozen=True)
class Weight:
    """A constant of several values that some node computes with.

    Attributes:
        name: of the constant.
        shape: its shape.
        readers: indices of the nodes that compute with it, behind what only prepares it (a Transpose).
        groups: indices of the groups of channels that these nodes make of it.
        coupled: indices of other groups whose channels it holds; they go from it as they go elsewhere.
        cause: why other channels in it can't go, or none of it; `None` where all can that are channels.
    """

    name: str
    shape: Shape
    readers: tuple[int, ...]
    groups: tuple[int, ...]
    coupled: tuple[int, ...]
    cause: Cause | None

    @property
    def state(self) -> State:
        """What can become of it."""
        return "prunable" if self.groups else "coupled" if self.coupled else "blocked"

    def fate(self, narrowed: Sequence[bool]) -> Fate:
        """What became of it. `narrowed`: for each group, whether it has lost anything."""
        if any(narrowed[k] for k in self.groups):
            return "pruned"
        if any(narrowed[k] for k in self.coupled):
            return "coupled"
        return "blocked" if self.state == "blocked" else "whole"


def weights(graph: Graph, analysis: Analysis) -> tuple[Weight, ...]:
    """All weights that any node reads, in the order of the nodes.

    Args:
        graph: the graph that was analysed.
        analysis: its groups, and the causes of what stays.
    """
    members: dict[str, list[Member]] = {}
    for member in analysis.members:
        members.setdefault(member.constant, []).append(member)
    group_of = analysis.group_of
    blocked = {b.node: b.cause for b in analysis.blocked}
    found: dict[str, Weight] = {}
    for node in graph.nodes:
        for name in (*node.inputs, *node.captured):
            if name in found or name not in graph.constants or not graph.is_weight(name):
                continue
            if name in members or graph.count(name) > TINY:
                held = _units(members.get(name, ()))
                found[name] = _weight(graph, analysis, name, held, group_of[held], blocked)
    return tuple(found.values())


def _weight(
    graph: Graph, analysis: Analysis, name: str, units: Units, groups: Units, blocked: Mapping[int, Cause]
) -> Weight:
    """`units`: on its axes; `groups`: the group of each, -1 for those that stay."""
    found = readers(graph, [name])
    held = np.flatnonzero(np.bincount(groups[groups >= 0])).tolist()
    own = tuple(k for k in held if not found.isdisjoint(analysis.groups[k].nodes))
    kinds, times = np.unique(analysis.cause_of[units[groups < 0]], return_counts=True)
    causes = {analysis.causes[k]: n for k, n in zip(kinds, times, strict=True) if k >= 0}
    # What its own reader needs whole are positions (taps of a kernel), where others are channels.
    foreign = {cause: n for cause, n in causes.items() if cause.by not in found}
    cause = next((blocked[k] for k in sorted(found) if k in blocked), None) or _commonest(foreign)
    if cause is None and not held:
        cause = _commonest(causes) or Cause(min(found, default=-1), f"reads '{name}' as it is", "nothing")
    coupled = tuple(k for k in held if k not in own)
    return Weight(name, graph.shape_of_constant(name), tuple(sorted(found)), own, coupled, cause)


def _units(members: Sequence[Member]) -> Units:
    parts = [place.units.ravel() for member in members for place in member.places]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _commonest(causes: Mapping[Cause, int]) -> Cause | None:
    return max(causes, key=causes.__getitem__, default=None)


def readers(graph: Graph, names: Collection[str]) -> set[int]:
    """Indices of nodes that compute with constants: not those that read nothing else, but what reads them."""
    wanted, seen, found = sorted(names), set(names), set()
    while wanted:
        for node, _ in graph.readers.get(wanted.pop(), ()):
            if prepares(graph, node, seen):
                new = {o for o in node.outputs if o} - seen
                seen |= new
                wanted += sorted(new)
            else:
                found.add(node.index)
    return found


def prepares(graph: Graph, node: Node, prepared: Set[str]) -> bool:
    """Whether a node reads nothing but constants, and what is `prepared` of them."""
    return not node.captured and all(i in prepared or i in graph.constants for i in node.inputs if i)


def shape_after(graph: Graph, weight: Weight, pruned: Graph) -> Shape | None:
    """The shape of a weight in the pruned graph: of its narrowest copy, where readers have their own.

    It is found at the same nodes, or by its name; `None` where it is gone.
    """
    names = {weight.name}
    for node, i in graph.readers[weight.name]:
        new = pruned.producer.get(node.outputs[0])
        names |= {new.inputs[i]} if new is not None and 0 <= i < len(new.inputs) else set()
    shapes = [pruned.shape_of_constant(name) for name in names if name in pruned.constants]
    return min(shapes, key=math.prod, default=None)


def narrowed(analysis: Analysis, kept: Mask) -> list[bool]:
    """For each group, whether it has lost anything. `kept`: (units,), whether each stays."""
    return [not kept[group.units].all() for group in analysis.groups]
