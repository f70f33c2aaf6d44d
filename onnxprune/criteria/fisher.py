"""`fisher`: the Fisher information about a channel."""

from __future__ import annotations

from dataclasses import dataclass

from ..contracts.groups import Scores
from ..contracts.stats import Need, known
from .base import Context, felt


@dataclass(frozen=True)
class Fisher:
    """Half the Fisher information about a gate, s_j = 1/2 E_n (dL_n / dg_j)².

    The gate is that of `taylor`. At the optimum of a log-likelihood the Fisher information is the Hessian, so
    this is what the loss rises by without the unit, to second order.

    With labels the squared gradients are those of the loss against them. Without, they are those against
    answers as the network itself would give them, in expectation: that is the curvature of the divergence
    from what it says, and equal to `hessian-loss`.

    Source: Theis et al. 2018, Faster Gaze Prediction with Dense Networks and Fisher Pruning, equation 7; of
    coupled channels at once: Liu et al. 2021, Group Fisher Pruning.
    """

    name: str = "fisher"
    needs: frozenset[Need] = frozenset({"consumers", "slopes", "curvature"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        found = [felt(context, group) for group in context.groups]
        return tuple(
            known(one.squares if one.labelled else one.curvature, "curvature") / (2 * one.samples)
            for one in found
        )
