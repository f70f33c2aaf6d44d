"""`taylor`: what the network's own loss feels of a channel, to first order."""

from __future__ import annotations

from dataclasses import dataclass

from ..contracts.groups import Scores
from ..contracts.stats import Need, known
from .base import Context, felt


@dataclass(frozen=True)
class Taylor:
    """First-order Taylor expansion of the loss at a gate, s_j = E_n |dL_n / dg_j|.

    The gate g_j = 1 multiplies unit j wherever it is summed over together with others, at all its readers at
    once (a depthwise convolution hands it on): at g_j = 0 the unit is removed as the proof of the surgery has
    it. As g_j multiplies x_j, dL/dg_j = sum of dL/dx_j x_j. The absolute value is taken of each sample, then
    their mean.

    L_n is the cross entropy against labels where a loss was given them. Without, it is that of a sample
    against the network's own top class, if it gives class scores, of what a last Softmax is taken of; else
    half the squared norm of its outputs, each relative to its mean over samples.

    Source: Molchanov et al. 2017, Pruning Convolutional Neural Networks, equations 6 and 7 (without the mean
    over positions, and equation 8 that divides by the norm of a layer); as a gate in Molchanov et al. 2019,
    Importance Estimation for Neural Network Pruning, where it is squared.
    """

    name: str = "taylor"
    needs: frozenset[Need] = frozenset({"consumers", "slopes"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        return tuple(
            known(one.magnitude, "slopes") / one.samples for one in (felt(context, g) for g in context.groups)
        )
