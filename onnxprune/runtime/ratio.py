"""How two series of paired timings compare, and whether noise forbids to say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_TOLERABLE_WIDTH = 0.1
_BATCHES = 30
"""A machine is busy for many rounds on end: neighbours are alike, spells hardly."""
_UNDISTURBED = 0.1
"""The quantile of a spell's timings that stands for them: what else the machine does only ever adds time."""


@dataclass(frozen=True)
class Ratio:
    """The ratio of two latencies, with its 95% interval.

    Attributes:
        value: the median ratio; below 1, the first is faster.
        low: the lower end of the interval; 0 when there are too few pairs for an interval.
        high: its upper end; infinite when there are too few pairs.
    """

    value: float
    low: float
    high: float

    @property
    def noisy(self) -> bool:
        """Whether the interval is too wide for a verdict: faster, slower, or the same within a tenth."""
        return self.low <= 1 <= self.high and self.high - self.low > _TOLERABLE_WIDTH * self.value


def ratio(a: npt.ArrayLike, b: npt.ArrayLike) -> Ratio:
    """Compare timings that were taken in pairs, so that what disturbs both members of a pair cancels.

    Many pairs are put into batches of neighbours first, each represented by its fast timings: where processes
    share a core, a median depends on how often this one had to wait. Neighbours are alike, so counting each
    pair would give too narrow an interval, too. The interval is bounded by order statistics of batches, or of
    few pairs, and assumes nothing about their distribution. Six are the fewest that give one.

    Args:
        a: float (pairs,), seconds, positive.
        b: float (pairs,), seconds, positive.

    Returns:
        The median of the ratios and its interval.

    Raises:
        ValueError: the series are empty or don't pair up.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise ValueError(f"not two series of pairs: shapes {first.shape} and {second.shape}")
    if first.size >= 2 * _BATCHES:
        first, second = _fast(first), _fast(second)
    ratios = np.sort(first / second)
    outside = _outside(ratios.size)
    value = float(np.median(ratios))
    if outside == 0:
        return Ratio(value, 0.0, math.inf)
    return Ratio(value, float(ratios[outside - 1]), float(ratios[-outside]))


def _fast(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What a run takes in each batch of neighbours when nothing disturbs it."""
    return np.array([np.quantile(batch, _UNDISTURBED) for batch in np.array_split(seconds, _BATCHES)])


def _outside(n: int) -> int:
    """The k for which the k-th values from both ends bound the median of n, at 95%; 0 if there is none.

    It is the largest with P(Binomial(n, 1/2) < k) <= 2.5%.
    """
    k, below = 0, 0
    while 40 * (below + math.comb(n, k)) <= 2**n:
        below += math.comb(n, k)
        k += 1
    return k
