"""`l1`: filter weight summing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.stats import Need
from ..types import Floats
from .base import Context, by_filter


@dataclass(frozen=True)
class L1:
    """The sum of the absolute weights of a filter, s_j = sum_i |F_ji|; biases don't count.

    Source: Li et al. 2016, Pruning Filters for Efficient ConvNets, section 3.1.
    """

    name: str = "l1"
    needs: frozenset[Need] = frozenset()

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        return by_filter(context, _norms)


def _norms(rows: Floats) -> Floats:
    return np.asarray(np.abs(rows).sum(axis=1))
