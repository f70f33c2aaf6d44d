"""What the stages hand to one another: frozen dataclasses over numpy arrays, and nothing of ours.

A *unit* is the smallest thing that can be removed: a set of channels, anywhere in the graph, that go
together. Units are numbered through the whole graph; arrays of units say what an index of an axis is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Units = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cause:
    """Why channels can't be removed.

    Attributes:
        by: index of the node in the way; -1 for a graph output.
        reason: in words.
        unblock: what would let them go, in words; "nothing", where nothing does.
    """

    by: int
    reason: str
    unblock: str
