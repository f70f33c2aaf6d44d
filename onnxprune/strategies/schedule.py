"""How iterative pruning approaches its target."""

from __future__ import annotations

from ..contracts.choices import Schedule


def schedule(target: float, steps: int, kind: Schedule = "linear") -> tuple[float, ...]:
    """The share of the original's cost to keep after each step; the last is the target.

    Args:
        target: share to keep in the end, in (0, 1).
        steps: at least one.
        kind: `linear` removes as much in every step; `cubic` (Zhu and Gupta 2017) most in the first ones,
            while much is redundant, and little in the last.

    Example:
        >>> schedule(0.5, 2), schedule(0.2, 2, "cubic")
        ((0.75, 0.5), (0.30000000000000004, 0.2))
    """
    power = {"linear": 1, "cubic": 3}[kind]
    shares = [target + (1 - target) * (1 - step / steps) ** power for step in range(1, steps)]
    return (*shares, target)
