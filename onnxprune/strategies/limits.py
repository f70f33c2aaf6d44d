"""Several budgets at once: a candidate exceeds them by what it exceeds the tightest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Cap(Generic[T]):
    """A budget.

    Attributes:
        option: as the user gave it: `--latency 5ms`.
        limit: at most this, in base units.
        value: what a candidate has, in the same units.
        written: a value in words.
    """

    option: str
    limit: float
    value: Callable[[T], float]
    written: Callable[[float], str] = "{:.4g}".format

    def excess(self, candidate: T) -> float:
        """By what share the limit is exceeded; negative within it."""
        return self.value(candidate) / self.limit - 1


def worst(caps: Sequence[Cap[T]], candidate: T) -> tuple[Cap[T], float]:
    """The budget that a candidate exceeds most, or that it comes closest to; and by what share."""
    return max(((cap, cap.excess(candidate)) for cap in caps), key=lambda pair: pair[1])
