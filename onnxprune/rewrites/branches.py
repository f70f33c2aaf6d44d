"""An If whose condition is known gives way to the branch that it takes."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Network, with_known_branches


@dataclass(frozen=True)
class KnownBranches:
    """See `contracts.rewrite.Rewrite`."""

    name: str = "taking known branches"

    def __call__(self, network: Network) -> Network:
        """See `Rewrite`."""
        return network.of(with_known_branches(network.graph, network.facts))
