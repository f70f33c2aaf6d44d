"""Branches of an If: taken where the condition is known, else computed beside the rest of the graph.

An If computes one of its branches. It gives the same where both are computed before it and it only chooses;
then channels in branches can go like any others. `Network.unflattened` puts branches back.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..contracts.rewrite import NotApplied
from ..errors import InputError
from ..execution.sessions import open_session
from ..graph import Network, flattened, holds_weights, with_known_branches


@dataclass(frozen=True)
class KnownBranches:
    """Replaces an If whose condition is known by the branch that it takes."""

    name: str = "taking known branches"

    def __call__(self, network: Network) -> Network:
        """See `Rewrite`."""
        return network.of(with_known_branches(network.graph, network.facts))


@dataclass(frozen=True)
class FlattenedBranches:
    """Both branches of each If that has weights are computed before it, and it only chooses.

    Where a branch can't be computed while the other one is taken (it may be for inputs of another size), the
    graph stays as it is.
    """

    name: str = "computing branches side by side"

    def __call__(self, network: Network) -> Network:
        """See `Rewrite`."""
        flat = flattened(network.graph, holds_weights)
        if flat is not network.graph:
            try:
                open_session(flat)
            except InputError as error:
                raise NotApplied(f"branches stay whole ({error.reason})") from error
        return network.of(flat)
