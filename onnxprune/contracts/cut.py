"""Cuts of several reductions, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Network
from .groups import Choice
from .reduction import Cut, Space, Trace
from .traces import chained


def without(base: Network, spaces: Sequence[Space], choice: Choice) -> Cut:
    """The network without what a choice removes.

    Args:
        base: the network.
        spaces: its units, in the order in which they are cut.
        choice: which of them stay.

    Raises:
        CannotCut: what is left would not fit together.
    """
    network, traces = base, list[Trace]()
    for space in spaces:
        if any(choice.cuts(group) for group in space.groups):
            network, trace = space.cut(network, choice)
            traces.append(trace)
    return Cut(base, tuple(spaces), choice, network, chained(traces))
