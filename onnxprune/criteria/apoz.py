"""`apoz`: a channel that ReLU mostly silences goes first."""

from __future__ import annotations

from dataclasses import dataclass

from ..contracts.groups import Scores
from ..contracts.stats import Need
from ..errors import UsageError
from .base import Context, by_key, require_samples


@dataclass(frozen=True)
class Apoz:
    """How often a channel is not zero after its ReLU, s_j = 1 - APoZ_j.

    APoZ, the average percentage of zeros, is counted over samples and positions behind the ReLU that really
    follows: through BatchNormalization, additions and concatenations. Clip from 0 (ReLU6) is a ReLU.

    Source: Hu et al. 2016, Network Trimming, equation 1 (there, channels go whose APoZ is more than one
    standard deviation above the mean of the layer: see `rules.deviations`).

    Raises:
        UsageError: no ReLU follows the channels of some group.
    """

    name: str = "apoz"
    needs: frozenset[Need] = frozenset({"zeros"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 1)
        places = [context.channels.activations(g) for g in context.groups]
        for group, found in zip(context.groups, places, strict=True):
            if not found:
                hint = f"use another criterion, or leave it out with --keep '{group.name}'"
                raise UsageError(
                    f"no ReLU follows '{group.name}'", where=f"--criterion {self.name}", hint=hint
                )
        return by_key(context, places, lambda m: 1 - m.zero_fraction)
