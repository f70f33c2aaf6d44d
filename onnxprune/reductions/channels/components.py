"""Connected components of a graph that is given by its edges."""

from __future__ import annotations

import numpy as np

from ...types import Units


def components(count: int, a: Units, b: Units) -> Units:
    """The component of each node, numbered from 0 in the order of their first nodes.

    Each round hooks roots onto the lowest root beside them and lets all nodes point at their root's root, so
    that long chains take few rounds. SciPy has this as well, and takes a quarter of a second to import.

    Args:
        count: how many nodes.
        a: int64 (edges,), one end of each edge.
        b: int64 (edges,), the other end.

    Returns:
        int64 (count,).

    Source: Shiloach and Vishkin 1982, An O(log n) Parallel Connectivity Algorithm.
    """
    root = np.arange(count, dtype=np.int64)
    while True:
        left, right = root[a], root[b]
        lowest = np.minimum(left, right)
        hooked = root.copy()
        np.minimum.at(hooked, left, lowest)
        np.minimum.at(hooked, right, lowest)
        while not np.array_equal(jumped := hooked[hooked], hooked):
            hooked = jumped
        if np.array_equal(hooked, root):
            return np.unique(root, return_inverse=True)[1].astype(np.int64)
        root = hooked
