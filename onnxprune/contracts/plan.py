"""What to keep: a decision that can be read, replayed and edited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..types import Shape


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
