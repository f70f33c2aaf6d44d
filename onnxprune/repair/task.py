"""What a repair is given: a cut, and what its layers shall give again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..contracts.reduction import Cut, Trace
from ..execution.expectation import Normal
from ..graph import Network


@dataclass(frozen=True, eq=False)
class Task:
    """A cut, and what its layers shall give again.

    Attributes:
        cut: what was taken out of which network.
        origin: the network whose values are aimed at: the one that was cut, or one that came before it.
        network: what is left, its weights as floats; tensors have the names that they have in `origin`.
        trace: how tensors of `origin` and `network` correspond.
        normals: what BatchNormalization says of tensors, which the graph may no longer say itself.
    """

    cut: Cut
    origin: Network
    network: Network
    trace: Trace
    normals: Mapping[str, Normal] = field(default_factory=dict)

    @classmethod
    def of(cls, cut: Cut, normals: Mapping[str, Normal] | None = None) -> Task:
        """A task that aims at the network that was cut."""
        return cls(cut, cut.base, cut.network, cut.trace, normals or {})
