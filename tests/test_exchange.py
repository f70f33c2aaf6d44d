"""Exchange between groups: what whole candidates say, and how far that is believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nets import Net

from onnxprune.contracts.groups import Choice
from onnxprune.cost.quantities import read
from onnxprune.graph import Graph
from onnxprune.pipeline import Options, prune
from onnxprune.pipeline.begin import begin
from onnxprune.pipeline.costs import after_exchange as exchanged
from onnxprune.pipeline.costs import allocation_problem
from onnxprune.pipeline.run import start
from onnxprune.strategies import exchange
from onnxprune.strategies.limits import AllocationProblem, widest_within

MODELS = Path(__file__).parents[1] / "models"


def three_layers() -> Graph:
    n = Net("exchange")
    x = n.input("batch", 3, 4, 4)
    for width in (32, 48, 40):
        x = n.Relu(n.conv(x, width, kernel=(3, 3), pads=[1] * 4))
    n.output(n.conv(x, 5))
    return Graph(n.finished())


GRAPH = three_layers()
(INPUT,), SHARE = GRAPH.inputs, 0.5
CALIB = [{INPUT: np.random.default_rng(1).standard_normal((200, 3, 4, 4)).astype(np.float32)}]


def started(calib=CALIB, **options):
    """The units, the way down, and what stays of each group where nothing is exchanged."""
    search = start(begin(GRAPH, Options(macs=SHARE, **options), calib=calib))
    problem = allocation_problem(search)
    return search, problem, widths(problem, widest_within(problem))


def widths(problem: AllocationProblem, choice: Choice) -> list[int]:
    return [int(choice.of(ladder.group).sum()) for ladder in problem.allocation.ladders]


@pytest.fixture
def judged(monkeypatch):
    """Judges that say what a test wants: `says(widths) -> losses of the parts`, as logarithms."""
    calls: list[list[int]] = []

    def install(says):
        def losses(problem, judges, choice):
            found = widths(problem, choice)
            calls.append(found)
            return np.broadcast_to(says(found), (len(judges),)).astype(float)

        monkeypatch.setattr(exchange, "_losses", losses)
        return calls

    return install


@pytest.mark.parametrize("wanted", range(3))
def test_the_group_that_matters_gets_width(judged, wanted):
    judged(lambda found: -found[wanted] / 100)
    search, problem, before = started(round_to=2)
    choice = widest_within(exchanged(search, problem))
    assert widths(problem, choice)[wanted] > before[wanted]
    assert problem.allocation.share(choice) <= SHARE


def test_what_only_some_parts_say_is_not_believed(judged):
    """The mean is better, but only as one part is better by far."""
    search, problem, before = started()
    judged(lambda found: np.where(np.arange(8) == 3, -9.0, 0.1) * (found != before))
    assert widths(problem, widest_within(exchanged(search, problem))) == before


def test_effort_is_bounded(judged):
    random = np.random.default_rng(0)
    calls = judged(lambda found: -random.random(8))
    exchanged(*started(evaluations=80, round_to=2)[:2])
    assert 2 <= len(calls) <= 1 + 80 // exchange.ONE_IN
    assert len({tuple(c) for c in calls}) == len(calls)


def test_what_is_dear_to_run_is_not_tried_often(judged, monkeypatch):
    calls = judged(lambda found: 0.0)
    monkeypatch.setattr(exchange, "EFFORT", 1.0)
    search, problem, _ = started()
    assert exchanged(search, problem).allocation is problem.allocation
    assert not calls


@pytest.mark.parametrize(
    "options",
    [{"calib": None}, {"evaluations": 0}, {"calib": [{INPUT: CALIB[0][INPUT][:20]}]}],
    ids=["no samples", "no effort", "few samples"],
)
def test_without_samples_to_judge_on_nothing_is_tried(judged, options):
    calls = judged(lambda found: 0.0)
    search, problem, _ = started(**options)
    assert exchanged(search, problem).allocation is problem.allocation
    assert not calls


def test_for_latency_nothing_is_tried(judged):
    """Every candidate would have to be measured against the clock."""
    calls = judged(lambda found: 0.0)
    _, problem, _ = started()
    timed = replace(problem, limits=(read("--latency", 0.5),))
    assert exchange.exchanged(timed, [None, None], 10) is timed
    assert not calls


def test_parts_share_no_sample():
    samples = started()[0].evidence.choose
    parts = exchange.parts(samples)
    assert len(parts) == exchange.PARTS
    taken = np.concatenate([part.indices for part in parts])
    assert sorted(taken) == sorted(samples.indices)


def test_digits_lose_less_with_it(monkeypatch):
    """On samples that none of this has seen."""

    def drift() -> float:
        result = prune(
            MODELS / "digits-residual.onnx",
            macs=0.2,
            calib=MODELS / "digits-calib.npz",
            round_to=8,
            measure_latency=False,
        )
        return result.verdict.drift.relative["logits"]

    with_it = drift()
    monkeypatch.setattr("onnxprune.pipeline.costs.exchanged", lambda problem, _judges, _count: problem)
    assert with_it < 0.95 * drift()
