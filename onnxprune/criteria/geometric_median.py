"""`geometric-median`: a filter that the others can stand in for goes first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.stats import Need
from ..types import Floats
from .base import Context, by_filter


@dataclass(frozen=True)
class GeometricMedian:
    """The sum of the distances of a filter to all filters of its layer, s_j = sum_k ||F_j - F_k||_2.

    The filter closest to the geometric median of all has the least, whatever its norm.

    Source: He et al. 2019, Filter Pruning via Geometric Median, equation 9.
    """

    name: str = "geometric-median"
    needs: frozenset[Need] = frozenset()

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        return by_filter(context, _distances)


def _distances(rows: Floats) -> Floats:
    from scipy.spatial.distance import pdist, squareform

    return np.asarray(squareform(pdist(rows)).sum(axis=1)) if len(rows) > 1 else np.zeros(1)
