"""What `--max-drop` promises is found out on samples that decided nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from test_meeting import CASE
from test_pipeline_budgets import CALIB, GRAPH, INPUT, cut, samples

from onnxprune.errors import Infeasible
from onnxprune.graph import Graph
from onnxprune.pipeline import Options
from onnxprune.pipeline.begin import begin
from onnxprune.quality.metrics import Marks
from onnxprune.strategies import max_drop
from onnxprune.strategies.max_drop import Exams, most


class Said:
    """An exam that says how much a network loses that has a share of its parameters left."""

    name = "said"

    def __init__(self, loses: Callable[[float], float], answers: int = 0) -> None:
        self.loses, self.answers = loses, answers

    def marks(self, graph: Graph) -> Marks:
        lost = self.loses(graph.parameters() / CASE.graph.parameters())
        if not self.answers:
            return Marks(1 - lost)
        return Marks.of(np.arange(self.answers) >= round(lost * self.answers))


def nothing(_share: float) -> float:
    return 0.0


def all_of_it(share: float) -> float:
    return 1 - share


@pytest.fixture
def searched(monkeypatch):
    """The most pruning within a limit, by what two exams say."""
    monkeypatch.setattr(max_drop, "open_session", lambda graph: graph)

    def found(search: Said, confirm: Said, limit: float):
        exams = Exams(search, confirm, (search.marks(CASE.graph), confirm.marks(CASE.graph)))
        return most(CASE.lighter, lambda choice: CASE.cut(choice).graph, exams, limit)

    return found


def test_samples_that_decide_and_samples_that_confirm_both_say_so(searched):
    found = searched(Said(all_of_it), Said(lambda share: (1 - share) / 2), 0.3)
    assert 0.24 <= found.seen.value <= 0.3
    assert found.unseen.value == pytest.approx(found.seen.value / 2)
    assert found.share == pytest.approx(1 - found.seen.value)


def test_what_the_search_is_content_with_is_given_up_where_it_is_not_confirmed(searched):
    """The search goes on behind its first candidate, the middle, which others confirm."""
    search = Said(lambda share: float(share < 0.3))
    loose, strict = (
        searched(search, Said(lambda share, least=least: float(share < least)), 0.2) for least in (0, 0.45)
    )
    assert 0.3 <= loose.share < 0.4
    assert 0.45 <= strict.share < 0.52
    assert strict.unseen.value == 0


def test_a_promise_that_no_other_samples_confirm_is_none(searched):
    with pytest.raises(Infeasible, match="on the samples that decide, but not on those that confirm"):
        searched(Said(nothing), Said(lambda share: float(share < 1)), 0.05)


def test_a_promise_that_no_sample_holds_is_refused_by_the_smallest_cut(searched):
    with pytest.raises(Infeasible, match="even the smallest cut"):
        searched(Said(lambda share: float(share < 1)), Said(nothing), 0.05)


def test_it_holds_by_what_chance_would_explain(searched):
    """Of 400 answers, the one standard error of what is lost counts as lost, too."""
    found = searched(Said(all_of_it, 400), Said(nothing, 400), 0.1)
    assert found.seen.spread > 0.01
    assert 0.07 <= found.seen.value + found.seen.spread <= 0.1


def test_with_few_answers_what_holds_at_all_will_do(searched):
    """One of 4 answers lost is 25 points, and chance may explain as much again."""
    search = Said(lambda share: 0.0 if share == 1 else 0.25 if share >= 0.5 else 0.5, 4)
    found = searched(search, Said(nothing, 4), 0.3)
    assert found.seen.value == found.seen.spread == 0.25


# ---------------------------------------------------------------- the samples


@pytest.fixture
def labelled(tmp_path):
    """400 samples whose labels are their numbers."""
    path = tmp_path / "numbered.npz"
    np.savez(path, **{INPUT: samples(400, 2), "labels": np.arange(400)})
    return path


def given(metric, **about):
    return begin(GRAPH, Options(max_drop=0.05, metric=metric), **about)


def test_labelled_samples_that_decide_are_not_those_that_confirm(labelled):
    exams = given(lambda _, labels: labels.mean(), labels=labelled).exams()
    first, second = exams.search.labels, exams.confirm.labels
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(400))
    assert len(first) == len(second) == 200
    assert [m.score for m in exams.before] == [first.mean(), second.mean()]
    for exam in (exams.search, exams.confirm):
        read = np.concatenate([feeds[INPUT] for feeds in exam.batches()])
        np.testing.assert_array_equal(read, samples(400, 2)[exam.labels])


def test_samples_that_decide_are_not_those_that_confirm():
    """Nor those that anything is fitted to."""
    run = given("agreement", calib=CALIB)
    exams = run.exams()
    seen = [
        {row.tobytes() for feeds in batches for row in feeds[INPUT]}
        for batches in (run.evidence.fit.batches(32), exams.search.batches(), exams.confirm.batches())
    ]
    assert [len(rows) for rows in seen] == [60, 30, 30]
    assert len(set.union(*seen)) == 120
    assert [m.score for m in exams.before] == [1, 1]


class Counted:
    """A metric that says what a test wants of the n-th network, on samples that decide and that confirm.

    Whoever is asked first, and on which samples, tells them apart: the original, on those that decide.
    """

    __name__ = "counted"

    def __init__(self, search: Callable[[int], float], confirm: Callable[[int], float]) -> None:
        self._says = {}
        self._wanted = [search, confirm]
        self.calls: dict[bytes, int] = {}

    def __call__(self, _outputs, labels) -> float:
        key = labels.tobytes()
        if key not in self._says:
            self._says[key] = self._wanted[len(self._says)]
        self.calls[key] = self.calls.get(key, -1) + 1
        return self._says[key](self.calls[key])


def right(_number: int) -> float:
    return 1.0


def falls(at: int, to: float = 0.0) -> Callable[[int], float]:
    """From the n-th network on; the original is number 0."""
    return lambda number: 1.0 if number < at else to


def test_the_verdict_says_what_other_samples_lose(labelled):
    result = cut(max_drop="5%", metric=Counted(right, falls(1, 0.97)), calib=CALIB, labels=labelled)
    assert result.verdict.drop.value == pytest.approx(0.03)
    with pytest.raises(Infeasible, match="not on those that confirm"):
        cut(max_drop="5%", metric=Counted(right, falls(1)), calib=CALIB, labels=labelled)


def test_beside_a_cost_other_samples_say_whether_it_holds(labelled):
    options = {"macs": 0.8, "max_drop": "5%", "calib": CALIB, "labels": labelled}
    held = cut(metric=Counted(falls(1), falls(1, 0.97)), **options)
    assert held.verdict.drop.value == pytest.approx(0.03)
    with pytest.raises(Infeasible, match="the other budgets cost 100 points of counted"):
        cut(metric=Counted(right, falls(1)), **options)


def test_after_a_second_phase_it_is_found_out_again(labelled):
    """Channels alone keep the promise; then weights go."""
    options = {"macs": 0.8, "max_drop": "5%", "sparsity": 0.3, "calib": CALIB, "labels": labelled}
    held = cut(metric=Counted(falls(2), falls(2, 0.97)), **options)
    assert held.verdict.drop.value == pytest.approx(0.03)
    with pytest.raises(Infeasible, match="the other budgets cost 100 points of counted"):
        cut(metric=Counted(right, falls(2)), **options)
