"""`greedy`: leave out, one by one, what the consumers miss least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.reduction import Reading
from ..contracts.stats import Need
from ..types import Floats
from .base import Context, by_order, by_reading, interaction, require_samples


@dataclass(frozen=True)
class Greedy:
    """What a channel adds to the relative error of the consumers' outputs when it goes.

    T grows by the channel j that makes E|sum over j in T of W_j x_j|^2 grow least, as channels that cancel
    can go together. The score of j is that growth, over E|W x|^2, but never less than of those gone before.

    Source: Luo et al. 2017, ThiNet, equation 6 and algorithm 1; there over sampled outputs, here over all,
    from the Gram matrix of what is read.
    """

    name: str = "greedy"
    needs: frozenset[Need] = frozenset({"consumers"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 1)
        return by_reading(context, _score)


def _score(units: int, read: list[Reading]) -> Floats:
    pairs = interaction(units, read)
    growth = np.diagonal(pairs).copy()
    left = np.ones(units, bool)
    order, added = np.empty(units, np.int64), np.empty(units)
    for step in range(units):
        j = int(np.argmin(np.where(left, growth, np.inf)))
        order[step], added[step], left[j] = j, growth[j], False
        growth += 2 * pairs[j]
    return by_order(order, added)
