"""Why units stay: from all that rules said of their ids to one cause for each."""

from __future__ import annotations

from collections.abc import Sequence

from ..types import Cause, Units
from .label import distinct
from .record import Frozen

NOTHING = "nothing"
"""What would let a unit go that has to stay whatever is changed around it."""


def causes(unit: Units, frozen: Sequence[Frozen]) -> dict[int, Cause]:
    """The first reason for each unit that has any, and what it takes to get all of them out of the way.

    Args:
        unit: int64, the unit of every id.
        frozen: ids that must stay, and why.
    """
    found: dict[int, list[int]] = {}
    for number, some in enumerate(frozen):
        for one in distinct(unit[some.ids]).tolist():
            found.setdefault(one, []).append(number)
    made: dict[tuple[int, ...], Cause] = {}
    for numbers in map(tuple, found.values()):
        if numbers not in made:
            first, *others = (frozen[k] for k in numbers)
            made[numbers] = Cause(first.node, first.reason, _way_out(first, others))
    return {one: made[tuple(numbers)] for one, numbers in found.items()}


def _way_out(first: Frozen, others: Sequence[Frozen]) -> str:
    return jointly([first.unblock or NOTHING, *(f.unblock or f"{NOTHING}: {f.reason}" for f in others)])


def jointly(ways: Sequence[str]) -> str:
    """What it takes where all of these are needed."""
    hopeless = next((way for way in ways if way.startswith(NOTHING)), None)
    return hopeless or ", and ".join(dict.fromkeys(ways))
