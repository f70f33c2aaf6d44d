"""`hessian-loss`: what the network's loss rises by without a channel, to second order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.stats import Need, known
from .base import Context, felt


@dataclass(frozen=True)
class HessianLoss:
    """Second-order expansion of the loss at a gate, s_j = E_n (-dL_n / dg_j + 1/2 d²L_n / dg_j²).

    The gate is that of `taylor`; it goes from 1 to 0. Of the Hessian it is the diagonal, one entry for all
    that a unit is. The second derivative takes what the outputs do as linear in the gate (Gauss and Newton),
    which networks of ReLUs are.

    Without labels the loss is the divergence from what the network says: its first derivative is zero, and
    its second derivative is exact. With labels it is the loss against them; the first derivative, which is
    zero where training has ended, is taken as it is. What would fall is worth 0.

    Source: LeCun et al. 1990, Optimal Brain Damage, equations 2 and 5, of gates in place of weights.
    """

    name: str = "hessian-loss"
    needs: frozenset[Need] = frozenset({"consumers", "slopes", "curvature"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        result = []
        for one in (felt(context, group) for group in context.groups):
            rise = known(one.curvature, "curvature") / (2 * one.samples)
            if one.labelled:
                rise = rise - known(one.sum, "slopes") / one.samples
            result.append(np.maximum(rise, 0))
        return tuple(result)
