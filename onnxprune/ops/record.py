"""What the rules say during a walk, and what a rewriting walk keeps."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import OnnxpruneError
from ..graph import Edits, Node, Shape
from .label import Ids, Label

Letter = Hashable


APPROXIMATE = "--allow-approximate, which is not exact"
CONSTANT = "constants in their place"
"""What would let ids go (see `Frozen.unblock`) that several rules name."""

GRID_LIMIT = 1 << 24
"""Ids of larger grids are not written out: such a Reshape is a barrier."""


class Inconsistent(OnnxpruneError):
    """The ids that are left don't fit together; a rewrite must not go on."""

    exit_code = 3

    def __init__(self, node: Node, reason: str, ids: Ids) -> None:
        super().__init__(reason, where=str(node))
        self.node = node
        self.ids = np.unique(ids)

    def __reduce__(self) -> tuple[type[Inconsistent], tuple[Node, str, Ids]]:
        """As it is made: it comes back from a process of its own."""
        return Inconsistent, (self.node, self.reason, self.ids)


@dataclass(frozen=True)
class Selection:
    """What a rewriting walk keeps.

    Attributes:
        kept: bool, one per id.
        unit: int64, one per id: the unit that it belongs to.
    """

    kept: NDArray[np.bool_]
    unit: Ids


@dataclass(frozen=True)
class Frozen:
    """Ids that can't be removed.

    Attributes:
        ids: flat.
        node: index of the blocking node.
        reason: why, in words.
        unblock: what would let them go, in words; `None` where nothing does.
    """

    ids: Ids
    node: int
    reason: str
    unblock: str | None = None


@dataclass(frozen=True)
class Cover:
    """`ids[r]` stays as long as any of `members[r]` does.

    Attributes:
        ids: (R,), one for each row of a grid.
        members: (R, M), the ids in that row.
        leading: the rows run along leading axes of the grid (heads), not along its last (width).
        node: the node that needs whole rows.
    """

    ids: Ids
    members: Ids
    leading: bool
    node: int


@dataclass(frozen=True)
class SummedInput:
    """A reader that drops removed ids: reading `zero` there instead is the same as removing them.

    Attributes:
        node: index of the node.
        input: which input.
        shape: the input's shape, or the view of it that `axes` refer to.
        axes: of that shape.
        ids: over these axes.
        zero: the tensor to read there (a zero point); "" for the number 0.
    """

    node: int
    input: int
    shape: Shape
    axes: tuple[int, ...]
    ids: Ids
    zero: str


@dataclass(frozen=True)
class Produced:
    """Output channels that a node's weights make."""

    node: int
    ids: Ids


@dataclass(frozen=True)
class ConstantLabel:
    """Ids of a constant, over a view of its shape.

    Attributes:
        name: the constant.
        use: (node index, input index) where a vector has a label for each of its readers; else `None`.
        untied: the Identity node that copies it, where the copy has ids of its own.
        view: a shape of the same size.
        label: may hold blocks that share a leading axis (grouped convolutions).
        node: index of its first reader, which may still choose the order of its entries.
    """

    name: str
    use: tuple[int, int] | None
    untied: int | None
    view: Shape
    label: Label
    node: int


@dataclass
class Record:
    """Everything that the rules said during one walk."""

    edges: list[tuple[Ids, Ids]] = field(default_factory=list)
    frozen: list[Frozen] = field(default_factory=list)
    normalised: list[Ids] = field(default_factory=list)
    """Ids that may go although a normalisation runs over them."""
    covers: list[Cover] = field(default_factory=list)
    grids: list[tuple[int, Ids]] = field(default_factory=list)
    cut: list[tuple[int, Ids]] = field(default_factory=list)
    """Parts of grids that must stay rectangular, too."""
    masks: list[SummedInput] = field(default_factory=list)
    produced: list[Produced] = field(default_factory=list)
    labels: dict[str, Label] = field(default_factory=dict)
    constants: dict[Hashable, ConstantLabel] = field(default_factory=dict)
    edits: Edits = field(default_factory=Edits)
    size: int = 0
