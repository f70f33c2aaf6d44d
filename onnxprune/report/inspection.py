"""A model before pruning: its layers, groups and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ..contracts.effect import Effect
from ..contracts.reduction import Space
from ..contracts.verdict import Size
from ..cost.macs import macs as count_macs
from ..cost.macs import uncounted
from ..execution.sessions import blaming
from ..graph import infer, input_specs, one_sample, rows_of_a_sample
from ..ops import MACS
from ..ops.layers.storage import stored
from ..types import Units
from .entries import VERSION, WeightSummary, cause_entry, name_of, nodes_of, weight_entry


@dataclass(frozen=True)
class LayerSummary:
    """A node that multiplies.

    Attributes:
        name: of the node.
        op: its operator.
        shape: of its weight, or of its output where it has none.
        macs: multiply-accumulates; `None` where shapes are not known.
        params: values in its constants.
        group: of its output channels, if they can be removed.
        coupled: other nodes whose channels go with its own.
        blocked: channels that can't go.
        by: the blocking node, if any channel is blocked.
        reason: why.
        unblock: what would let them go; "nothing", where nothing does.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int | None
    params: int
    group: str | None
    coupled: tuple[str, ...]
    blocked: int
    by: str | None
    reason: str | None
    unblock: str | None


@dataclass(frozen=True)
class GroupSummary:
    """A group, and how many parameters would go with all of it."""

    name: str
    units: int
    nodes: tuple[str, ...]
    params: int
    approximate: bool


@dataclass(frozen=True)
class Inspection:
    """A model as pruning sees it; MACs are counted for the sizes `dims` of symbolic dimensions."""

    path: str
    opset: int
    nodes: int
    dims: Mapping[str, int]
    size: Size
    layers: tuple[LayerSummary, ...]
    groups: tuple[GroupSummary, ...]
    weights: tuple[WeightSummary, ...]
    uncounted: tuple[str, ...] = ()
    """What the MACs leave out: operators and why, in words."""
    batch: int = 1
    """How many samples the MACs are of: one, but of a model whose batch is fixed."""

    def data(self) -> dict[str, Any]:
        """For JSON (see `schemas/inspect.schema.json`)."""
        return {"version": VERSION, **asdict(self)}


def inspection(space: Space, dims: Mapping[str, int] = MappingProxyType({})) -> Inspection:
    """Describe every layer that multiplies, its group, and what blocks it.

    Args:
        space: the units of a network.
        dims: sizes of symbolic dimensions to count MACs for; others get one sample and a guess.
    """
    with blaming(space.network.unflattened.graph, dims):
        return _inspection(space, dims)


def _inspection(space: Space, dims: Mapping[str, int]) -> Inspection:
    graph, facts, whole = space.network.graph, space.network.facts, space.network.unflattened.graph
    counted = infer(graph, {**one_sample(graph), **dims})
    costs = count_macs(graph, counted)
    groups = {graph.producer[output].index: group for group in space.groups for output in group.layers}
    blocked = {b.node: b for b in space.blocked}
    layers = []
    for node in graph.nodes:
        if node.op not in MACS and node.index not in groups and node.index not in blocked:
            continue
        group, kept = groups.get(node.index), blocked.get(node.index)
        read = [held for i in node.inputs if i and (held := stored(graph, i)) is not None]
        shape = graph.shape_of_constant(read[0]) if read else (facts.shapes.get(node.outputs[0]) or ())
        own = name_of(node)
        layers.append(
            LayerSummary(
                name=own,
                op=node.op,
                shape=shape,
                macs=costs.get(node.index),
                params=sum(graph.count(i) for i in read),
                group=group.name if group else None,
                coupled=tuple(n for n in nodes_of(graph, group) if n != own) if group else (),
                blocked=kept.channels if kept else 0,
                **cause_entry(graph, kept.cause if kept else None),
            )
        )
    total = sum(count_macs(whole, counted).values()) if whole is not graph else sum(costs.values())
    size = Size(graph.parameters(), total, whole.size())
    effect = space.effect
    summaries = tuple(
        GroupSummary(g.name, g.size, nodes_of(graph, g), _params(effect, units), g.approximate)
        for g, units in zip(effect.groups, effect.units, strict=True)
    )
    by_id = {group.id: group for group in space.groups}
    listed = tuple(weight_entry(graph, by_id, weight) for weight in space.weights)
    return Inspection(
        graph.where,
        graph.opset(),
        len(whole.nodes),
        counted.dims,
        size,
        tuple(layers),
        summaries,
        listed,
        tuple(map(str, uncounted(graph, counted))),
        rows_of_a_sample(input_specs(graph)) or 1,
    )


def _params(effect: Effect, units: Units) -> int:
    """Values in weights that go if all these units go."""
    total = 0
    for member in effect.members:
        stays = np.ones(member.view, bool)
        for place in member.places:
            mask = ~np.isin(place.units, units)
            stays &= mask.reshape([n if a in place.axes else 1 for a, n in enumerate(member.view)])
        total += stays.size - int(stays.sum())
    return total
