"""Budgets of cost, met on small networks that are really cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import Net

from onnxprune.contracts.budget import Limit
from onnxprune.contracts.cut import without
from onnxprune.contracts.groups import Choice
from onnxprune.contracts.maker import Candidate
from onnxprune.contracts.repaired import Repaired
from onnxprune.contracts.timing import Timing
from onnxprune.cost.macs import macs
from onnxprune.cost.memory import peak
from onnxprune.cost.model import macs_model, parameters_model
from onnxprune.cost.quantities import ROWS, CostMeter, driver, read
from onnxprune.errors import Infeasible
from onnxprune.graph import Edits, Graph, Network, infer
from onnxprune.reductions.channels import Channels
from onnxprune.strategies.allocation import Allocation
from onnxprune.strategies.ladder import Ladder
from onnxprune.strategies.limits import AllocationProblem, exceeded, meet, widest_within
from onnxprune.strategies.widths import Widths


class Cutter:
    """Cuts, repairs nothing, and remembers what it was asked for."""

    def __init__(self, space):
        self.space = space
        self.asked: list[Choice] = []

    def cut(self, choice):
        self.asked.append(choice)
        return without(self.space.network, [self.space], choice)

    def candidate(self, choice):
        cut = self.cut(choice)
        return Candidate(cut, Repaired(self.repaired(cut.network), "none"))

    def repaired(self, network):
        return network


class Growing(Cutter):
    """Its repair adds a constant of 2,000 values."""

    def repaired(self, network):
        return network.edited(Edits(added={"more": np.zeros(2000, np.float32)}))


class Case:
    """A chain of convolutions and how it is narrowed."""

    def __init__(self, width: int = 32) -> None:
        n = Net("goals")
        x = n.input("batch", 3, 12, 12)
        for _ in range(3):
            x = n.Relu(n.conv(x, width, kernel=(3, 3), pads=[1] * 4))
        n.output(n.gemm(n.Flatten(n.GlobalAveragePool(x)), 5))
        self.graph = Graph(n.finished())
        self.network = Network(self.graph)
        self.space = Channels().find(self.network)
        random = np.random.default_rng(0)
        ladders = [Ladder(g, random.random(g.size) / g.size) for g in self.space.groups]
        effect = self.space.effect
        self.path = Allocation(ladders, macs_model(self.graph, self.network.facts, effect))
        self.lighter = Allocation(ladders, parameters_model(self.graph, effect))

    def problem(self, *limits, timing=None, seconds=0.0, maker=Cutter, widths=None):
        meter = CostMeter(self.network, timing, seconds)
        path = self.lighter if driver(limits) == "--params" else self.path
        return AllocationProblem(self.network, path, maker(self.space), widths or Widths(), limits, meter)

    def cut(self, choice):
        return without(self.network, [self.space], choice).network

    def meet(self, *limits, **options):
        return self.cut(widest_within(self.problem(*limits, **options))).graph


CASE = Case()


def total_macs(graph: Graph) -> int:
    return sum(macs(graph, infer(graph, {"batch": 1})).values())


def peak_memory(graph: Graph) -> int:
    return peak(graph, infer(graph, {"batch": 1})).total


MEASURES = [
    ("--macs", total_macs),
    ("--params", Graph.parameters),
    ("--size", Graph.size),
    ("--memory-peak", peak_memory),
]


@pytest.mark.parametrize("other", [(), ("--size", "0.999")], ids=["alone", "with another"])
@pytest.mark.parametrize("text", ["0.7", "55%"])
@pytest.mark.parametrize(("option", "measure"), MEASURES)
def test_a_share_is_met_and_used_up(option, measure, text, other):
    """Alone, what the cost tells is not measured; with another limit everything is."""
    wanted = read(option, text)
    found = CASE.meet(wanted, *([read(*other)] if other and option != other[0] else []))
    share = measure(found) / measure(CASE.graph)
    assert wanted.share * 0.93 < share <= wanted.share


@pytest.mark.parametrize(("option", "measure"), MEASURES)
def test_an_amount_is_met_and_used_up(option, measure):
    amount = 0.6 * measure(CASE.graph)
    found = CASE.meet(Limit(ROWS[option].quantity, amount=amount))
    assert 0.93 * amount < measure(found) <= amount


def test_size_is_that_of_the_file():
    found = CASE.meet(read("--size", "0.5"))
    assert len(found.model.SerializeToString()) == found.size()


def test_several_together():
    found = CASE.meet(read("--macs", "0.9"), read("--params", "0.4"))
    assert 0.37 < found.parameters() / CASE.graph.parameters() <= 0.4
    assert total_macs(found) <= 0.9 * total_macs(CASE.graph)


def test_latency_is_measured_beside_the_original():
    meter = CostMeter(CASE.network, Timing(threads=1), seconds=0.05)
    tiny = CASE.cut(CASE.path.choice(0.05))
    share, time = (meter.value(read("--latency", said), tiny) for said in ("0.999", "5ms"))
    assert 0 < time < 1 < 1e3 * share, "the one is in seconds, the other a share of the original's"
    assert read("--latency", "5ms").of(1.0) == 0.005


def test_a_budget_below_the_floor_says_where_it_is_and_who_stands_in_the_way():
    limits = (Limit(ROWS["--params"].quantity, amount=10), read("--size", "0.999"))
    with pytest.raises(Infeasible) as caught:
        CASE.meet(*limits)
    assert caught.value.where == "--params"
    floor = CASE.cut(CASE.path.choice(CASE.path.floor)).graph.parameters()
    assert f"10 parameters can't be met: {floor} parameters is the least" in str(caught.value)
    heaviest = CASE.lighter.heaviest(CASE.lighter.narrowest)
    assert f"most in {', '.join(map(repr, heaviest))})" in str(caught.value)


class Said(CostMeter):
    """What a test says of every network, in place of what it is."""

    def __init__(self, **values: float) -> None:
        super().__init__(CASE.network)
        self.values = {f"--{name.replace('_', '-')}": value for name, value in values.items()}

    def value(self, limit, network):
        return self.values[limit.quantity.option]


def test_nothing_is_tried_twice_where_the_first_fits():
    problem = replace(CASE.problem(read("--latency", "0.5")), meter=Said(latency=0.995 * 0.5))
    found = widest_within(problem)
    assert len(problem.maker.asked) == 1
    middle = (CASE.path.floor + 1) / 2
    assert found.digest == CASE.path.choice(middle).digest


def test_of_several_limits_the_one_that_is_exceeded_most_counts():
    limits = (Limit(ROWS["--macs"].quantity, amount=100), read("--size", "10 B"))
    problem = CASE.problem(*limits)

    def worst(macs, size):
        return exceeded(replace(problem, meter=Said(macs=macs, size=size)), CASE.network)

    assert worst(90, 12) == (limits[1], pytest.approx(0.2))
    assert worst(110, 9) == (limits[0], pytest.approx(0.1))
    assert worst(50, 9)[1] == pytest.approx(-0.1)


@pytest.mark.parametrize("option", ["--macs", "--size"])
def test_what_is_within_already_is_refused(option):
    with pytest.raises(Infeasible, match=f"is within {option} .* already: nothing has to be removed"):
        CASE.meet(Limit(ROWS[option].quantity, amount=1e12))


def test_where_repair_adds_less_is_kept_for_that():
    limit = read("--params", "0.5")
    plain, grown = (meet(CASE.problem(limit, maker=maker)) for maker in (Cutter, Growing))
    budget = 0.5 * CASE.graph.parameters()
    assert plain.candidate.graph.parameters() + 2000 > budget, "what is added does not matter here"
    assert 0.93 * budget - 2000 < grown.candidate.graph.parameters() <= budget
    assert grown.choice.digest == grown.candidate.cut.choice.digest


def test_what_repair_adds_may_be_too_much():
    limit = Limit(ROWS["--params"].quantity, amount=2100)
    with pytest.raises(Infeasible, match=r"2\.1 k can't be met with what repair adds: 2\.\d+ k is left"):
        meet(CASE.problem(limit, maker=Growing))
    problem = CASE.problem(limit, maker=Growing)
    with pytest.raises(Infeasible):
        meet(problem)
    assert len(problem.maker.asked) == 6, "then it is given up"
    share = read("--params", str(2100 / CASE.graph.parameters()))
    with pytest.raises(Infeasible, match=r"repair adds: 0\.0*[1-9]\d* of the parameters is left"):
        meet(CASE.problem(share, maker=Growing))


def test_liked_widths_give_way_where_they_waste_much():
    """At multiples of 16, 32 channels have two widths; a share of 0.45 wants something between them."""
    preferred = Widths(16, strict=False)
    ladders = [Ladder(x.group, x.scores, round_to=preferred.of(x.group)) for x in CASE.path.ladders]
    path = replace(CASE.path, ladders=ladders)
    problem = replace(CASE.problem(read("--macs", "0.45"), widths=preferred), allocation=path)
    plain, topped = path.choice(0.45), widest_within(problem)
    assert path.share(plain) < 0.4 <= path.share(topped) <= 0.45
    for group in CASE.space.groups:
        assert (topped.of(group) | ~plain.of(group)).all(), "what was kept stays"
    strict = replace(problem, widths=Widths(16))
    assert widest_within(strict).digest == plain.digest


def test_a_symbolic_batch_is_one_sample():
    limit = read("--macs", "1 GMACs")
    assert CostMeter(CASE.network).value(limit, CASE.network) == total_macs(CASE.graph)
    four = CostMeter(CASE.network, Timing(batch=4))
    assert four.value(limit, CASE.network) == 4 * total_macs(CASE.graph)
