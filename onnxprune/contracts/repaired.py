"""What a repair has made of a cut network."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph, Network


@dataclass(frozen=True)
class LayerFit:
    """What became of one layer.

    Attributes:
        node: its name.
        penalty: the ridge; infinite where only the bias, or nothing, was changed.
        before: relative squared error of its output without repair, on samples that were not fitted.
        after: with it.
        rows: how many rows were fitted.
        inputs: how many weights each output has.
    """

    node: str
    penalty: float
    before: float
    after: float
    rows: int
    inputs: int


@dataclass(frozen=True, eq=False)
class Repaired:
    """A repaired network.

    Attributes:
        network: the network.
        mode: how it was repaired in the end: `none`, `bias`, `fold`, `reuse`, `merge` or `stats`.
        layers: what became of each layer that was fitted to samples.
        before: what the outputs lose without repair (see `quality.loss.Loss`); `None`: not measured.
        after: with it.
        notes: what the user should know.
    """

    network: Network
    mode: str
    layers: tuple[LayerFit, ...] = ()
    before: float | None = None
    after: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def graph(self) -> Graph:
        """The graph of the network."""
        return self.network.graph
