"""Which units of a group may go together: no axis empty, rows of a grid equally wide."""

from __future__ import annotations

import math

import numpy as np

from ..types import Floats, Mask, Units
from .analysis import Group, Lanes


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
    keep = min(max(keep, 1), group.size)
    if keep == group.size:
        return np.ones(group.size, bool)
    needed = np.zeros(group.size, bool)
    needed[_floor(group, scores)] = True
    if not group.lanes:
        return _best(np.arange(group.size), keep, scores, needed)
    position = {int(u): i for i, u in enumerate(group.units)}
    rows = [[np.asarray([position[int(u)] for u in row]) for row in lanes.rows] for lanes in group.lanes]
    share = keep / group.size
    if _disjoint(rows, group.size):
        return _by_row(group, rows, scores, needed, share)
    return _by_program(group, rows, scores, share)


def _best(row: Units, keep: int, scores: Floats, needed: Mask) -> Mask:
    """Of some units: those that are needed, and the best others up to `keep`."""
    order = row[np.lexsort((row, -scores[row], ~needed[row]))]
    kept = np.zeros(len(scores), bool)
    kept[order[: max(keep, int(needed[row].sum()))]] = True
    return kept


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


def _widths(lanes: Lanes, rows: list[Units], share: float, needed: list[int]) -> list[int] | None:
    """How many units each row keeps, so that all rows are equally wide, and none below what it needs."""
    width = len(rows[0]) * lanes.multiplicity[0]
    if any(len(r) * m != width for r, m in zip(rows, lanes.multiplicity, strict=True)):
        return None
    unit = math.lcm(*lanes.multiplicity)
    least = max(n * m for n, m in zip(needed, lanes.multiplicity, strict=True))
    kept = max(unit, math.floor(share * width / unit + 1e-9) * unit, -(-least // unit) * unit)
    return [kept // m for m in lanes.multiplicity]


def _by_row(group: Group, rows: list[list[Units]], scores: Floats, needed: Mask, share: float) -> Mask:
    kept = np.zeros(group.size, bool)
    covered = np.zeros(group.size, bool)
    for lanes, lane_rows in zip(group.lanes, rows, strict=True):
        widths = _widths(lanes, lane_rows, share, [int(needed[row].sum()) for row in lane_rows])
        if widths is None:
            return np.ones(group.size, bool)
        for row, width in zip(lane_rows, widths, strict=True):
            covered[row] = True
            kept |= _best(row, width, scores, needed)
    free = np.flatnonzero(~covered)
    if free.size:
        kept |= _best(free, max(1, math.floor(share * free.size + 1e-9)), scores, needed)
    return kept


def _by_program(group: Group, rows: list[list[Units]], scores: Floats, share: float) -> Mask:
    """Rows of one grid cross those of another: an integer program.

    Variables: whether each unit stays, and for each grid the width of its rows. The worth of what stays is
    greatest where every row is as wide as the share allows.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, vstack

    n, grids = group.size, len(rows)
    equations, limits = [], []
    for k, (lanes, lane_rows) in enumerate(zip(group.lanes, rows, strict=True)):
        entries = [len(r) * m for r, m in zip(lane_rows, lanes.multiplicity, strict=True)]
        limits.append(max(1, math.floor(share * min(entries) + 1e-9)))
        for row, multiplicity in zip(lane_rows, lanes.multiplicity, strict=True):
            columns = np.r_[row, n + k]
            values = np.r_[np.full(len(row), float(multiplicity)), -1.0]
            equations.append(
                csr_array((values, (np.zeros(len(columns), int), columns)), shape=(1, n + grids))
            )
    constraints = [LinearConstraint(vstack(equations, format="csr"), 0, 0)]
    if group.floors:
        columns = [np.searchsorted(group.units, members) for members in group.floors]
        table = np.zeros((len(columns), n + grids))
        for k, some in enumerate(columns):
            table[k, some] = 1.0
        constraints.append(LinearConstraint(csr_array(table), 1, np.inf))
    worth = 1.0 + (scores - scores.min()) / (float(np.ptp(scores)) or 1.0)
    solved = milp(
        np.r_[-worth, np.zeros(grids)],
        constraints=constraints,
        bounds=Bounds(np.r_[np.zeros(n), np.ones(grids)], np.r_[np.ones(n), limits]),
        integrality=np.ones(n + grids, np.int64),
        options={"time_limit": 10.0, "mip_rel_gap": 1e-3},
    )
    if solved.x is None:
        return np.ones(n, bool)
    return np.asarray(solved.x[:n] > 0.5)
