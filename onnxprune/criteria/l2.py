"""`l2`: filter norms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.reduction import ValueUnits
from ..contracts.stats import Need
from ..types import Floats
from .base import Context, by_filter, by_value


@dataclass(frozen=True)
class L2:
    """The Euclidean norm of the weights of a filter, s_j = sqrt(sum_i F_ji^2); biases don't count.

    Of a kernel, the norm of its taps.

    Source: He et al. 2018, Soft Filter Pruning, equation 2 with p = 2.
    """

    name: str = "l2"
    needs: frozenset[Need] = frozenset()

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        if isinstance(context.space, ValueUnits):
            found = by_value(context, context.space, lambda _, weight: np.square(weight))
            return tuple(np.sqrt(score) for score in found)
        return by_filter(context, _norms)


def _norms(rows: Floats) -> Floats:
    return np.asarray(np.linalg.norm(rows, axis=1))
