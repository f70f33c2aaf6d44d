"""`lasso`: channels that a sparse reconstruction of the consumer's output picks last go first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.reduction import Reading
from ..contracts.stats import Need
from ..types import Floats
from .base import Context, by_reading, interaction, require_samples


@dataclass(frozen=True)
class Lasso:
    """The penalty at which a channel enters the LASSO that reconstructs what the consumers compute.

    min over beta of 1/2 E|W x - sum_j beta_j W_j x_j|^2 / E|W x|^2 + lambda |beta|_1. With Q as in
    `base.interaction`, the first term is 1/2 (1 - beta)' Q (1 - beta): no sample is needed but for Q.
    lambda goes down in `steps` equal ratios from where nothing is in to `1 / depth` of that; a channel's
    score is the largest lambda with beta_j != 0, channels of one step in the order of |beta_j| there, and
    those never in last.

    Source: He, Zhang and Sun 2017, Channel Pruning for Accelerating Very Deep Neural Networks, equation 2;
    the paper raises lambda until few enough are left, which is the same order where paths don't leave
    again.
    """

    name: str = "lasso"
    steps: int = 60
    depth: float = 1e4
    iterations: int = 100
    needs: frozenset[Need] = frozenset({"consumers"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 1)
        return by_reading(context, self._score)

    def _score(self, units: int, read: list[Reading]) -> Floats:
        pairs = interaction(units, read)
        target = pairs.sum(axis=1)
        top = float(np.abs(target).max())
        if top <= 0:
            return np.zeros(units)
        curvature = float(np.linalg.eigvalsh(pairs)[-1])
        scores, beta = np.zeros(units), np.zeros(units)
        ratio = self.depth ** (-1 / self.steps)
        for step in range(1, self.steps + 1):
            penalty = top * ratio**step
            beta = minimised(pairs, target, penalty, beta, curvature, self.iterations)
            size = np.abs(beta)
            entering = (scores == 0) & (size > 0)
            # Between this penalty and the last one: the larger beta, the nearer to the last.
            share = size / (size.max() or 1.0)
            scores[entering] = (penalty * (1 + (1 / ratio - 1) * share))[entering]
        return scores


def minimised(
    pairs: Floats, target: Floats, penalty: float, start: Floats, curvature: float, iterations: int
) -> Floats:
    """The beta that minimises 1/2 beta' Q beta - c' beta + penalty |beta|_1, by FISTA.

    Source: Beck and Teboulle 2009, A Fast Iterative Shrinkage-Thresholding Algorithm.

    Args:
        pairs: Q, float64 (n, n).
        target: c, float64 (n,).
        penalty: lambda.
        start: float64 (n,), where to start.
        curvature: the largest eigenvalue of Q.
        iterations: how many steps at the most.
    """
    beta, ahead, momentum = start, start, 1.0
    for _ in range(iterations):
        moved = ahead - (pairs @ ahead - target) / curvature
        new = np.sign(moved) * np.maximum(np.abs(moved) - penalty / curvature, 0)
        faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / faster * (new - beta)
        if np.abs(new - beta).max() <= 1e-9 * max(1.0, float(np.abs(new).max())):
            return new
        beta, momentum = new, faster
    return beta
