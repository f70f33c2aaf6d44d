"""Channels that were dealt out, and are cut or joined while they lie so: what each row has to keep.

A row of `test_ops` is one removal; here many show that every removal fits, and how much freedom is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nets import SQUARE, Net
from surgery import check, operate
from test_ops import attend, heads, merge_heads, reshaped, shuffle

SEEDS = range(8)


def parts(n: Net, x: str, *sizes: int) -> Any:
    return n.Split(x, np.asarray(sizes), outputs=len(sizes), axis=1)


def sliced(n: Net, x: str, start: int, end: int) -> str:
    return str(n.Slice(x, [start], [end], [1]))


def in_rows(n: Net, x: str, rows: int) -> str:
    b, c, h, w = n.shape(x)
    return reshaped(n, x, b, rows, c // rows, h, w)


def merged(n: Net, x: str) -> str:
    b, rows, c, h, w = n.shape(x)
    return reshaped(n, x, b, rows * c, h, w)


CUTS: dict[str, tuple[Callable[[Net], Any], int]] = {
    "a step for each half": (lambda n: parts(n, shuffle(n, n.conv(out=4), 2), 2, 2), 2),
    "two steps for each half": (lambda n: parts(n, shuffle(n, n.conv(out=8), 2), 4, 4), 8),
    "three rows": (lambda n: parts(n, shuffle(n, n.conv(out=12), 3), 6, 6), 12),
    "one step, and three": (lambda n: parts(n, shuffle(n, n.conv(out=8), 2), 2, 6), 7),
    "a half as a slice": (lambda n: [sliced(n, shuffle(n, n.conv(out=8), 2), 0, 4)], 8),
    "both halves as slices": (
        lambda n: [sliced(n, x, *ends) for x in [shuffle(n, n.conv(out=8), 2)] for ends in ((0, 4), (4, 8))],
        8,
    ),
    "four parts": (lambda n: parts(n, shuffle(n, n.conv(out=8), 2), 2, 2, 2, 2), 4),
    "rows joined side by side": (
        lambda n: merged(n, n.Concat(in_rows(n, n.conv(out=6), 2), in_rows(n, n.conv(out=8), 2), axis=2)),
        14,
    ),
}
"""What is made of dealt channels, and how many units they are."""


def of(name: str) -> Net:
    n = Net(name, SQUARE)
    made = CUTS[name][0](n)
    for x in [made] if isinstance(made, str) else made:
        n.read(x)
    return n


@pytest.mark.parametrize("name", CUTS)
def test_whatever_goes_each_part_keeps_its_place(name):
    n = of(name)
    for seed in SEEDS:
        for share in (0.5, None):
            surgery = operate(n.finished(), seed=seed, share=share)
            reasons = {b.cause.reason for b in surgery.analysis.blocked}
            assert all("graph output" in reason for reason in reasons), reasons
            check(surgery, n.feeds()[0])
    assert sum(g.size for g in surgery.analysis.groups) == CUTS[name][1]


def test_a_step_that_is_cut_in_the_middle_stays():
    """Of 3 steps the cut goes through the second one: [0 3 1 | 4 2 5]."""
    n = Net("middle", SQUARE)
    for x in parts(n, shuffle(n, n.conv(out=6), 2), 3, 3):
        n.read(x)
    for seed in SEEDS:
        surgery = operate(n.finished(), seed=seed)
        check(surgery, n.feeds()[0])
    reasons = [b for b in surgery.analysis.blocked if "in the middle of a shuffled step" in b.cause.reason]
    assert [b.channels for b in reasons] == [2]


@pytest.mark.parametrize("other", ["an input", "a constant"])
def test_rows_that_are_joined_with_something_else_stay(other):
    n = Net("something else", SQUARE)
    rows = in_rows(n, n.conv(out=8), 2)
    beside = n.input(n.B, 2, 3, n.H, n.W) if other == "an input" else n.weight(n.B, 2, 3, n.H, n.W)
    n.read(merged(n, n.Concat(rows, beside, axis=2)))
    surgery = operate(n.finished())
    assert not surgery.analysis.groups
    reasons = [b.cause.reason for b in surgery.analysis.blocked]
    assert any("joins a grid of channels with something else" in reason for reason in reasons)


@pytest.mark.parametrize("granularity", ["head", "width"])
def test_heads_of_two_projections_side_by_side(granularity):
    """All heads are equally wide, whichever projection they come from."""
    n = Net("side by side", SQUARE)
    x = n.input(n.B, n.H, 3)

    def both(*, transposed: bool = False) -> str:
        return str(n.Concat(*(heads(n, n.dense(x, 12), 2, transposed=transposed) for _ in "ab"), axis=1))

    n.read(merge_heads(n, attend(n, both(), both(transposed=True), both())))
    for seed in SEEDS:
        surgery = operate(n.finished(), seed=seed, granularity=granularity)
        assert surgery.removed
        check(surgery, n.feeds()[0])
