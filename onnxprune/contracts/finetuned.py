"""What a fine-tuning has come to."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph, Network


@dataclass(frozen=True, eq=False)
class Finetuned:
    """A network that has learned, or the one that it was where that was no better.

    Attributes:
        network: the network.
        updates: how many there were: with them, and the same rate, it comes out the same again.
        rate: the first step, relative to the size of each tensor.
        best: after which update it was best; 0: the start is the result.
        before: what the start loses on samples that judge.
        after: what the result loses on them.
        notes: what the user should know.
    """

    network: Network
    updates: int
    rate: float
    best: int
    before: float
    after: float
    notes: tuple[str, ...] = ()

    @property
    def graph(self) -> Graph:
        """The graph of the network."""
        return self.network.graph
