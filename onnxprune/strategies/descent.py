"""How a graph becomes narrower, from full width to the least: which units stay for a share of a cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..contracts.analysis import Analysis
from ..cost.model import Cost
from ..types import Mask
from .descend import assembled, descend
from .ladder import Ladder

_TELLING = 3  # groups that are named


@dataclass(frozen=True)
class Descent:
    """Where it loses least, for any share of any cost.

    Attributes:
        analysis: which units there are.
        ladders: the widths that each group may have, and what they lose.
        cost: what to bring down, of the same graph.
        what: the cost in words, for messages.
    """

    analysis: Analysis
    ladders: Sequence[Ladder]
    cost: Cost
    what: str = "cost"

    def kept(self, share: float) -> Mask:
        """Which units to keep for at most this share of the cost: bool (analysis.count,).

        Raises:
            Infeasible: it can't be reached.
        """
        rungs = descend(self.ladders, self.cost, share * self.cost.total, what=self.what)
        return assembled(self.analysis, self.ladders, rungs)

    @cached_property
    def narrowest(self) -> Mask:
        """Which units stay with every group as narrow as it may be."""
        return assembled(self.analysis, self.ladders, [len(ladder) - 1 for ladder in self.ladders])

    @property
    def floor(self) -> float:
        """The share of the cost that can't be gone below."""
        return self.share(self.narrowest)

    def share(self, kept: Mask) -> float:
        """The share of the cost that is left with these units."""
        return self.cost(kept) / self.cost.total

    def heaviest(self, kept: Mask) -> list[str]:
        """The groups that most of what is left lies in."""
        held = self.cost.held(kept)
        order = sorted(range(len(held)), key=lambda g: -held[g])
        return [self.ladders[g].group.name for g in order[:_TELLING]]
