"""The sparsity to ask of a tool for a share of the MACs: tools that take a sparsity don't take a budget."""

from __future__ import annotations

from collections.abc import Callable


def least(cost: Callable[[float], float], limit: float, parts: int) -> float:
    """The smallest sparsity, in parts of 1, that stays within the limit; the largest where none does."""
    low, high = 0, parts - 1
    while high - low > 1:
        middle = (low + high) // 2
        if cost(middle / parts) <= limit:
            high = middle
        else:
            low = middle
    return high / parts
