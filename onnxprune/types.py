"""Names of types that are used everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Units = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Shape = tuple[int, ...]

Progress = Callable[[str], None]
"""Called with what begins: `Repairing weights: 3 of 8`. What precedes the colon is the stage."""


@dataclass(frozen=True)
class Cause:
    """Why units can't be removed.

    Attributes:
        by: index of the blocking node; -1 for a graph output.
        reason: in words.
        unblock: what would let them go, in words; "nothing", where nothing does.
    """

    by: int
    reason: str
    unblock: str
