"""The loss that a criterion looks at, and the samples it is taken of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..graph import Array, Graph

Pair = tuple[Mapping[str, Array], Array | None]
"""Inputs, and the labels of these samples if there are any."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """A loss, and samples.

    Attributes:
        pairs: batches of inputs, and labels; gone through several times.
        loss: a graph from outputs and `labels` to a number, or to one for each sample; without it, labels of
            classes count by their cross entropy, others by the squared error against them.
        seed: of directions that are drawn.
    """

    pairs: Iterable[Pair]
    loss: Graph | None = None
    seed: int = 0
