"""Exchange between groups: what whole candidates say, and how far that is believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nets import Net

from onnxprune.execution.timing import Timing
from onnxprune.graph import Graph
from onnxprune.pipeline import Budget, Settings, exchange, prune
from onnxprune.pipeline.prune import begin
from onnxprune.pipeline.route import Route, route, within

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


def started(calib=CALIB, budget: Budget | None = None, **settings):
    """A job, the way down, and what stays of each group where nothing is exchanged."""
    budget = budget or Budget(macs=SHARE)
    job = begin(
        GRAPH,
        budget,
        Settings(**settings),
        Timing(),
        calib=calib,
        labels=None,
        stats=None,
        progress=lambda _: None,
    )
    way = route(job, budget.goals)
    return job, way, widths(way, within(job, way))


def widths(way: Route, kept: np.ndarray) -> list[int]:
    return [int(kept[ladder.group.units].sum()) for ladder in way.descent.ladders]


@pytest.fixture
def judged(monkeypatch):
    """Judges that say what a test wants: `says(widths) -> losses of the parts`, as logarithms."""
    calls: list[list[int]] = []

    def install(says):
        def losses(job, judges, kept):
            groups = job.ready.analysis.groups
            found = [int(kept[group.units].sum()) for group in groups]
            calls.append(found)
            return np.broadcast_to(says(found), (len(judges),)).astype(float)

        monkeypatch.setattr(exchange, "_losses", losses)
        return calls

    return install


@pytest.mark.parametrize("wanted", range(3))
def test_the_group_that_matters_gets_width(judged, wanted):
    judged(lambda found: -found[wanted] / 100)
    job, way, before = started(round_to=2)
    after = exchange.exchanged(job, way)
    found = widths(way, within(job, after))
    assert found[wanted] > before[wanted]
    assert way.descent.share(within(job, after)) <= SHARE


def test_what_only_some_parts_say_is_not_believed(judged):
    """The mean is better, but only as one part is better by far."""
    _, _, before = started()
    job, way, _ = started()
    judged(lambda found: np.where(np.arange(8) == 3, -9.0, 0.1) * (found != before))
    assert widths(way, within(job, exchange.exchanged(job, way))) == before


def test_effort_is_bounded(judged):
    random = np.random.default_rng(0)
    calls = judged(lambda found: -random.random(8))
    job, way, _ = started(evaluations=80, round_to=2)
    exchange.exchanged(job, way)
    assert 2 <= len(calls) <= 1 + 80 // exchange.ONE_IN
    assert len({tuple(c) for c in calls}) == len(calls)


def test_what_is_dear_to_run_is_not_tried_often(judged, monkeypatch):
    calls = judged(lambda found: 0.0)
    monkeypatch.setattr(exchange, "EFFORT", 1.0)
    job, way, _ = started()
    assert exchange.exchanged(job, way) is way
    assert not calls


@pytest.mark.parametrize(
    "options",
    [{"calib": None}, {"evaluations": 0}, {"calib": [{INPUT: CALIB[0][INPUT][:20]}]}],
    ids=["no samples", "no effort", "few samples"],
)
def test_without_samples_to_judge_on_nothing_is_tried(judged, options):
    calls = judged(lambda found: 0.0)
    job, way, _ = started(**options)
    assert exchange.exchanged(job, way) is way
    assert not calls


def test_parts_share_no_sample():
    job, _, _ = started()
    parts = exchange._parts(job)
    assert len(parts) == exchange.PARTS
    taken = np.concatenate([part.indices for part in parts])
    assert sorted(taken) == sorted(job.evidence.choice.indices)


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
    monkeypatch.setattr("onnxprune.pipeline.solve.exchanged", lambda _, way: way)
    assert with_it < 0.95 * drift()
