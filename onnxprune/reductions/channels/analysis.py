"""Which channels of a graph can be removed together, and where each of them lives.

Units are numbered through the whole graph here, and within their groups outside of this subpackage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...contracts.effect import Member, Place
from ...contracts.groups import Blocked, Group
from ...types import Cause, Mask, Shape, Units


@dataclass(frozen=True)
class Reader:
    """An input of a node that sums over units: removing one there is the same as reading zero for it.

    Attributes:
        node: index of the node.
        input: which input holds the summed axis (the weight, if there is one).
        view: shape of that input, or a finer one of the same size.
        place: where the units are in that view.
        zero: the tensor to read there (a zero point); "" for the number 0.
    """

    node: int
    input: int
    view: Shape
    place: Place
    zero: str = ""


@dataclass(frozen=True, eq=False)
class ChannelGroup(Group):
    """A group of channels, or of heads.

    Attributes:
        units: ascending, numbers of its units in the whole graph.
        nodes: indices of the nodes whose weights make them.
    """

    units: Units = field(default_factory=lambda: np.zeros(0, np.int64))
    nodes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Analysis:
    """Which channels of a graph can be removed together, and where each of them lives.

    Attributes:
        unit: int64, the unit of every channel id.
        count: number of units.
        groups: the removable units.
        members: constants with units on their axes.
        readers: where units are summed over.
        tensors: places of every tensor that has any.
        blocked: output channels that can't be removed.
        causes: why units have to stay.
        cause_of: int64, for every unit the index of its cause; -1 where it has none.
        approximate: whether groups may hold what a normalisation runs over.
        states: inputs of the graph -> outputs that the caller feeds back into them; both become narrower.
    """

    unit: Units
    count: int
    groups: tuple[ChannelGroup, ...]
    members: tuple[Member, ...]
    readers: tuple[Reader, ...]
    tensors: Mapping[str, tuple[Place, ...]]
    blocked: tuple[Blocked, ...]
    causes: tuple[Cause, ...]
    cause_of: Units
    approximate: bool = False
    states: Mapping[str, str] = field(default_factory=dict)

    @property
    def group_of(self) -> Units:
        """int64, for every unit the index of its group; -1 for those that stay."""
        result = np.full(self.count, -1, np.int64)
        for index, group in enumerate(self.groups):
            result[group.units] = index
        return result

    def exact(self, kept: Mask) -> Mask:
        """The same, but groups that no comparison can cover stay whole."""
        found = kept.copy()
        for group in self.groups:
            found[group.units] |= group.approximate
        return found
