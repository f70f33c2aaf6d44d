"""What `onnxprune calibrate` gathers."""

from __future__ import annotations

from collections.abc import Sequence

from ..calibration import DEFAULT_NEEDS
from ..contracts.reduction import Wanted
from ..contracts.stats import Need
from ..criteria import get as get_criterion
from ..graph import Network
from ..reductions.channels import Channels
from ..reductions.weights import Kernels, Weights


def wanted(network: Network, criteria: Sequence[str]) -> Wanted:
    """What criteria look up, whatever the units, and what repair from statistics needs.

    Args:
        network: the network.
        criteria: names; without any, what most criteria need.

    Raises:
        UsageError: there is no such criterion.
        Infeasible: no consistent set of channels was found (a rule is broken).
    """
    none: frozenset[Need] = frozenset()
    needs = none.union(*(get_criterion(name).needs for name in criteria))
    found = Channels().find(network).wanted(needs | DEFAULT_NEEDS)
    if "kernels" in needs:
        found |= Kernels().find(network).wanted(needs | DEFAULT_NEEDS)
    if "inputs" in needs:
        found |= Weights().find(network).wanted(needs | DEFAULT_NEEDS)
    return found
