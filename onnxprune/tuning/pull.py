"""Weights of what shall go, pulled towards zero more and more while the others learn to do without them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..contracts.finetuning import Regularize
from ..graph import Array
from ..types import Mask

LEFT = 1e-3
"""What `group-l2` leaves of a weight in the end."""

_ENOUGH = 1.2
"""`l1` takes so many times the largest weight away in all."""


@dataclass
class Pull:
    """A penalty that grows from update to update, on some weights alone.

    Source: Wang et al. 2021, Neural Pruning via Growing Regularization (GReg-1): the penalty on what a
    criterion has marked rises until it is gone. `group-l2` shrinks each weight by a share of itself, which
    leaves directions of filters as they are; `l1` by the same amount each.

    Attributes:
        kind: of the penalty.
        masks: weight -> which of its values it is on.
        largest: of these values at the start.
    """

    kind: Regularize
    masks: Mapping[str, Mask]
    largest: dict[str, float] = field(default_factory=dict)

    def apply(self, weights: Mapping[str, Array], update: int, updates: int) -> None:
        """Change weights in place.

        Args:
            weights: by name; of those that have a mask.
            update: its number, from 0 on.
            updates: how many there will be.
        """
        grown = (update + 1) / updates
        for name, mask in self.masks.items():
            weight = weights[name]
            values = weight[mask]
            if self.kind == "group-l2":
                share = 2 * math.log(1 / LEFT) / (updates + 1) * grown
                weight[mask] = values * np.asarray(math.exp(-share), weight.dtype)
            else:
                peak = self.largest.setdefault(name, float(np.abs(values).max(initial=0.0)))
                step = _ENOUGH * peak * 2 / (updates + 1) * grown
                weight[mask] = np.sign(values) * np.maximum(np.abs(values) - step, 0).astype(weight.dtype)
