"""Channels and heads: whatever lies along an axis and can go from all tensors that share it.

In: a network. Out: a `ChannelSpace` (see `contracts.reduction.Space`).

- `find`: which channels go together, by walking the graph with a rule for each operator (`ops`);
- `mask`: the reference, with zero read for what goes; `cut` and `trace`: the graph without it;
- `sites`, `readings`, `gates`: where units are made, read and could be scaled, for criteria;
- `plan`: a choice in terms of weights; `weights`: what can become of every weight;
- a new operator: a rule in `ops`, nothing here.
"""

from __future__ import annotations

from .analysis import Analysis, ChannelGroup
from .space import Channels, ChannelSpace

__all__ = ["Analysis", "ChannelGroup", "ChannelSpace", "Channels"]
