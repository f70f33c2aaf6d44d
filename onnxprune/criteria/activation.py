"""`activation`: a channel that is quiet goes first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..sites import activations, outputs
from ..stats import Need
from ..types import Scores
from .base import Context, by_key, require_samples


@dataclass(frozen=True)
class Activation:
    """Root mean square of a channel over samples and positions, s_j = sqrt(E[x_j^2]).

    Taken after the ReLU that follows the filter, or at the filter's output where none does.

    Source: folklore; Molchanov et al. 2017, Pruning Convolutional Neural Networks, section 2.2, has the mean.
    """

    name: str = "activation"
    needs: frozenset[Need] = frozenset({"pooled"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 1)
        graph, analysis = context.graph, context.analysis
        places = [activations(graph, analysis, g) or outputs(graph, analysis, g) for g in analysis.groups]
        return by_key(context, places, lambda m: np.sqrt(m.second))
