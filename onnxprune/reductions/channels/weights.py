"""What can become of every weight of a graph as channels go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...contracts.effect import Member
from ...contracts.weights import Weight
from ...graph import TINY, Graph, readers_of
from ...types import Cause, Units
from .analysis import Analysis


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
    found = readers_of(graph, [name])
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
    ids = [group.id for group in analysis.groups]
    made, others = (tuple(ids[k] for k in some) for some in (own, coupled))
    return Weight(name, graph.shape_of_constant(name), tuple(sorted(found)), made, others, cause)


def _units(members: Sequence[Member]) -> Units:
    parts = [place.units.ravel() for member in members for place in member.places]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _commonest(causes: Mapping[Cause, int]) -> Cause | None:
    return max(causes, key=causes.__getitem__, default=None)
