"""`l1`: filter weight summing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.reduction import ValueUnits
from ..contracts.stats import Need
from ..types import Floats
from .base import Context, by_filter, by_value


@dataclass(frozen=True)
class L1:
    """The sum of the absolute weights of a filter, s_j = sum_i |F_ji|; biases don't count.

    Of a single weight it is the magnitude |w|, of a kernel the sum over its taps.

    Sources: Li et al. 2016, Pruning Filters for Efficient ConvNets, section 3.1; for single weights Han et
    al. 2015, Learning both Weights and Connections for Efficient Neural Networks.
    """

    name: str = "l1"
    needs: frozenset[Need] = frozenset()

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        if isinstance(context.space, ValueUnits):
            return by_value(context, context.space, lambda _, weight: np.abs(weight))
        return by_filter(context, _norms)


def _norms(rows: Floats) -> Floats:
    return np.asarray(np.abs(rows).sum(axis=1))
