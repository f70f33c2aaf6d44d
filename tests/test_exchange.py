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


@pytest.mark.parametrize("wanted", range(3))
def test_it_goes_on_as_long_as_something_gains(judged, monkeypatch, wanted):
    """In the end every group was tried to count for more and for less, and nothing of that is better."""
    monkeypatch.setattr(exchange, "FACTORS", (4.0,))
    calls = judged(lambda found: -found[wanted] / 100)
    search, problem, before = started(evaluations=800, round_to=2)
    found = exchanged(search, problem)
    gains = [c[wanted] for c in calls if c[wanted] > before[wanted]]
    assert len({*gains}) > 1, "one step is not all there is to gain"
    tried = {tuple(c) for c in calls}
    assert len(tried) < 100, "effort is no limit here"
    for group in range(3):
        for times in (4.0, 0.25):
            near = widths(problem, widest_within(exchange._weighing(found, group, times)))
            assert tuple(near) in tried
            assert near[wanted] <= max(gains)


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


@pytest.mark.parametrize(
    ("evaluations", "samples", "macs", "count"),
    [
        (200, 10, 1000, 25),  # one in eight
        (207, 10, 1000, 25),
        (64, 10, 1000, 8),
        (63, 10, 1000, 0),  # too few to gain anything
        (200, 2000, 2 * 10**7, 10),  # each candidate takes 4e11 of 4e12
        (200, 2000, 3 * 10**7, 0),
        (200, 0, 0, 25),
        (0, 10, 1000, 0),
    ],
)
def test_candidates_are_as_many_as_the_effort_allows(evaluations, samples, macs, count):
    assert exchange.affordable(evaluations, samples, macs) == count


@pytest.mark.parametrize(
    ("gains", "better"),
    [
        ([1, 1, 1, 1], True),
        ([0, 0, 0, 0], False),
        ([-1, -1, -1, -1], False),
        ([1, 0, 0, 0], False),
        ([2, 1, 1, 2], True),
        ([3, 1, 0, -1], False),
        ([2, 1, 0, 0], True),
        ([2, 1, 0, -0.1], False),
    ],
)
def test_a_gain_is_believed_where_it_is_more_than_parts_differ_by(gains, better):
    """Mean against 1.5 standard errors: of (3, 1, 0, -1) 0.75 against 1.28, of (2, 1, 0, 0) against 0.72."""
    old = np.arange(4.0)
    assert exchange._is_less(old - np.asarray(gains), old) is better


def test_few_samples_make_few_parts_and_too_few_none():
    samples = started()[0].evidence.choose
    counts = {n: [p.count for p in exchange.parts(samples.first(n))] for n in (7, 8, 13, 40)}
    assert counts == {7: [], 8: [4, 4], 13: [5, 4, 4], 40: [5] * 8}


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
