"""Whether arrays fit into memory, checked before any is allocated: systems grant more than they have."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError


def require_room(shape: Sequence[int], dtype: np.dtype[Any], where: str) -> None:
    """Refuse an array that is larger than the machine's memory.

    Args:
        shape: of the array.
        dtype: of its elements.
        where: what it is for, for messages.

    Raises:
        InputError: it is.
    """
    wanted, there = math.prod(shape) * dtype.itemsize, physical()
    if wanted > there:
        sizes = ", ".join(map(str, shape))
        reason = (
            f"an array of shape ({sizes}) takes {wanted / 1e9:,.0f} GB, and there are {there / 1e9:,.0f} GB"
        )
        raise InputError(reason, where=where, hint="give smaller sizes or fewer samples at once")


def physical() -> int:
    """Bytes of memory of this machine; where the system doesn't say, of one with 16 GB."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 16 << 30
