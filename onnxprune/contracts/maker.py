"""Candidates: what a choice leaves of a network, cut and repaired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..graph import Graph, Network
from .groups import Choice
from .reduction import Cut
from .repaired import Repaired
from .verdict import Omission


@dataclass(frozen=True, eq=False)
class Candidate:
    """A cut network, repaired.

    Attributes:
        cut: what was taken out; with identity layers (`reuse`) it is of another network than was asked for.
        repaired: what the repair has made of it.
        widened: outputs of layers with an identity layer behind them, which repair has fitted.
        omitted: what the repair could not do.
    """

    cut: Cut
    repaired: Repaired
    widened: tuple[str, ...] = ()
    omitted: tuple[Omission, ...] = ()

    @property
    def network(self) -> Network:
        """The network."""
        return self.repaired.network

    @property
    def graph(self) -> Graph:
        """Its graph."""
        return self.repaired.network.graph


class Maker(Protocol):
    """Cuts and repairs choices, and caches the results. Strategies reach networks through this alone."""

    def cut(self, choice: Choice) -> Cut:
        """The network without what a choice removes, not repaired.

        Raises:
            CannotCut: what is left would not fit together.
        """

    def candidate(self, choice: Choice) -> Candidate:
        """The same, repaired.

        Raises:
            CannotCut: what is left would not fit together.
        """
