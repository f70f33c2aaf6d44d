"""A choice of channels, written in terms of weights, and read again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...contracts.effect import Place
from ...contracts.plan import PlannedGroup, PlannedTensor
from ...errors import InputError
from ...graph import Graph
from ...types import Mask, Shape, Units
from .analysis import Analysis, ChannelGroup

_Key = tuple[str, Shape, tuple[int, ...]]
"""A place in a plan: a constant, its view, and axes of that."""


def written(analysis: Analysis, kept: Mask) -> tuple[PlannedGroup, ...]:
    """Which indices of which weights stay, for each group that loses something.

    Args:
        analysis: of the graph.
        kept: (analysis.count,), whether each unit stays.
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
                for g in owners:
                    tensors[g].add(PlannedTensor(member.constant, member.view, place.axes, stays))
    return tuple(
        PlannedGroup(
            group.name,
            group.size,
            int(kept[group.units].sum()),
            tuple(sorted(tensors[g], key=lambda t: (t.name, t.axes))),
            group.approximate,
        )
        for g, group in enumerate(analysis.groups)
        if cut[g]
    )


def fit(groups: Iterable[PlannedGroup], graph: Graph, analysis: Analysis) -> Mask:
    """The units that a plan keeps, on its graph or on one with the same weights' names and shapes.

    Raises:
        InputError: it does not fit; the message names the first difference.
    """
    places = _places(analysis)
    stays = _Stays(analysis)
    known = [(tensor, _found(tensor, places, graph)) for group in groups for tensor in group.tensors]
    # A vector that several layers share is in several places: the other weights decide which one is meant.
    for tensor, found in sorted(known, key=lambda one: len(one[1])):
        stays.put(tensor, found)
    kept = stays.kept
    for unfit in analysis.groups:
        why = _why_unfit(unfit, kept)
        if why is not None:
            raise InputError(why, where=f"plan, group '{unfit.name}'")
    return kept


class _Stays:
    """Which units stay, as far as the plan was read."""

    def __init__(self, analysis: Analysis) -> None:
        self.kept = np.ones(analysis.count, bool)
        self._seen = np.zeros(analysis.count, bool)
        self._free = analysis.group_of >= 0

    def put(self, tensor: PlannedTensor, found: Sequence[Place]) -> None:
        """Set it at the first of some places where it can be set.

        Raises:
            InputError: it can be set at none; the message is about the first.
        """
        reasons = []
        for place in found:
            why = self._why_not(tensor, place)
            if why is None:
                units = place.units.ravel()
                self.kept[units], self._seen[units] = self._stays(tensor, units), True
                return
            reasons.append(why)
        raise reasons[0]

    def _why_not(self, tensor: PlannedTensor, place: Place) -> InputError | None:
        units, where = place.units.ravel(), _where(tensor)
        if any(not 0 <= i < units.size for i in tensor.kept):
            return InputError(f"keeps an index outside 0..{units.size - 1}", where=where)
        stays = self._stays(tensor, units)
        fixed = np.flatnonzero(~stays & ~self._free[units])
        if fixed.size:
            hint = "see 'onnxprune inspect'"
            return InputError(f"index {fixed[0]} can't be removed", where=where, hint=hint)
        other = np.flatnonzero(self._seen[units] & (self.kept[units] != stays))
        if other.size:
            reason = f"index {other[0]} is coupled with one that another tensor of the plan treats otherwise"
            return InputError(reason, where=where)
        return None

    def _stays(self, tensor: PlannedTensor, units: Units) -> Mask:
        stays = np.zeros(units.size, bool)
        stays[list(tensor.kept)] = True
        return stays


def _where(tensor: PlannedTensor) -> str:
    return f"plan, tensor '{tensor.name}'"


def _found(tensor: PlannedTensor, places: Mapping[_Key, Sequence[Place]], graph: Graph) -> Sequence[Place]:
    """The places that a tensor may mean, at least one.

    Raises:
        InputError: there is none.
    """
    if tensor.name not in graph.constants:
        raise InputError("the model has no such weight", where=_where(tensor))
    found = places.get((tensor.name, tensor.view, tensor.axes))
    if not found:
        raise InputError(_why_no_place(tensor, graph.shape_of_constant(tensor.name)), where=_where(tensor))
    return found


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


def _places(analysis: Analysis) -> dict[_Key, list[Place]]:
    """Where units are, by constant, view and axes; places with the same units once."""
    found: dict[_Key, dict[bytes, Place]] = {}
    for member in analysis.members:
        for place in member.places:
            key = member.constant, member.view, place.axes
            found.setdefault(key, {}).setdefault(place.units.tobytes(), place)
    return {key: list(several.values()) for key, several in found.items()}
