"""Models along the curve of cost against quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from ..contracts.point import ParetoPoint, T
from ..execution.tasks import run


def shares(number: int, floor: float) -> tuple[float, ...]:
    """Evenly spaced shares of cost to keep, from wide to narrow: above `floor`, below 1."""
    return tuple(1 - (1 - floor) * k / number for k in range(1, number + 1))


def curve(
    evaluate: Callable[[float], T],
    describe: Callable[[T], tuple[str, float, float]],
    targets: Sequence[float],
    executor: Executor | None = None,
) -> tuple[ParetoPoint[T], ...]:
    """A model for every target.

    Args:
        evaluate: makes the candidate for a share of the cost.
        describe: a candidate's name, cost (share of the original's) and quality.
        targets: shares of the cost to keep.
        executor: where to make them; here by default.
    """
    found = [(*describe(made), made) for made in run(evaluate, targets, executor)]
    return tuple(
        ParetoPoint(name, cost, quality, made, _dominated(cost, quality, [f[1:3] for f in found]))
        for name, cost, quality, made in found
    )


def _dominated(cost: float, quality: float, others: Sequence[tuple[float, float]]) -> bool:
    return any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in others)
