"""`activation`: a channel that is quiet goes first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.reduction import Reading
from ..contracts.stats import Need
from ..types import Floats
from .base import Context, by_reading, require_samples


@dataclass(frozen=True)
class Activation:
    """Root mean square of a channel over samples and positions, s_j = sqrt(E[x_j^2]).

    Taken where consumers read it: behind the ReLU and what else follows the filter. Each consumer's values
    are divided by their mean, then averaged over the consumers of the group.

    Source: folklore; Molchanov et al. 2017, Pruning Convolutional Neural Networks, section 2.2, has the mean.
    """

    name: str = "activation"
    needs: frozenset[Need] = frozenset({"consumers"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 1)
        return by_reading(context, _score)


def _score(units: int, read: list[Reading]) -> Floats:
    total = np.zeros(units)
    for r in read:
        inside = r.units >= 0
        squares = np.maximum(np.diagonal(r.second)[inside], 0)
        values = np.sqrt(np.bincount(r.units[inside], squares, minlength=units))
        level = float(values.mean())
        total += values / (level or 1.0)
    return total / len(read)
