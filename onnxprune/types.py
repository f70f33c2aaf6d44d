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
        zero: the tensor to read there (a zero point); "" for the number 0.
    """

    node: int
    input: int
    view: Shape
    place: Place
    zero: str = ""


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
        span: channels that each unit stands for on the axes that its nodes make; of heads it is their width.
    """

    name: str
    units: Units
    nodes: tuple[int, ...]
    lanes: tuple[Lanes, ...] = ()
    floors: tuple[Units, ...] = ()
    approximate: bool = False
    span: int = 1

    @property
    def size(self) -> int:
        """The number of units."""
        return len(self.units)


@dataclass(frozen=True)
class Cause:
    """Why channels can't be removed.

    Attributes:
        by: index of the node in the way; -1 for a graph output.
        reason: in words.
        unblock: what would let them go, in words; "nothing", where nothing does.
    """

    by: int
    reason: str
    unblock: str


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
    groups: tuple[Group, ...]
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


Scores = tuple[Floats, ...]
"""For every group, float64: how much is lost with each of its units (the larger, the later it goes)."""


@dataclass(frozen=True)
class Drift:
    """How far outputs have moved, over samples that nothing was fitted to.

    Attributes:
        samples: how many.
        relative: output -> relative Frobenius error.
        top1: output -> share of samples, or of their positions, with the same top class, where outputs are
            class scores.
    """

    samples: int
    relative: Mapping[str, float]
    top1: Mapping[str, float]


@dataclass(frozen=True)
class Accuracy:
    """Labelled samples classified rightly, of how many."""

    right: int
    total: int

    @property
    def value(self) -> float:
        """The share; NaN without samples."""
        return self.right / self.total if self.total else float("nan")


@dataclass(frozen=True)
class Drop:
    """How far a score fell that is the higher the better.

    Attributes:
        metric: what was scored.
        before: the original's score.
        value: by how much the result's is lower.
        low: lower end of the exact 95% interval of the true drop; `None` where answers aren't right or wrong.
        high: its upper end.
        spread: one standard error; 0 where it isn't known.
        samples: how many there were to tell; 0 where they can't be told apart.
    """

    metric: str
    before: float
    value: float
    low: float | None = None
    high: float | None = None
    spread: float = 0.0
    samples: int = 0


@dataclass(frozen=True)
class Size:
    """What a model weighs: values in weights, multiply-accumulates of one run, bytes of the file."""

    params: int
    macs: int
    bytes: int


@dataclass(frozen=True)
class Speed:
    """Latency side by side, in seconds, and the ratio after / before with its 95% interval."""

    before: float
    after: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What is known of a pruned model.

    Attributes:
        before: size of the original.
        after: size of the result.
        surgery_error: largest relative error against the masked original; `None` where not checked.
        exact: whether rounding explains it.
        drift: against the original on samples, if there were any.
        accuracy: before and after, if there were labels.
        drop: what `--max-drop` is about, on samples that decided nothing.
        speed: measured latency, if it was measured.
        warnings: what the user should know.
    """

    before: Size
    after: Size
    surgery_error: float | None
    exact: bool
    drift: Drift | None = None
    accuracy: tuple[Accuracy, Accuracy] | None = None
    drop: Drop | None = None
    speed: Speed | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedTensor:
    """The indices that stay along some axes of a weight.

    Attributes:
        name: the tensor.
        view: its shape, or a finer one of the same size.
        axes: of the view; several make a grid whose cells are counted row by row.
        kept: ascending.
    """

    name: str
    view: Shape
    axes: tuple[int, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True)
class PlannedGroup:
    """What stays of one group.

    Attributes:
        name: of the group.
        size: its units.
        kept: how many of them stay.
        tensors: where they are.
    """

    name: str
    size: int
    kept: int
    tensors: tuple[PlannedTensor, ...]
    approximate: bool = False


@dataclass(frozen=True)
class Plan:
    """What to keep: a decision that can be read, replayed and edited.

    Attributes:
        fingerprint: of the graph that it was made for.
        groups: those that lose something.
        options: how it was made.
    """

    fingerprint: str
    groups: tuple[PlannedGroup, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
