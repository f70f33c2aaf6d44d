"""`entropy`: a channel whose pooled value hardly differs between samples goes first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.stats import Moments, Need, known
from ..types import Floats
from .base import Context, by_key, require_samples


@dataclass(frozen=True)
class Entropy:
    """Entropy over samples of the global average of a channel, s_j = -sum_b p_jb log p_jb over `bins` bins.

    Bins are equal parts of the range of each channel, so a channel's scale doesn't matter; one that is
    constant has entropy 0. Taken after the ReLU that follows the filter, or at the filter's output where
    none does.

    Source: Luo and Wu 2017, An Entropy-based Pruning Method for CNN Compression, equation 2.
    """

    name: str = "entropy"
    bins: int = 100
    needs: frozenset[Need] = frozenset({"pooled"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 2)
        space = context.channels
        places = [space.activations(g) or space.outputs(g) for g in context.groups]
        return by_key(context, places, self._entropies)

    def _entropies(self, moments: Moments) -> Floats:
        values = known(moments.pooled, "pooled").astype(np.float64)
        samples, channels = values.shape
        low, width = values.min(axis=0), np.ptp(values, axis=0)
        part = (values - low) / np.where(width > 0, width, 1)
        bins = np.minimum((part * self.bins).astype(np.int64), self.bins - 1)
        flat = bins + self.bins * np.arange(channels)
        p = np.bincount(flat.ravel(), minlength=self.bins * channels).reshape(channels, self.bins) / samples
        return np.asarray(-(p * np.log(np.where(p > 0, p, 1))).sum(axis=1))
