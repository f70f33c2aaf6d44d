"""How many units of a layer stay, by the rules that papers use in place of a budget."""

from __future__ import annotations

import numpy as np

from ..errors import UsageError
from ..types import Floats, Mask


def percentile(scores: Floats, mu: float) -> Mask:
    """The units whose score is at or above the `mu`-th percentile (0 to 100) of their layer.

    Source: Polyak and Wolf 2015, where mu is chosen for each layer.

    Raises:
        UsageError: `mu` is no percentage.
    """
    if not 0 <= mu < 100:
        raise UsageError(f"{mu:g} is not a percentile from 0 to below 100", where="--select percentile")
    return np.asarray(scores >= np.percentile(scores, mu))


def deviations(scores: Floats, count: float = 1.0) -> Mask:
    """All units but those whose score is more than `count` standard deviations below the mean of their layer.

    Source: Hu et al. 2016, section 3.2: APoZ more than one standard deviation above the mean.
    """
    return np.asarray(scores >= scores.mean() - count * scores.std())


def best(scores: Floats, count: int) -> Mask:
    """The `count` units of highest score; of equal ones, the first.

    Raises:
        UsageError: there are not so many.
    """
    if not 1 <= count <= len(scores):
        raise UsageError(f"a layer of {len(scores)} can't keep {count}", where="--select count")
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[:count]] = True
    return kept
