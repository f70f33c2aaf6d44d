"""`hessian`: what a consumer loses with a channel, all other weights as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.reduction import Reading
from ..contracts.stats import Need
from ..types import Floats
from .base import Context, by_reading, interaction, require_samples


@dataclass(frozen=True)
class Hessian:
    """Relative error of the consumers without a channel, s_j = sum ||W_j||^2 E[x_j^2] / E|W x|^2.

    With the layer-wise error E|W x - W' x|^2 as the loss, the Hessian's diagonal is 2 E[x_j^2], exactly,
    and its gradient is zero at the weights as they are. So this is optimal brain damage of that loss; and
    it is all that a Taylor expansion has to say about it without labels.

    Source: LeCun et al. 1990, Optimal Brain Damage, equation 5, with the layer-wise error as the loss.
    """

    name: str = "hessian"
    needs: frozenset[Need] = frozenset({"consumers"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 1)
        return by_reading(context, _score)


def _score(units: int, read: list[Reading]) -> Floats:
    return np.maximum(np.diagonal(interaction(units, read)), 0)
