"""What groups are worth to a network's own output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import Net

from onnxprune import samples
from onnxprune.cost.model import macs_model
from onnxprune.criteria import get
from onnxprune.graph import Graph
from onnxprune.pipeline import Evidence, Settings, choice, gather, prepare
from onnxprune.pipeline.choice import ladders
from onnxprune.pipeline.judge import size
from onnxprune.pipeline.sensitivity import LEVELS, _without, sensitivities
from onnxprune.pipeline.settings import Widths
from onnxprune.quality.loss import Judge, telling
from onnxprune.strategies.descent import Descent
from onnxprune.strategies.ladder import Ladder


def two_branches() -> Graph:
    """One branch that the output hears, one that it hardly does; their consumers' own losses are alike."""
    n = Net("branches")
    x = n.input("batch", 3, 4, 4)
    loud = n.conv(n.Relu(n.conv(x, 12)), 5)
    soft = n.conv(n.Relu(n.conv(x, 12)), 5)
    n.output(n.Softmax(n.Flatten(n.GlobalAveragePool(n.Add(loud, n.Mul(soft, 0.01)))), axis=1))
    return Graph(n.finished())


@pytest.fixture(scope="module")
def job():
    ready = prepare(two_branches(), simplify=False)
    x = np.random.default_rng(0).standard_normal((200, 3, 4, 4)).astype(np.float32)
    data = samples.load([{ready.graph.inputs[0]: x}], ready.graph)
    return ready, gather(ready, get("obs").needs, data, None)


def made(ready) -> list[Ladder]:
    random = np.random.default_rng(1)
    return [Ladder(g, random.random(g.size)) for g in ready.analysis.groups]


def cost_of(ready):
    return macs_model(ready.graph, ready.facts, ready.analysis)


def test_without_samples_all_groups_give_the_same_share():
    """Whatever their scores and their costs."""
    n = Net("cone")
    x = n.Relu(n.conv(n.input("batch", 3, 4, 4), 20))
    n.output(n.conv(n.Relu(n.conv(x, 40)), 5))
    ready = prepare(Graph(n.finished()), simplify=False)
    cost = cost_of(ready)
    scores = tuple(10.0**g * np.arange(1.0, group.size + 1) for g, group in enumerate(ready.analysis.groups))
    nothing = Evidence()
    steps = ladders(ready, nothing, scores, Settings(), Widths(), cost)
    kept = Descent(ready.analysis, steps, cost).kept(0.5)
    shares = [kept[group.units].mean() for group in ready.analysis.groups]
    assert np.ptp(shares) <= 0.1
    assert 0.6 < min(shares) < 0.8


def test_heavy_networks_are_measured_on_fewer_samples(job, monkeypatch):
    ready, _ = job
    steps = made(ready)
    assert choice._enough(ready, steps, Settings()) == choice.MOST
    macs = size(ready.graph).macs
    monkeypatch.setattr(choice, "EFFORT", 20 * macs * len(steps) * len(LEVELS))
    assert choice._enough(ready, steps, Settings()) == 20
    assert choice._enough(ready, steps, Settings(evaluations=1)) == choice.MOST
    monkeypatch.setattr(choice, "EFFORT", 1)
    assert choice._enough(ready, steps, Settings()) == choice.LEAST


def test_what_the_output_hears_counts(job):
    ready, evidence = job
    steps = made(ready)
    found = sensitivities(ready, steps, evidence.stats, evidence.choice.batches(), 100)
    loud, soft = (dict(sorted(f.items())) for f in found)
    assert [len(loud), len(soft)] == [len(LEVELS)] * 2
    for a, b in zip(loud.values(), soft.values(), strict=True):
        assert a > 100 * b
    assert list(loud.values()) == sorted(loud.values())  # the more goes, the more is lost


@pytest.mark.parametrize("memory", [2e9, 0])
def test_what_is_run_once_changes_nothing(memory):
    """A chain with two outputs, one of them early: as when each variant runs from the inputs on."""
    n = Net("chain")
    x = first = n.Relu(n.conv(n.input("batch", 3, 4, 4), 12))
    for width in (16, 10):
        x = n.Relu(n.conv(x, width))
    n.output(n.conv(n.conv(first, 8), 2))
    n.output(n.Softmax(n.gemm(n.Flatten(n.GlobalAveragePool(x)), 5), axis=1))
    ready = prepare(Graph(n.finished()), simplify=False)
    x = np.random.default_rng(0).standard_normal((200, 3, 4, 4)).astype(np.float32)
    evidence = gather(ready, get("obs").needs, samples.load([{ready.graph.inputs[0]: x}], ready.graph), None)
    batches = list(evidence.choice.batches())
    steps, judge = made(ready), Judge(ready.graph, batches)
    found = sensitivities(ready, steps, evidence.stats, batches, 100, memory)
    assert len(found) == 4
    for step, losses in zip(steps, found, strict=True):
        for rung, loss in losses.items():
            assert loss == pytest.approx(judge.loss(_without(ready, step, rung, evidence.stats)), rel=1e-4)


def test_evaluations_are_bounded_and_the_middle_comes_first(job):
    ready, evidence = job
    steps = made(ready)
    found = sensitivities(ready, steps, evidence.stats, evidence.choice.batches(), 2)
    assert [[steps[g].counts[r] for r in rungs] for g, rungs in enumerate(found)] == [[6], [6]]


def test_curves_follow_what_was_measured(job):
    ready, evidence = job
    scores = tuple(np.arange(1.0, g.size + 1) for g in ready.analysis.groups)
    loud, soft = ladders(ready, evidence, scores, Settings(), Widths(), cost_of(ready))
    assert loud.curve[6] > 100 * soft.curve[6]
    same = ladders(ready, evidence, scores, Settings(evaluations=0), Widths(), cost_of(ready))
    assert np.array_equal(same[0].curve, same[1].curve)
    without = ladders(ready, replace(evidence, choice=None), scores, Settings(), Widths(), cost_of(ready))
    assert np.array_equal(without[0].curve, same[0].curve)


def test_unmeasured_groups_are_taken_as_usual(job):
    ready, evidence = job
    scores = tuple(np.arange(1.0, g.size + 1) for g in ready.analysis.groups)
    first, second = ladders(ready, evidence, scores, Settings(evaluations=1), Widths(), cost_of(ready))
    ratio = first.curve[6] / Ladder(first.group, scores[0]).curve[6]
    np.testing.assert_allclose(second.curve, ratio * Ladder(second.group, scores[1]).curve)


def test_what_saturates_is_heard_before(job):
    ready, _ = job
    graph = ready.graph
    (softmax,) = (n for n in graph.nodes if n.op == "Softmax")
    assert telling(graph) == (*graph.outputs, softmax.inputs[0])
    x = {graph.inputs[0]: np.random.default_rng(2).standard_normal((9, 3, 4, 4)).astype(np.float32)}
    assert Judge(graph, [x]).loss(graph) == pytest.approx(0, abs=1e-9)
