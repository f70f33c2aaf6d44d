"""Which units of a group may go together: no axis empty, rows of a grid equally wide."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from .types import Floats, Group, Lanes, Mask, Units


def step(group: Group) -> int:
    """How many units go at the least together: one of every lane."""
    return max(1, group.size - count(group, group.size - 1))


def count(group: Group, keep: int) -> int:
    """The largest number of units not above `keep` (but at least the least possible) that lanes allow."""
    if not group.lanes:
        return min(max(keep, 1), group.size)
    return int(keep_best(group, np.zeros(group.size), keep).sum())


def keep_best(group: Group, scores: Floats, keep: int) -> Mask:
    """The units of highest score, at most `keep` of them where lanes and floors allow so few.

    Args:
        group: the group.
        scores: (group.size,).
        keep: how many units to keep.

    Returns:
        (group.size,), whether each unit stays.
    """
    order = np.lexsort((np.arange(group.size), -scores))
    kept = np.zeros(group.size, bool)
    keep = min(max(keep, 1), group.size)
    if keep == group.size:
        return ~kept
    if not group.lanes:
        needed = _floor(group, scores)
        kept[needed] = True
        rest = order[~kept[order]]
        kept[rest[: max(0, keep - len(needed))]] = True
        return kept
    position = {int(u): i for i, u in enumerate(group.units)}
    rows = [[np.asarray([position[int(u)] for u in row]) for row in lanes.rows] for lanes in group.lanes]
    share = keep / group.size
    if _disjoint(rows, group.size):
        return _by_row(group, rows, scores, share)
    return _by_program(group, rows, scores, share)


def _floor(group: Group, scores: Floats) -> Units:
    """The best unit of every set that must not become empty."""
    best = set()
    for members in group.floors:
        index = np.searchsorted(group.units, members)
        best.add(int(index[np.argmax(scores[index])]))
    return np.asarray(sorted(best), np.int64)


def _disjoint(rows: list[list[Units]], size: int) -> bool:
    distinct = {r.tobytes(): r for lane in rows for r in lane}
    total = np.zeros(size, np.int64)
    for r in distinct.values():
        total[r] += 1
    return bool((total <= 1).all())


def _widths(lanes: Lanes, rows: list[Units], share: float) -> list[int] | None:
    """How many units each row keeps, so that all rows are equally wide."""
    width = len(rows[0]) * lanes.multiplicity[0]
    if any(len(r) * m != width for r, m in zip(rows, lanes.multiplicity, strict=True)):
        return None
    unit = math.lcm(*lanes.multiplicity)
    kept = max(unit, math.floor(share * width / unit + 1e-9) * unit)
    return [kept // m for m in lanes.multiplicity]


def _by_row(group: Group, rows: list[list[Units]], scores: Floats, share: float) -> Mask:
    kept = np.ones(group.size, bool)
    covered = np.zeros(group.size, bool)
    for lanes, lane_rows in zip(group.lanes, rows, strict=True):
        widths = _widths(lanes, lane_rows, share)
        if widths is None:
            return np.ones(group.size, bool)
        for row, width in zip(lane_rows, widths, strict=True):
            covered[row] = True
            kept[row] = False
            kept[row[np.lexsort((row, -scores[row]))[:width]]] = True
    free = np.flatnonzero(~covered)
    if free.size:
        wanted = max(1, math.floor(share * free.size + 1e-9))
        kept[free] = False
        kept[free[np.lexsort((free, -scores[free]))[:wanted]]] = True
        kept[_floor(group, scores)] = True
    return kept


def _by_program(group: Group, rows: list[list[Units]], scores: Floats, share: float) -> Mask:
    """Rows of one grid cross those of another: an integer program (rows as constraints, units as variables)."""
    blocks, widths = [], []
    for lanes, lane_rows in zip(group.lanes, rows, strict=True):
        wanted = _widths(lanes, lane_rows, share)
        if wanted is None:
            return np.ones(group.size, bool)
        for row, width in zip(lane_rows, wanted, strict=True):
            blocks.append(csr_array((np.ones(len(row)), (np.zeros(len(row), int), row)), shape=(1, group.size)))
            widths.append(width)
    spread = float(np.ptp(scores)) or 1.0
    gain = (scores - scores.min()) / spread + 1e-6
    matrix = vstack(blocks, format="csr")
    solved = milp(
        -gain,
        constraints=LinearConstraint(matrix, np.asarray(widths), np.asarray(widths)),
        bounds=Bounds(0, 1),
        integrality=np.ones(group.size),
        options={"time_limit": 10.0},
    )
    if solved.x is None:
        return np.ones(group.size, bool)
    return np.asarray(solved.x > 0.5)
