"""Widths that kernels like don't waste a budget."""

from __future__ import annotations

import pytest
from nets import Net

from onnxprune import prune
from onnxprune.graph import Graph
from onnxprune.strategies.limits import WASTE


def single_group() -> Graph:
    """All of the cost is in 64 channels: one width of 8 is an eighth of it."""
    n = Net("widths")
    n.output(n.conv(n.Relu(n.conv(n.input(1, 3, 8, 8), 64, (3, 3))), 6))
    return Graph(n.finished())


@pytest.mark.parametrize("share", [0.9, 0.7, 0.5, 0.3])
def test_a_budget_is_used(share):
    verdict = prune(
        single_group(), macs=share, repair="none", simplify=False, measure_latency=False, force=True
    ).verdict
    assert share - WASTE <= verdict.after.macs / verdict.before.macs <= share


def test_what_was_asked_for_stays():
    result = prune(
        single_group(), macs=0.7, round_to=8, repair="none", simplify=False, measure_latency=False, force=True
    )
    (group,) = result.plan.groups
    assert group.kept == 40
