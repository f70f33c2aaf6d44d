"""A choice of channels, written in terms of weights, and read again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...contracts.analysis import Analysis, ChannelGroup, Member, Place
from ...contracts.plan import Plan, PlannedGroup, PlannedTensor
from ...errors import InputError
from ...graph import Graph
from ...types import Mask, Shape


def make_plan(graph: Graph, analysis: Analysis, kept: Mask, options: Mapping[str, Any]) -> Plan:
    """Write down which indices of which weights stay.

    Args:
        graph: the graph that was analysed.
        analysis: its analysis.
        kept: (analysis.count,), whether each unit stays.
        options: how the choice was made; kept as it is.
    """
    owner = analysis.group_of
    cut = [not kept[group.units].all() for group in analysis.groups]
    tensors: list[set[PlannedTensor]] = [set() for _ in cut]
    for member in analysis.members:
        for place in member.places:
            units = place.units.ravel()
            owners = [g for g in np.unique(owner[units]) if g >= 0 and cut[g]]
            if owners:
                stays = tuple(np.flatnonzero(kept[units]).tolist())
                tensor = PlannedTensor(member.constant, member.view, place.axes, stays)
                for g in owners:
                    tensors[g].add(tensor)
    groups = [
        PlannedGroup(
            group.name,
            group.size,
            int(kept[group.units].sum()),
            tuple(sorted(tensors[g], key=lambda t: (t.name, t.axes))),
            group.approximate,
        )
        for g, group in enumerate(analysis.groups)
        if cut[g]
    ]
    return Plan(graph.fingerprint(), tuple(groups), dict(options))


def fit(plan: Plan, graph: Graph, analysis: Analysis) -> Mask:
    """The units that a plan keeps, on its graph or on one with the same weights' names and shapes.

    Raises:
        InputError: it does not fit; the message names the first difference.
    """
    places = _places(analysis)
    kept = np.ones(analysis.count, bool)
    seen = np.zeros(analysis.count, bool)
    free = analysis.group_of >= 0
    for group in plan.groups:
        for tensor in group.tensors:
            where = f"plan, tensor '{tensor.name}'"
            if tensor.name not in graph.constants:
                raise InputError("the model has no such weight", where=where)
            found = places.get((tensor.name, tensor.view, tensor.axes))
            if found is None:
                raise InputError(_why_no_place(tensor, graph.shape_of_constant(tensor.name)), where=where)
            units = found.units.ravel()
            if any(not 0 <= i < units.size for i in tensor.kept):
                raise InputError(f"keeps an index outside 0..{units.size - 1}", where=where)
            stays = np.zeros(units.size, bool)
            stays[list(tensor.kept)] = True
            gone = units[~stays]
            if not free[gone].all():
                index = int(np.flatnonzero(~stays)[np.flatnonzero(~free[gone])[0]])
                raise InputError(
                    f"index {index} can't be removed", where=where, hint="see 'onnxprune inspect'"
                )
            if (seen[units] & (kept[units] != stays)).any():
                index = int(np.flatnonzero(seen[units] & (kept[units] != stays))[0])
                raise InputError(
                    f"index {index} is coupled with one that another tensor of the plan treats otherwise",
                    where=where,
                )
            kept[units], seen[units] = stays, True
    for unfit in analysis.groups:
        if reason := _why_unfit(unfit, kept):
            raise InputError(reason, where=f"plan, group '{unfit.name}'")
    return kept


def _why_no_place(tensor: PlannedTensor, shape: Shape) -> str:
    if math.prod(tensor.view) != math.prod(shape):
        return f"its shape is {list(shape)} here, not {list(tensor.view)}"
    return f"its axes {list(tensor.axes)} of {list(tensor.view)} hold no channels here"


def _why_unfit(group: ChannelGroup, kept: Mask) -> str | None:
    """What would be wrong with a group of these units."""
    kept = kept[group.units]
    if not kept.any() or any(not kept[needed].any() for needed in group.floors):
        return "no channel would be left on one of its axes"
    for lanes in group.lanes:
        widths = {int(kept[r].sum()) * m for r, m in zip(lanes.rows, lanes.multiplicity, strict=True)}
        if len(widths) > 1:
            return f"its rows would differ in width ({', '.join(map(str, sorted(widths)))}); they stay equal"
    return None


def _places(analysis: Analysis) -> dict[tuple[str, tuple[int, ...], tuple[int, ...]], Place]:
    def key(m: Member, p: Place) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        return m.constant, m.view, p.axes

    return {key(m, p): p for m in reversed(analysis.members) for p in m.places}
