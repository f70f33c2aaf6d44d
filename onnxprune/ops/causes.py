"""Why units stay: from all that rules said of their ids to one cause for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..types import Cause, Units
from .label import distinct
from .record import Frozen

NOTHING = "nothing"
"""What would let a unit go that has to stay whatever is changed around it."""


def causes(unit: Units, frozen: Sequence[Frozen]) -> tuple[list[Cause], Units]:
    """The first reason for each unit that has any, and what would unblock it.

    Args:
        unit: int64, the unit of every id.
        frozen: ids that must stay, and why.

    Returns:
        Causes, and int64, for every unit the index of its own; -1 where it has none.
    """
    found: dict[Cause, int] = {}
    known: list[Cause] = []
    cause_of = np.full(int(unit.max(initial=-1)) + 1, -1, np.int64)
    for some in frozen:
        units = unit[some.ids]
        before = cause_of[units]
        for index in distinct(before).tolist():
            cause = _also(known[index] if index >= 0 else None, some)
            if cause not in found:
                found[cause] = len(known)
                known.append(cause)
            cause_of[units[before == index]] = found[cause]
    return known, cause_of


def _also(cause: Cause | None, some: Frozen) -> Cause:
    if cause is None:
        return Cause(some.node, some.reason, some.unblock or NOTHING)
    hint = some.unblock or f"{NOTHING}: {some.reason}"
    return Cause(cause.by, cause.reason, jointly([cause.unblock, hint]))


def jointly(hints: Sequence[str]) -> str:
    """What it takes where all of these are needed."""
    hopeless = next((hint for hint in hints if hint.startswith(NOTHING)), None)
    return hopeless or _AND.join(dict.fromkeys(part for hint in hints for part in hint.split(_AND)))


_AND = ", and "
