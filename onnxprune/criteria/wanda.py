"""`wanda`: weights times what they meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.stats import Need
from ..types import Floats
from .base import Context, Reading, by_reading, require_samples


@dataclass(frozen=True)
class Wanda:
    """Norm of a consumer's weights for a channel times the channel's own, s_j = ||W_j||_2 sqrt(E[x_j^2]).

    Each consumer's values are divided by their mean, then summed over the consumers of the group.

    Source: Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models, equation 1,
    where it is for single weights, |W_ij| ||X_j||_2; here for all weights of a channel.
    """

    name: str = "wanda"
    needs: frozenset[Need] = frozenset({"consumers"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 1)
        return by_reading(context, _score)


def _score(units: int, read: list[Reading]) -> Floats:
    total = np.zeros(units)
    for r in read:
        values = np.linalg.norm(r.weight, axis=1) * np.sqrt(np.maximum(np.diagonal(r.second), 0))
        inside = r.units >= 0
        level = float(values[inside].mean())
        total += np.bincount(r.units[inside], values[inside] / (level or 1.0), minlength=units)
    return total / len(read)
