"""What the stages hand to one another: frozen dataclasses over numpy arrays, and nothing of ours.

A *unit* is the smallest thing that can be removed: a set of channels, anywhere in the graph, that go
together. Units are numbered through the whole graph; arrays of units say what an index of an axis is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Units = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Units along some axes of a tensor.

    Attributes:
        axes: ascending; several where they form a grid (groups of a convolution, heads).
        units: int64, its shape the lengths of these axes.
    """

    axes: tuple[int, ...]
    units: Units


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Reader:
    """An input of a node that sums over units: removing one there is the same as reading zero for it.

    Attributes:
        node: index of the node.
        input: which input holds the summed axis (the weight, if there is one).
        view: shape of that input, or a finer one of the same size.
        place: where the units are in that view.
    """

    node: int
    input: int
    view: Shape
    place: Place


@dataclass(frozen=True)
class Lanes:
    """Rows that must keep equally many entries.

    Attributes:
        rows: units of each row, ascending.
        multiplicity: how many entries of the row each of its units stands for.
    """

    rows: tuple[Units, ...]
    multiplicity: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Units that live on the same axes and compete with one another.

    Attributes:
        name: of the first node that makes them.
        units: ascending.
        nodes: indices of the nodes whose weights make them.
        lanes: rows that must stay equally wide.
        floors: sets of which at least one unit must stay, as no axis may become empty.
        approximate: removing these changes the others (a normalisation runs over them).
    """

    name: str
    units: Units
    nodes: tuple[int, ...]
    lanes: tuple[Lanes, ...] = ()
    floors: tuple[Units, ...] = ()
    approximate: bool = False

    @property
    def size(self) -> int:
        """The number of units."""
        return len(self.units)


@dataclass(frozen=True)
class Blocked:
    """Output channels of a node that can't be removed.

    Attributes:
        node: index of the node that makes them.
        channels: how many of its output channels are blocked.
        by: index of the node in the way; -1 for a graph output.
        reason: in words.
    """

    node: int
    channels: int
    by: int
    reason: str


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
    """

    unit: Units
    count: int
    groups: tuple[Group, ...]
    members: tuple[Member, ...]
    readers: tuple[Reader, ...]
    tensors: Mapping[str, tuple[Place, ...]]
    blocked: tuple[Blocked, ...]

    @property
    def group_of(self) -> Units:
        """int64, for every unit the index of its group; -1 for those that stay."""
        result = np.full(self.count, -1, np.int64)
        for index, group in enumerate(self.groups):
            result[group.units] = index
        return result


Scores = tuple[Floats, ...]
"""For every group, float64: how much is lost with each of its units (the larger, the later it goes)."""


@dataclass(frozen=True)
class Plan:
    """What to keep: a decision that can be read, replayed and edited.

    Attributes:
        fingerprint: of the graph it was made for.
        kept: tensor -> axis -> the indices to keep, ascending, for every weight axis that shrinks.
        groups: per group: name, size, kept units.
        options: how it was made.
    """

    fingerprint: str
    kept: Mapping[str, Mapping[int, tuple[int, ...]]]
    groups: tuple[Mapping[str, Any], ...]
    options: Mapping[str, Any] = field(default_factory=dict)
