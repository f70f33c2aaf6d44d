"""Reduce and Reuse (Polyak and Wolf 2015): a 1x1 Conv behind a pruned layer restores its old channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ..graph import Array, Graph
from .sequential import Repaired, fold
from .surgery import Surgery


def reuse(
    surgery: Surgery,
    batches: Iterable[Mapping[str, Array]],
    *,
    memory: float = 2e9,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Graph, tuple[Repaired, ...]]:
    """See `fold`."""
    return fold(surgery, batches, memory=memory, seed=seed, progress=progress)
