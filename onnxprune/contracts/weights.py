"""The state of every weight: prunable, coupled with others, or blocked; and its state after pruning."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from ..types import Cause, Shape

State = Literal["prunable", "coupled", "blocked"]
Fate = Literal["pruned", "coupled", "whole", "blocked"]


@dataclass(frozen=True)
class Weight:
    """A constant of several values that some node computes with.

    Attributes:
        name: of the constant.
        shape: its shape.
        readers: indices of the nodes that compute with it, behind what only prepares it (a Transpose).
        groups: ids of the groups of units that these nodes make of it.
        coupled: ids of other groups whose units it holds; they go from it as they go elsewhere.
        cause: why other units in it can't go, or none of it; `None` where all can that are units.
    """

    name: str
    shape: Shape
    readers: tuple[int, ...]
    groups: tuple[str, ...]
    coupled: tuple[str, ...]
    cause: Cause | None

    @property
    def state(self) -> State:
        """Its state before pruning."""
        return "prunable" if self.groups else "coupled" if self.coupled else "blocked"

    def fate(self, cut: Collection[str]) -> Fate:
        """Its state after pruning. `cut`: ids of the groups that have lost something."""
        if any(key in cut for key in self.groups):
            return "pruned"
        if any(key in cut for key in self.coupled):
            return "coupled"
        return "blocked" if self.state == "blocked" else "whole"
