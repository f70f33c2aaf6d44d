"""`output-variance`: a filter that says the same of every sample goes first."""

from __future__ import annotations

from dataclasses import dataclass

from ..contracts.groups import Scores
from ..contracts.stats import Need
from .base import Context, by_key, require_samples


@dataclass(frozen=True)
class OutputVariance:
    """Variance over samples of the Frobenius norm of a filter's output, s_j = Var_n ||Y_j^(n)||_F.

    The output is taken before the activation, and behind BatchNormalization, which other exports of the same
    network fold into the filter. Channels that are one unit through a residual are averaged.

    Source: Polyak and Wolf 2015, Channel-Level Acceleration of Deep Face Representations, Reduce and Reuse
    (there, the channels below a percentile mu go: see `rules.percentile`).
    """

    name: str = "output-variance"
    needs: frozenset[Need] = frozenset({"norms"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 2)
        places = [context.channels.outputs(g) for g in context.groups]
        return by_key(context, places, lambda m: m.norm_variance)
