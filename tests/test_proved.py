"""Whatever leads to a model, its surgery is proved: a cut that is wrong never gets out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_pipeline_budgets import CALIB, GRAPH, cut

import onnxprune
from onnxprune.contracts.cut import without
from onnxprune.errors import ProofFailed
from onnxprune.graph import Edits
from onnxprune.pipeline import maker, pareto

WAYS = {
    "a ratio": {"ratio": 0.5},
    "a rule": {"select": "percentile:0.3"},
    "a cost": {"macs": 0.6},
    "a cost, repaired": {"macs": 0.6, "calib": CALIB},
    "steps": {"macs": 0.6, "steps": 2},
    "a promise": {"max_drop": 0.5, "calib": CALIB},
    "a mask": {"ratio": 0.5, "masked": True},
    "kernels": {"inbound": 0.5, "criterion": "l1"},
    "weights": {"sparsity": 0.5},
    "channels, then weights": {"macs": 0.6, "sparsity": 0.5},
}


def wrong(base, spaces, choice):
    """A cut of which one weight is off by a hundredth."""
    found = without(base, spaces, choice)
    graph = found.network.graph
    name = next(n for n in graph.constants if graph.is_weight(n) and graph.array(n).ndim == 4)
    off = found.network.edited(Edits(constants={name: graph.array(name) * np.float32(1.01)}))
    return replace(found, network=off)


@pytest.fixture
def broken(monkeypatch):
    """From now on cuts are wrong."""
    return lambda: monkeypatch.setattr(maker, "without", wrong)


@pytest.mark.parametrize("way", WAYS)
def test_a_model_is_proved(way, broken):
    assert cut(force=True, **WAYS[way]).verdict.exact
    broken()
    with pytest.raises(ProofFailed, match="the surgery is not exact"):
        cut(force=True, **WAYS[way])


def test_each_model_along_a_curve_is_proved(broken):
    found = pareto(GRAPH, 2, macs=0.6, evaluations=0, calib=CALIB)
    assert [point.candidate.verdict.exact for point in found.choices] == [True, True]
    assert all(point.candidate.verdict.proofs for point in found.choices)
    broken()
    with pytest.raises(ProofFailed, match="the surgery is not exact"):
        pareto(GRAPH, 2, macs=0.6, evaluations=0, calib=CALIB)


def test_a_plan_that_is_replayed_is_proved(broken):
    plan = cut(ratio=0.5).plan
    assert onnxprune.apply(GRAPH, plan, measure_latency=False).verdict.exact
    broken()
    with pytest.raises(ProofFailed, match="the surgery is not exact"):
        onnxprune.apply(GRAPH, plan, measure_latency=False)
