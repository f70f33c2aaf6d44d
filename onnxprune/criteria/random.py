"""`random`: the baseline that others have to beat."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Scores
from ..contracts.stats import Need
from .base import Context


@dataclass(frozen=True)
class Random:
    """Uniform in [0.5, 1.5), from the seed and the name of the group."""

    name: str = "random"
    needs: frozenset[Need] = frozenset()

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        return tuple(
            0.5 + np.random.default_rng([context.seed, zlib.crc32(group.name.encode())]).random(group.size)
            for group in context.groups
        )
