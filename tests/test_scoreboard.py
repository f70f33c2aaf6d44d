"""The metrics and the judgements of `tools/scoreboard.py`, on cases small enough to know the answer."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason="needs pillow")
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from board import digits, lines, photos, run, table
from board.cells import Book, Cell, Section, section


def known(cells, *, ours=True):
    return Section("k", "net", "Net", ("accuracy",), ours, (99.0,), 1, 1, 1, (1, 1), cells)


def cell(value, macs=0.5):
    return Cell("k", metrics=(value,), macs=macs)


def test_distance_of_texts():
    assert lines._distance("kitten", "sitting") == 3
    assert lines._distance("", "abc") == 3


def test_classes_become_text_without_repeats_and_blanks():
    assert lines._decode([0, 1, 1, 0, 1, 2, 3, 3, 0], ["", "a", "b", " "]) == "aab"


def test_average_precision():
    assert photos._average_precision(np.array([1.0, 1.0]), 2) == 1
    assert photos._average_precision(np.array([0.0, 1.0]), 1) == 0.5
    assert photos._average_precision(np.array([1.0]), 2) == 0.5
    assert photos._average_precision(np.zeros(0), 2) == 0


def test_boxes_are_partners_once_and_of_their_class():
    one = np.array([[0.0, 0, 10, 10, 0.9, 1]])
    twice = np.array([[0.0, 0, 10, 10, 0.9, 1], [0, 0, 10, 9, 0.8, 1], [0, 0, 10, 10, 0.7, 2]])
    assert photos._hits(one, twice).tolist() == [1, 0, 0]


def test_overlapping_boxes_are_suppressed():
    given = np.zeros((6, 3))
    given[:4] = np.array([[5, 5, 10, 10], [5, 5, 10, 9], [50, 50, 10, 10]]).T
    given[4] = [0.9, 0.8, 0.3]
    assert photos._boxes(given, 0.25)[:, 4].tolist() == [0.9, 0.3]


@pytest.mark.parametrize(
    ("cells", "short"),
    [
        ({("default", 0.5): cell(98.9)}, []),
        ({("default", 0.5): cell(98.3)}, ["0.70 lost, 0.6 allowed"]),
        ({("default", 0.5): cell(98.9), ("onnxsim", 0.5): cell(98.95)}, ["onnxsim 0.8.1 loses 0.05"]),
        ({("default", 0.5): cell(98.9), ("onnxsim", 0.5): Cell("k", error="fails")}, []),
        ({("default", 0.5): Cell("k", error="fails")}, ["no model"]),
    ],
)
def test_what_falls_short_is_said(cells, short):
    assert table.missed(known(cells), 0.5) == short
    assert ("Short of" in table.summary([known(cells)], (0.5,))) == bool(short)


def tiny():
    """Four digits, judged by the largest logit: enough to tell models apart."""
    task = digits.digits("digits-plain-bn")
    few = {"image": task.feeds["image"][:4]}
    return replace(task, calib=few, feeds=few, score=lambda given: (float(given[0].max()),))


def test_a_claim_counts_what_was_not_run():
    cells = {("default", 0.5): cell(98.9), ("onnxsim", 0.5): cell(50.0)}
    assert table.unknown([known(cells)], (0.5,)) == 1
    assert "1 were not" in table.summary([known(cells)], (0.5,))
    assert table.unknown([known(cells, ours=False)], (0.5,)) == 0


def test_of_candidates_within_the_budget_the_best_counts(tmp_path):
    task = tiny()
    whole, small = (run.ROOT / "models" / f"{name}.onnx" for name in ("digits-plain", "digits-mobile"))
    better = max((whole, small), key=task.measure)

    def method(_task, shares, _folder):
        return [run.Candidate(s, path.stem, path, "", 1.0, 1) for s in shares for path in (whole, small)]

    book = Book(tmp_path, task)
    book.describe()
    chosen = {share: cell.way for share, cell in book.fill("peer", method, "1", (0.5, 1.0))}
    assert chosen == {0.5: "digits-mobile", 1.0: better.stem}
    known = section(tmp_path, task.name, ["peer"], (0.5, 1.0))
    assert known.lost("peer", 0.5) == pytest.approx(task.measure(task.model)[0] - task.measure(small)[0])


def test_what_is_known_does_not_run_again_but_what_changed_does(tmp_path):
    runs = []

    def method(_task, shares, _folder):
        runs.append(tuple(shares))
        return [run.Candidate(share, "", None, "no", 0.0, 0) for share in shares]

    book = Book(tmp_path, tiny())
    for version in ("1", "1", "2"):
        assert [c.error for _, c in book.fill("peer", method, version, (0.5,))] == ["no"]
    assert runs == [(0.5,), (0.5,)]
