"""Groups of units that compete, and choices among them.

A *unit* is the smallest thing that can be removed: a set of channels that go together, a head, a kernel, a
single weight. The units of a *group* compete with one another; they are numbered 0 to `size` - 1. A *choice*
says which units of each group stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np

from ..types import Cause, Floats, Mask, Units

UnitKind = Literal["channel", "head", "kernel", "weight"]
"""What the units of a group are."""


@dataclass(frozen=True, eq=False)
class Lanes:
    """Rows that must keep equally many entries.

    Attributes:
        rows: units of each row, ascending.
        multiplicity: how many entries of the row each of its units stands for.
    """

    rows: tuple[Units, ...]
    multiplicity: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Units that compete with one another.

    Attributes:
        id: unique in its network, and the same in a network that was cut: tensor and axis of the first maker.
        name: for people: of the first node that makes the units.
        kind: what its units are.
        size: how many.
        layers: outputs of the layers whose weights make them.
        lanes: rows that must stay equally wide.
        floors: sets of which at least one unit must stay, as no axis may become empty.
        runs: so many runs of consecutive units, equally long, keep equally many each.
        approximate: removing some changes the others (a normalisation runs over them).
        span: channels that each unit stands for on the axes that its nodes make; of heads it is their width.
    """

    id: str
    name: str
    kind: UnitKind
    size: int
    layers: tuple[str, ...] = ()
    lanes: tuple[Lanes, ...] = ()
    floors: tuple[Units, ...] = ()
    runs: int = 1
    approximate: bool = False
    span: int = 1


@dataclass(frozen=True, eq=False)
class Choice:
    """Which units stay.

    Attributes:
        kept: id of a group -> bool (size,), whether each unit stays. A group that isn't there stays whole.

    Example:
        >>> first, second = (Group(id=name, name=name, kind="channel", size=4) for name in "ab")
        >>> choice = Choice({"a": np.array([True, False, True, True])})
        >>> choice.cuts(first), choice.cuts(second)
        (True, False)
        >>> choice.of(second)
        array([ True,  True,  True,  True])
    """

    kept: Mapping[str, Mask] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, group: Group) -> Mask:
        """Whether each unit of a group stays: bool (group.size,)."""
        found = self.kept.get(group.id)
        return np.ones(group.size, bool) if found is None else found

    def cuts(self, group: Group) -> bool:
        """Whether a group loses anything."""
        found = self.kept.get(group.id)
        return found is not None and not found.all()

    def removes_nothing(self) -> bool:
        """Whether all units of all groups stay."""
        return all(mask.all() for mask in self.kept.values())

    def with_group(self, group: Group, kept: Mask) -> Choice:
        """The same, but for one group."""
        return Choice({**self.kept, group.id: kept})

    def among(self, groups: Iterable[Group]) -> Choice:
        """As far as it is about these groups."""
        ids = {group.id for group in groups}
        return Choice({key: mask for key, mask in self.kept.items() if key in ids})

    def __or__(self, other: Choice) -> Choice:
        """Both choices, of different groups."""
        return Choice({**self.kept, **other.kept})

    @cached_property
    def digest(self) -> str:
        """The same for the same choice: SHA-256 over groups that lose something."""
        found = hashlib.sha256()
        for key in sorted(self.kept):
            if not self.kept[key].all():
                found.update(
                    repr((key, len(self.kept[key]))).encode() + np.packbits(self.kept[key]).tobytes()
                )
        return found.hexdigest()


@dataclass(frozen=True)
class Blocked:
    """Output channels of a node that can't be removed.

    Attributes:
        node: index of the node that makes them.
        channels: how many of its output channels are blocked.
        cause: of most of them.
    """

    node: int
    channels: int
    cause: Cause


Scores = tuple[Floats, ...]
"""For every group, float64 (size,): what is lost with each of its units; the larger, the later it goes."""
