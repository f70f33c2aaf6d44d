"""Gates: factors 1 on units wherever they are read, whose gradients say what a loss feels of each unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ..types import Units

Order = Literal["slopes", "curvature"]
"""What of a loss is gathered at gates: its first derivatives, and the second one of each gate."""

ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True, eq=False)
class Site:
    """One input of a node at which units are read.

    Attributes:
        tensor: what is read there.
        axes: of the tensor, ascending, along which the units are.
        units: int64, its shape the lengths of these axes: the unit of each index, within its group; -1 for
            others.
        reader: the first output of the node, and the index of its input.
        by_sample: the first axis of the tensor is that of samples; else it holds one sample, or a weight.
    """

    tensor: str
    axes: tuple[int, ...]
    units: Units
    reader: tuple[str, int]
    by_sample: bool


@dataclass(frozen=True, eq=False)
class GatedGroup:
    """A group of units, and everywhere that they are read.

    Attributes:
        name: of the group, for people.
        size: how many units.
        sites: where a unit is summed over together with others. With all of its gates at 0 it is removed, as
            the proof of the surgery has it.
    """

    name: str
    size: int
    sites: tuple[Site, ...]


@dataclass(frozen=True, eq=False)
class WantedGates:
    """What is asked for at gates.

    Attributes:
        groups: id of a group -> its gates.
        orders: what to gather there; nothing where it is empty.
    """

    groups: Mapping[str, GatedGroup] = field(default_factory=dict)
    orders: frozenset[Order] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.groups) and bool(self.orders)

    def __or__(self, other: WantedGates) -> WantedGates:
        """What either asks for."""
        return WantedGates({**self.groups, **other.groups}, self.orders | other.orders)
