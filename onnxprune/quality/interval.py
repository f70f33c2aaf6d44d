"""The confidence interval of a drop of a share of right answers."""

from __future__ import annotations

from dataclasses import dataclass

_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A drop, measured, and the interval that holds the true one in at least 95% of all cases."""

    value: float
    low: float
    high: float


def drop_interval(lost: int, gained: int, total: int) -> Interval:
    """The drop of a share of right answers, from samples that both models answered.

    Only samples on which the models differ carry information. The interval is exact: the shares of samples
    lost and gained each get an interval of Clopper and Pearson, at a level at which both hold together.

    Args:
        lost: samples that only the original got right.
        gained: samples that only the pruned model got right.
        total: all samples, at least one.

    Example:
        >>> found = drop_interval(lost=20, gained=10, total=2500)
        >>> found.value, round(found.low, 4), round(found.high, 4)
        (0.004, -0.0033, 0.0113)
    """
    lost_low, lost_high = _share(lost, total)
    gained_low, gained_high = _share(gained, total)
    return Interval((lost - gained) / total, lost_low - gained_high, lost_high - gained_low)


def _share(count: int, total: int) -> tuple[float, float]:
    """Clopper and Pearson's interval, with half of the error that the pair of intervals may make."""
    from scipy.stats import beta

    tail = (1 - _LEVEL) / 4
    low = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
    return low, high
