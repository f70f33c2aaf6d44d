"""Budgets of cost, met on small networks that are really narrowed."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Net

from onnxprune.contracts.budget import LATENCY, MACS, MEMORY, PARAMS, SIZE, Limit, limit
from onnxprune.cost.macs import macs
from onnxprune.cost.memory import peak
from onnxprune.cost.model import macs_model
from onnxprune.errors import Infeasible
from onnxprune.execution.timing import Timing
from onnxprune.graph import Graph, infer
from onnxprune.reductions.channels.cut import rewrite
from onnxprune.reductions.channels.find import analyze
from onnxprune.runtime import ExecutionOptions
from onnxprune.strategies.descent import Descent
from onnxprune.strategies.goals import Goals, caps, meet
from onnxprune.strategies.ladder import Ladder
from onnxprune.strategies.limits import Cap


class Case:
    """A chain of convolutions and how it is narrowed."""

    def __init__(self, width: int = 32) -> None:
        n = Net("goals")
        x = n.input("batch", 3, 12, 12)
        for _ in range(3):
            x = n.Relu(n.conv(x, width, kernel=(3, 3), pads=[1] * 4))
        n.output(n.gemm(n.Flatten(n.GlobalAveragePool(x)), 5))
        self.graph = Graph(n.finished())
        self.facts = infer(self.graph)
        self.analysis = analyze(self.graph, self.facts)
        random = np.random.default_rng(0)
        ladders = [Ladder(g, random.random(g.size) / g.size) for g in self.analysis.groups]
        self.path = Descent(self.analysis, ladders, macs_model(self.graph, self.facts, self.analysis))

    def narrowed(self, kept):
        return rewrite(self.graph, self.facts, self.analysis, kept)

    def meet(self, goals, **options):
        budgets = caps(goals, self.graph, options.pop("timing", None), seconds=0)
        return meet(self.path.kept, self.narrowed, budgets, floor=self.path.floor, **options)


CASE = Case()


def total_macs(graph: Graph) -> int:
    return sum(macs(graph, infer(graph, {"batch": 1})).values())


def peak_memory(graph: Graph) -> int:
    return peak(graph, infer(graph, {"batch": 1})).total


MEASURES = [
    ("macs", MACS, total_macs),
    ("params", PARAMS, Graph.parameters),
    ("size", SIZE, Graph.size),
    ("memory", MEMORY, peak_memory),
]


@pytest.mark.parametrize("text", ["0.7", "55%"])
@pytest.mark.parametrize(("name", "quantity", "measure"), MEASURES)
def test_a_share_is_met_and_used_up(name, quantity, measure, text):
    wanted = limit(text, quantity, option="--x")
    found = CASE.meet(Goals(**{name: wanted}))
    share = measure(found.graph) / measure(CASE.graph)
    assert wanted.share * 0.93 < share <= wanted.share
    assert found.search.best.at == found.share


@pytest.mark.parametrize(("name", "quantity", "measure"), MEASURES)
def test_an_amount_is_met_and_used_up(name, quantity, measure):
    amount = 0.6 * measure(CASE.graph)
    found = CASE.meet(Goals(**{name: Limit(quantity, amount=amount)}))
    assert 0.93 * amount < measure(found.graph) <= amount


def test_size_is_that_of_the_file():
    found = CASE.meet(Goals(size=limit("0.5", SIZE, option="--size")))
    assert len(found.graph.model.SerializeToString()) == found.graph.size()


def test_several_together():
    goals = Goals(macs=limit("0.9", MACS, option="--macs"), params=limit("0.4", PARAMS, option="--params"))
    found = CASE.meet(goals)
    assert 0.37 < found.graph.parameters() / CASE.graph.parameters() <= 0.4
    assert total_macs(found.graph) <= 0.9 * total_macs(CASE.graph)


def test_latency_is_measured_beside_the_original():
    goals = Goals(latency=limit("0.999", LATENCY, option="--latency"))
    (cap,) = caps(goals, CASE.graph, Timing(ExecutionOptions(threads=1)), seconds=0.05)
    tiny = CASE.narrowed(CASE.path.kept(0.05))
    assert cap.value(tiny) < 1
    (time,) = caps(Goals(latency=limit("5ms", LATENCY, option="--latency")), CASE.graph, seconds=0.05)
    assert time.limit == 0.005
    assert 0 < time.value(tiny) < 1


def test_a_budget_below_the_floor_says_where_it_is_and_who_stands_in_the_way():
    with pytest.raises(Infeasible) as caught:
        CASE.meet(Goals(params=Limit(PARAMS, amount=10)), names=lambda _: ["conv7"])
    assert caught.value.where == "--params"
    floor = CASE.narrowed(CASE.path.kept(CASE.path.floor)).parameters()
    assert f"10 parameters can't be met: {floor} parameters is the least" in str(caught.value)
    assert "most in 'conv7'" in str(caught.value)


def test_nothing_is_tried_twice_where_the_first_fits():
    made = []

    def narrowed(kept):
        made.append(kept)
        return CASE.graph

    cap = Cap("--x", 1.0, lambda _: 0.995)
    found = meet(CASE.path.kept, narrowed, (cap,), floor=CASE.path.floor, first=0.5)
    assert len(made) == 1
    assert found.share == 0.5


@pytest.mark.parametrize(
    ("goals", "driver"),
    [
        ({"macs": MACS}, "macs"),
        ({"params": PARAMS}, "params"),
        ({"size": SIZE}, "params"),
        ({"memory": MEMORY}, "macs"),
        ({"latency": LATENCY, "macs": MACS, "size": SIZE}, "latency"),
        ({"macs": MACS, "size": SIZE}, "macs"),
        ({}, "macs"),
    ],
)
def test_what_is_brought_down(goals, driver):
    assert Goals(**{name: Limit(quantity, share=0.5) for name, quantity in goals.items()}).driver == driver


def test_a_symbolic_batch_is_one_sample():
    (cap,) = caps(Goals(macs=limit("1 GMACs", MACS, option="--macs")), CASE.graph)
    assert cap.value(CASE.graph) == total_macs(CASE.graph)
    (cap,) = caps(Goals(macs=limit("1 GMACs", MACS, option="--macs")), CASE.graph, Timing(batch=4))
    assert cap.value(CASE.graph) == 4 * total_macs(CASE.graph)
