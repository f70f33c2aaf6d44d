"""Where units are, so that what a graph costs follows from those that stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..types import Mask, Shape, Units
from .groups import Choice, Group


@dataclass(frozen=True, eq=False)
class Place:
    """Units along some axes of a tensor.

    Attributes:
        axes: ascending; several where they form a grid (groups of a convolution, heads).
        units: int64, its shape the lengths of these axes.
    """

    axes: tuple[int, ...]
    units: Units


@dataclass(frozen=True, eq=False)
class Member:
    """A constant with units on its axes.

    Attributes:
        constant: its name.
        use: (node index, input index) where this reader of a shared vector is on its own; else `None`.
        untied: index of the Identity node that copies it, where that copy is on its own; else `None`.
        view: the shape, or a finer one of the same size, that places refer to.
        places: may share a leading axis.
    """

    constant: str
    use: tuple[int, int] | None
    untied: int | None
    view: Shape
    places: tuple[Place, ...]


@dataclass(frozen=True, eq=False)
class Effect:
    """How the shapes of a graph follow from the units of a space that stay.

    Units are numbered through the whole space here. What is in no group has a number, too, and always stays.

    Attributes:
        count: of units.
        units: for each group, int64 (size,), the numbers of its units.
        groups: the groups, in the same order.
        tensors: places of every tensor that has any.
        members: constants with units on their axes.
    """

    count: int
    groups: tuple[Group, ...]
    units: tuple[Units, ...]
    tensors: Mapping[str, tuple[Place, ...]]
    members: tuple[Member, ...]

    def kept(self, choice: Choice) -> Mask:
        """Whether each unit stays: bool (count,)."""
        found = np.ones(self.count, bool)
        for group, units in zip(self.groups, self.units, strict=True):
            if choice.cuts(group):
                found[units] = choice.of(group)
        return found

    @property
    def group_of(self) -> Units:
        """int64 (count,), for every unit the index of its group; -1 for those in none."""
        result = np.full(self.count, -1, np.int64)
        for index, units in enumerate(self.units):
            result[units] = index
        return result
