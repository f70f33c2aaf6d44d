"""What groups are worth to a network's own output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import Net

from onnxprune import samples
from onnxprune.contracts.budget import Budget
from onnxprune.contracts.groups import Choice, Group
from onnxprune.contracts.timing import Timing
from onnxprune.contracts.traces import Unchanged
from onnxprune.cost.macs import one_sample_macs
from onnxprune.cost.model import macs_model
from onnxprune.criteria import get
from onnxprune.graph import Graph
from onnxprune.pipeline import Evidence, Options, prepare
from onnxprune.pipeline.costs import _ladders
from onnxprune.pipeline.evidence import HELD_BACK, measured, split
from onnxprune.pipeline.recipe import Phase
from onnxprune.pipeline.search import Search, Setting
from onnxprune.quality.loss import Judge, compared_outputs
from onnxprune.reductions.channels import Channels
from onnxprune.repair import predicted
from onnxprune.strategies import curves
from onnxprune.strategies.allocation import Allocation
from onnxprune.strategies.ladder import Ladder
from onnxprune.strategies.sensitivity import LEVELS, sensitivities
from onnxprune.strategies.widths import Widths


def two_branches() -> Graph:
    """One branch that the output hears, one that it hardly does; their consumers' own losses are alike."""
    n = Net("branches")
    x = n.input("batch", 3, 4, 4)
    loud = n.conv(n.Relu(n.conv(x, 12)), 5)
    soft = n.conv(n.Relu(n.conv(x, 12)), 5)
    n.output(n.Softmax(n.Flatten(n.GlobalAveragePool(n.Add(loud, n.Mul(soft, 0.01)))), axis=1))
    return Graph(n.finished())


def sampled(ready):
    """Statistics, and samples that nothing was fitted to."""
    x = np.random.default_rng(0).standard_normal((200, 3, 4, 4)).astype(np.float32)
    data = samples.load([{ready.graph.inputs[0]: x}], ready.graph)
    return measured(split(data, HELD_BACK, 0), ready.network, ready.channels.wanted(get("obs").needs))


@pytest.fixture(scope="module")
def job():
    ready = prepare(two_branches(), simplify=False)
    return ready, sampled(ready)


def made(ready) -> list[Ladder]:
    random = np.random.default_rng(1)
    return [Ladder(g, random.random(g.size)) for g in ready.channels.groups]


def cost_of(ready):
    return macs_model(ready.graph, ready.facts, ready.channels.effect)


class Given:
    """A criterion that says what a test wants."""

    name = "given"
    needs: frozenset = frozenset()

    def __init__(self, scores):
        self._scores = scores

    def scores(self, context):
        return self._scores


def ladders(ready, evidence, scores, cost, **options):
    """As a phase makes them."""
    setting = Setting(ready, Options(**options), Timing(), None, lambda _: None)
    phase = Phase("channels", (Channels(),), Budget(), Given(scores))
    search = Search(setting, phase, ready.network, Unchanged(), (ready.channels,), evidence)
    return _ladders(search, Widths(), cost)


def without(ready, choice, stats):
    """The network in which units of a group read zero, and their readers make up for that."""
    space = ready.channels
    return predicted(space.mask(ready.network, choice), space.lost(choice), ready.graph, stats)


def losses_of(ready, steps, stats, batches, evaluations, **how):
    return sensitivities(
        ready.network,
        steps,
        lambda _, choice: without(ready, choice, stats),
        ready.channels.start,
        batches,
        evaluations,
        **how,
    )


def test_without_samples_all_groups_give_the_same_share():
    """Whatever their scores and their costs."""
    n = Net("cone")
    x = n.Relu(n.conv(n.input("batch", 3, 4, 4), 20))
    n.output(n.conv(n.Relu(n.conv(x, 40)), 5))
    ready = prepare(Graph(n.finished()), simplify=False)
    cost = cost_of(ready)
    groups = ready.channels.groups
    scores = tuple(10.0**g * np.arange(1.0, group.size + 1) for g, group in enumerate(groups))
    steps = ladders(ready, Evidence(), scores, cost)
    choice = Allocation(steps, cost).choice(0.5)
    shares = [choice.of(group).mean() for group in groups]
    assert np.ptp(shares) <= 0.1
    assert 0.6 < min(shares) < 0.8


def test_heavy_networks_are_measured_on_fewer_samples(job, monkeypatch):
    ready, _ = job
    steps = made(ready)
    macs = one_sample_macs(ready.network)
    assert curves.enough(steps, macs, 200) == curves.MOST
    monkeypatch.setattr(curves, "EFFORT", 20 * macs * len(steps) * len(LEVELS))
    assert curves.enough(steps, macs, 200) == 20
    assert curves.enough(steps, macs, 1) == curves.MOST
    assert curves.enough(steps, macs, 200, most=10) == 10
    monkeypatch.setattr(curves, "EFFORT", 1)
    assert curves.enough(steps, macs, 200) == curves.LEAST


def test_what_the_output_hears_counts(job):
    ready, evidence = job
    found = losses_of(ready, made(ready), evidence.stats, evidence.choose.batches(), 100)
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
    evidence = sampled(ready)
    batches = list(evidence.choose.batches())
    steps, judge = made(ready), Judge(ready.graph, batches)
    found = losses_of(ready, steps, evidence.stats, batches, 100, memory=memory)
    assert len(found) == 4
    for step, losses in zip(steps, found, strict=True):
        for rung, loss in losses.items():
            whole = without(ready, Choice({step.group.id: step.stays(rung)}), evidence.stats)
            assert loss == pytest.approx(judge.loss(whole.graph), rel=1e-4)


def test_evaluations_are_bounded_and_the_middle_comes_first(job):
    ready, evidence = job
    steps = made(ready)
    found = losses_of(ready, steps, evidence.stats, evidence.choose.batches(), 2)
    assert [[steps[g].counts[r] for r in rungs] for g, rungs in enumerate(found)] == [[6], [6]]


def test_a_quarter_half_and_three_quarters_of_each_group_are_taken_out(job):
    """Of 12 channels 9, 6 and 3 stay; with fewer evaluations what little is gone goes before what much is."""
    ready, evidence = job
    steps = made(ready)
    counts = [
        [
            sorted(steps[g].counts[r] for r in rungs)
            for g, rungs in enumerate(losses_of(ready, steps, evidence.stats, evidence.choose.batches(), n))
        ]
        for n in (100, 4, 3)
    ]
    assert counts == [[[3, 6, 9], [3, 6, 9]], [[6, 9], [6, 9]], [[6, 9], [6]]]


def test_a_group_with_few_widths_is_measured_at_each_once(job):
    ready, evidence = job
    steps = [Ladder(x.group, x.scores, round_to=n) for x, n in zip(made(ready), (6, 12), strict=True)]
    found = losses_of(ready, steps, evidence.stats, evidence.choose.batches(), 100)
    assert [[*rungs] for rungs in found] == [[1], []]


def test_curves_follow_what_was_measured(job):
    ready, evidence = job
    scores = tuple(np.arange(1.0, g.size + 1) for g in ready.channels.groups)
    loud, soft = ladders(ready, evidence, scores, cost_of(ready))
    assert loud.curve[6] > 100 * soft.curve[6]
    same = ladders(ready, evidence, scores, cost_of(ready), evaluations=0)
    assert np.array_equal(same[0].curve, same[1].curve)
    unjudged = ladders(ready, replace(evidence, choose=None), scores, cost_of(ready))
    assert np.array_equal(unjudged[0].curve, same[0].curve)


def test_curves_follow_what_statistics_tell(job):
    """Without samples to measure on, what was measured when statistics were gathered counts."""
    ready, evidence = job
    groups = ready.channels.groups
    scores = tuple(np.arange(1.0, g.size + 1) for g in groups)
    plain = [Ladder(g, score) for g, score in zip(groups, scores, strict=True)]
    batches = evidence.choose.first(curves.MOST).batches()
    found = losses_of(ready, plain, evidence.stats, batches, 100)
    known = {
        g.id: tuple((step.counts[rung], loss) for rung, loss in losses.items())
        for g, step, losses in zip(groups, plain, found, strict=True)
    }
    told = replace(evidence, choose=None, stats=replace(evidence.stats, sensitivities=known))
    measured, recalled = (ladders(ready, e, scores, cost_of(ready)) for e in (evidence, told))
    for a, b, losses in zip(measured, recalled, found, strict=True):
        np.testing.assert_allclose(a.curve, b.curve)
        for rung, loss in losses.items():
            assert b.loss(rung) == pytest.approx(loss)
    forgotten = {groups[0].id: known[groups[0].id]}
    some = replace(told, stats=replace(evidence.stats, sensitivities=forgotten))
    first, second = ladders(ready, some, scores, cost_of(ready))
    np.testing.assert_allclose(first.curve, recalled[0].curve)
    typical = np.median([loss / plain[0].loss(rung) for rung, loss in found[0].items()])
    np.testing.assert_allclose(second.curve, typical * plain[1].curve)


def test_losses_at_other_widths_count_as_scores_say():
    """Of 12 units 6 stay where 8 were measured: what is lost is times what scores say of both."""
    group = Group("g", "g", "channel", 12)
    ladder = Ladder(group, np.arange(1.0, 13), round_to=4)
    assert ladder.counts == (12, 8, 4)
    (exact, near, nothing) = (
        curves.recalled([ladder], {"g": known} if known else {})[0]
        for known in (((8, 0.5), (4, 2.0)), ((7, 0.5),), ())
    )
    assert exact == {1: 0.5, 2: 2.0}
    assert near == {1: pytest.approx(0.5 * ladder.curve[4] / ladder.curve[5])}
    assert nothing == {}
    both = curves.recalled([ladder], {"g": ((7, 0.9), (8, 0.5), (9, 0.1))})[0]
    assert both == {1: 0.5}, "what was measured there goes before what was measured near it"


def test_unmeasured_groups_are_taken_as_usual(job):
    ready, evidence = job
    scores = tuple(np.arange(1.0, g.size + 1) for g in ready.channels.groups)
    first, second = ladders(ready, evidence, scores, cost_of(ready), evaluations=1)
    ratio = first.curve[6] / Ladder(first.group, scores[0]).curve[6]
    np.testing.assert_allclose(second.curve, ratio * Ladder(second.group, scores[1]).curve)


def test_what_saturates_is_heard_before(job):
    ready, _ = job
    graph = ready.graph
    (softmax,) = (n for n in graph.nodes if n.op == "Softmax")
    assert compared_outputs(graph) == (*graph.outputs, softmax.inputs[0])
    x = {graph.inputs[0]: np.random.default_rng(2).standard_normal((9, 3, 4, 4)).astype(np.float32)}
    assert Judge(graph, [x]).loss(graph) == pytest.approx(0, abs=1e-9)
