"""Which units of a group stay together: no axis empty, rows of a grid equally wide."""

from __future__ import annotations

import math

import numpy as np

from ..types import Floats, Mask, Units
from .groups import Group, Lanes


def step(group: Group) -> int:
    """How many units go at the least together: one of every lane."""
    return max(1, group.size - count(group, group.size - 1))


def count(group: Group, keep: int) -> int:
    """The largest number of units not above `keep` (but at least the least possible) that lanes allow."""
    if not group.lanes:
        width = group.size // group.runs
        return min(max(keep * width // group.size, 1), width) * group.runs
    return int(keep_best(group, np.zeros(group.size), keep).sum())


def keep_best(group: Group, scores: Floats, keep: int) -> Mask:
    """The units of highest score, at most `keep` of them where lanes and floors allow so few.

    Args:
        group: the group.
        scores: (group.size,).
        keep: how many units to keep.

    Returns:
        (group.size,), whether each unit stays.

    Example:
        >>> group = Group(id="a", name="a", kind="channel", size=4)
        >>> keep_best(group, np.array([0.3, 0.1, 0.9, 0.2]), 2)
        array([ True, False,  True, False])
        >>> runs = Group(id="b", name="b", kind="weight", size=4, runs=2)  # equally many of each half
        >>> keep_best(runs, np.array([0.3, 0.1, 0.9, 0.2]), 2)
        array([ True, False,  True, False])
    """
    keep = min(max(keep, 1), group.size)
    if keep == group.size:
        return np.ones(group.size, bool)
    if group.runs > 1:
        return _by_run(group, scores, keep)
    needed = np.zeros(group.size, bool)
    needed[_floor(group, scores)] = True
    if not group.lanes:
        return _best(np.arange(group.size), keep, scores, needed)
    share = keep / group.size
    if _disjoint(group):
        return _by_row(group, scores, needed, share)
    return _by_program(group, scores, share)


def _best(row: Units, keep: int, scores: Floats, needed: Mask) -> Mask:
    """Of some units: those that are needed, and the best others up to `keep`."""
    order = row[np.lexsort((row, -scores[row], ~needed[row]))]
    kept = np.zeros(len(scores), bool)
    kept[order[: max(keep, int(needed[row].sum()))]] = True
    return kept


def _by_run(group: Group, scores: Floats, keep: int) -> Mask:
    """Equally many of each run, at least one."""
    rows = scores.reshape(group.runs, -1)
    order = np.argsort(-rows, axis=1, kind="stable")
    kept = np.zeros(rows.shape, bool)
    np.put_along_axis(kept, order[:, : max(1, keep // group.runs)], True, axis=1)
    return kept.reshape(-1)


def _floor(group: Group, scores: Floats) -> Units:
    """The best unit of every set that must not become empty."""
    best = {int(members[np.argmax(scores[members])]) for members in group.floors}
    return np.asarray(sorted(best), np.int64)


def _disjoint(group: Group) -> bool:
    distinct = {row.tobytes(): row for lanes in group.lanes for row in lanes.rows}
    total = np.zeros(group.size, np.int64)
    for row in distinct.values():
        total[row] += 1
    return bool((total <= 1).all())


def _widths(lanes: Lanes, share: float, needed: list[int]) -> list[int] | None:
    """How many units each row keeps, so that all rows are equally wide, and none below what it needs."""
    width = len(lanes.rows[0]) * lanes.multiplicity[0]
    if any(len(r) * m != width for r, m in zip(lanes.rows, lanes.multiplicity, strict=True)):
        return None
    unit = math.lcm(*lanes.multiplicity)
    least = max(n * m for n, m in zip(needed, lanes.multiplicity, strict=True))
    kept = max(unit, math.floor(share * width / unit + 1e-9) * unit, -(-least // unit) * unit)
    return [kept // m for m in lanes.multiplicity]


def _by_row(group: Group, scores: Floats, needed: Mask, share: float) -> Mask:
    kept = np.zeros(group.size, bool)
    covered = np.zeros(group.size, bool)
    for lanes in group.lanes:
        widths = _widths(lanes, share, [int(needed[row].sum()) for row in lanes.rows])
        if widths is None:
            return np.ones(group.size, bool)
        for row, width in zip(lanes.rows, widths, strict=True):
            covered[row] = True
            kept |= _best(row, width, scores, needed)
    free = np.flatnonzero(~covered)
    if free.size:
        kept |= _best(free, max(1, math.floor(share * free.size + 1e-9)), scores, needed)
    return kept


def _by_program(group: Group, scores: Floats, share: float) -> Mask:
    """Rows of one grid cross those of another: an integer program.

    Variables: whether each unit stays, and for each grid the width of its rows. The worth of what stays is
    greatest where every row is as wide as the share allows.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, vstack

    n, grids = group.size, len(group.lanes)
    equations, limits = [], []
    for k, lanes in enumerate(group.lanes):
        entries = [len(r) * m for r, m in zip(lanes.rows, lanes.multiplicity, strict=True)]
        limits.append(max(1, math.floor(share * min(entries) + 1e-9)))
        for row, multiplicity in zip(lanes.rows, lanes.multiplicity, strict=True):
            columns = np.r_[row, n + k]
            values = np.r_[np.full(len(row), float(multiplicity)), -1.0]
            equations.append(
                csr_array((values, (np.zeros(len(columns), int), columns)), shape=(1, n + grids))
            )
    constraints = [LinearConstraint(vstack(equations, format="csr"), 0, 0)]
    if group.floors:
        table = np.zeros((len(group.floors), n + grids))
        for k, some in enumerate(group.floors):
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
