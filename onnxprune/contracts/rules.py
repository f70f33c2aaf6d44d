"""How many units of a layer stay, by the rules that papers use in place of a budget."""

from __future__ import annotations

from collections.abc import Callable

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


Rule = Callable[[Floats], Mask]
"""From the scores of a layer to which of its units stay."""


def parsed(text: str) -> Rule:
    """The rule that `percentile:MU`, `deviations:K` or `count:N` names; K is 1 if it isn't given.

    A layer that has fewer than N units keeps all of them.

    Raises:
        UsageError: the text names none, or its number is out of range.
    """
    name, _, number = text.partition(":")
    try:
        if name == "percentile":
            mu = float(number)
            percentile(np.zeros(1), mu)
            return lambda scores: percentile(scores, mu)
        if name == "deviations":
            k = float(number or 1)
            return lambda scores: deviations(scores, k)
        if name == "count" and int(number) > 0:
            n = int(number)
            return lambda scores: best(scores, min(n, len(scores)))
    except ValueError:
        pass
    hint = "such as percentile:30, deviations:1 or count:64"
    raise UsageError(f"'{text}' is no rule", where="--select", hint=hint)
