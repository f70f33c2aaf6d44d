"""`apoz`: a channel that ReLU mostly silences goes first."""

from __future__ import annotations

from dataclasses import dataclass

from ..contracts.groups import Scores
from ..contracts.reduction import CannotRate
from ..contracts.stats import Need
from .base import Context, by_key, require_samples


@dataclass(frozen=True)
class Apoz:
    """How often a channel is not zero after its ReLU, s_j = 1 - APoZ_j.

    APoZ, the average percentage of zeros, is counted over samples and positions behind the ReLU that really
    follows: behind BatchNormalization, additions, concatenations, pooling and what only moves values. Clip
    from 0 (ReLU6) and Max with 0 are ReLUs.

    Source: Hu et al. 2016, Network Trimming, equation 1 (there, channels go whose APoZ is more than one
    standard deviation above the mean of the layer: see `rules.deviations`).

    Raises:
        CannotRate: no ReLU follows the channels of some groups.
    """

    name: str = "apoz"
    needs: frozenset[Need] = frozenset({"zeros"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 1)
        places = [context.channels.activations(g) for g in context.groups]
        without = [group for group, found in zip(context.groups, places, strict=True) if not found]
        if without:
            more = f" and {len(without) - 1} more" if len(without) > 1 else ""
            raise CannotRate(
                f"no ReLU follows '{without[0].name}'{more}",
                {group.id for group in without},
                where=f"--criterion {self.name}",
                hint="use another criterion",
            )
        return by_key(context, places, lambda m: 1 - m.zero_fraction)
