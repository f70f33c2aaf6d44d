"""A point on the curve of cost against quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class ParetoPoint(Generic[T]):
    """One model on offer.

    Attributes:
        name: of its file.
        cost: share of the original's cost.
        quality: the higher the better.
        candidate: the model.
        dominated: another one costs no more and is no worse.
    """

    name: str
    cost: float
    quality: float
    candidate: T
    dominated: bool = False
