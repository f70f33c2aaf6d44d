"""`wanda`: weights times what they meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Group, Scores
from ..contracts.reduction import Reading, ValueUnits
from ..contracts.stats import Need
from ..errors import UsageError
from ..types import Floats
from .base import Context, by_reading, by_value, moments, require_samples


@dataclass(frozen=True)
class Wanda:
    """Norm of a consumer's weights for a channel times the channel's own, s_j = ||W_j||_2 sqrt(E[x_j^2]).

    Each consumer's values are divided by their mean, then summed over the consumers of the group.

    Of a single weight it is |W_ij| sqrt(E[x_j^2]).

    Source: Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models, equation 1,
    where it is for single weights, |W_ij| ||X_j||_2; of channels, here for all weights of one.
    """

    name: str = "wanda"
    needs: frozenset[Need] = frozenset({"inputs"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 1)
        space = context.space
        if isinstance(space, ValueUnits):
            return by_value(context, space, lambda group, weight: _met(context, space, group, weight))
        return by_reading(context, _score)


def _met(context: Context, space: ValueUnits, group: Group, weight: Floats) -> Floats:
    """|w| times the norm of what it is multiplied with."""
    key = space.activation(group)
    if key is None:
        reason = f"the shape of what '{group.name}' reads is not known"
        raise UsageError(reason, where="--criterion wanda", hint="choose l1")
    norms = np.sqrt(np.maximum(moments(context, key).second, 0)).reshape(space.lanes(group), -1)
    spread = norms.repeat(len(weight) // len(norms), axis=0)
    return np.asarray(np.abs(weight) * spread[:, :, None])


def _score(units: int, read: list[Reading]) -> Floats:
    total = np.zeros(units)
    for r in read:
        values = np.linalg.norm(r.weight, axis=1) * np.sqrt(np.maximum(np.diagonal(r.second), 0))
        inside = r.units >= 0
        level = float(values[inside].mean())
        total += np.bincount(r.units[inside], values[inside] / (level or 1.0), minlength=units)
    return total / len(read)
