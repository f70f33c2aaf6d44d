"""Which units of a group stay together, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.contracts.groups import Group, Lanes
from onnxprune.contracts.selection import count, keep_best, step


def group(size: int, **about) -> Group:
    return Group("g", "g", "channel", size, **about)


def rows(*units, times=None) -> Lanes:
    return Lanes(tuple(np.asarray(u) for u in units), tuple(times or [1] * len(units)))


def kept(group: Group, scores, keep: int) -> list[int]:
    return np.flatnonzero(keep_best(group, np.asarray(scores, float), keep)).tolist()


@pytest.mark.parametrize(
    ("keep", "stay"),
    [(-1, [3]), (0, [3]), (1, [3]), (2, [1, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])],
)
def test_the_best_stay_and_of_equal_ones_the_first(keep, stay):
    assert kept(group(4), [1, 2, 1, 3], keep) == stay


@pytest.mark.parametrize(
    ("keep", "stay"), [(0, 3), (3, 3), (5, 3), (6, 6), (8, 6), (9, 9), (11, 9), (12, 12), (99, 12)]
)
def test_runs_keep_equally_many(keep, stay):
    runs = group(12, runs=3)
    assert count(runs, keep) == stay
    found = keep_best(runs, np.arange(12.0), keep).reshape(3, 4)
    assert (found == found[0]).all()
    assert found[0].tolist() == [k >= 4 - stay // 3 for k in range(4)]
    assert step(runs) == 3


def test_of_equal_ones_in_a_run_the_first_stay():
    assert kept(group(6, runs=2), [1, 1, 1, 0, 2, 2], 4) == [0, 1, 4, 5]


@pytest.mark.parametrize(("keep", "stay"), [(0, 1), (1, 1), (3, 3), (4, 4), (7, 4)])
def test_units_without_rows_are_counted_one_by_one(keep, stay):
    assert count(group(4), keep) == stay
    assert step(group(4)) == 1


def test_a_step_is_one_of_every_row():
    assert step(group(6, lanes=(rows([0, 1, 2], [3, 4, 5]),))) == 2
    assert step(group(9, lanes=(rows([0, 1, 2], [3, 4, 5, 6, 7, 8], times=[2, 1]),))) == 3
    assert step(group(1)) == 1


def test_of_each_set_that_must_not_be_empty_the_best_stays():
    floors = (np.array([0, 1]), np.array([2, 3]))
    assert kept(group(6, floors=floors), [1, 2, 4, 3, 9, 8], 3) == [1, 2, 4]
    assert kept(group(6, floors=floors), [1, 2, 4, 3, 9, 8], 2) == [1, 2]
    assert kept(group(6, floors=floors), [1, 2, 4, 3, 9, 8], 1) == [1, 2], "more than was asked for"


TWO = rows([0, 1, 2, 3], [4, 5, 6, 7])
SCORES = [4, 3, 2, 1, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("keep", "stay"), [(1, [0, 7]), (2, [0, 7]), (3, [0, 7]), (4, [0, 1, 6, 7]), (7, [0, 1, 2, 5, 6, 7])]
)
def test_rows_stay_equally_wide(keep, stay):
    assert kept(group(8, lanes=(TWO,)), SCORES, keep) == stay
    assert count(group(8, lanes=(TWO,)), keep) == len(stay)


def test_a_row_keeps_what_must_not_be_empty_and_the_others_as_many():
    floors = (np.array([4]), np.array([5]))
    assert kept(group(8, lanes=(TWO,), floors=floors), SCORES, 2) == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("keep", "stay"), [(1, [2, 7, 8]), (5, [2, 7, 8]), (6, [1, 2, 5, 6, 7, 8]), (8, [1, 2, 5, 6, 7, 8])]
)
def test_units_that_stand_for_two_entries_count_twice(keep, stay):
    """Rows of 3 units twice, and of 6 once: both have 6 entries."""
    lanes = rows([0, 1, 2], [3, 4, 5, 6, 7, 8], times=[2, 1])
    assert kept(group(9, lanes=(lanes,)), range(9), keep) == stay


def test_what_must_stay_is_rounded_up_to_whole_units_of_every_row():
    """3 of the row of 6 have to stay: that is 4, and 2 of those that count twice."""
    lanes = rows([0, 1, 2], [3, 4, 5, 6, 7, 8], times=[2, 1])
    floors = tuple(np.array([k]) for k in (3, 4, 5))
    assert kept(group(9, lanes=(lanes,), floors=floors), range(9), 2) == [1, 2, 3, 4, 5, 8]


def test_rows_that_are_not_equally_wide_stay_whole():
    assert kept(group(5, lanes=(rows([0, 1], [2, 3, 4]),)), range(5), 2) == [0, 1, 2, 3, 4]
    assert kept(group(4, lanes=(rows([0, 1], [2, 3], times=[1, 2]),)), range(4), 2) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("keep", "stay"), [(2, [0, 7, 11]), (6, [0, 1, 6, 7, 10, 11]), (9, [0, 1, 2, 5, 6, 7, 9, 10, 11])]
)
def test_units_beside_the_rows_give_the_same_share(keep, stay):
    assert kept(group(12, lanes=(TWO,)), [*SCORES, 1, 2, 3, 4], keep) == stay


def test_the_same_row_twice_is_one():
    again = group(8, lanes=(TWO, rows([0, 1, 2, 3], [4, 5, 6, 7])))
    assert kept(again, SCORES, 4) == [0, 1, 6, 7]


def test_rows_that_cross_and_cannot_be_met_stay_whole():
    """One unit that counts once is never as wide as units that count twice."""
    lanes = (rows([0], [1, 2], times=[1, 2]), rows([0, 1], [1, 2]))
    assert kept(group(3, lanes=lanes), range(3), 2) == [0, 1, 2]
