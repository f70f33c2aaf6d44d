"""How good answers are, on models whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Net

from onnxprune.errors import InputError, UsageError
from onnxprune.quality.drift import accuracy, top_classes
from onnxprune.quality.loss import Expected, Loss
from onnxprune.quality.metrics import Classes, Closeness, Custom, MetricValue, dropped, imported
from onnxprune.runtime import Session


def scaled(factor: float, shape=("batch", 4)) -> Session:
    """Its output is its input times a factor."""
    n = Net("scaled")
    n.output(n.Mul(n.input(*shape), np.asarray(factor, np.float32)))
    return Session(n.finished().SerializeToString())


X = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
BEST, WORST = X.argmax(axis=1), X.argmin(axis=1)


def batches():
    return ({"x1": X[k : k + 8]} for k in range(0, 30, 8))


class TestClasses:
    def test_right_answers(self):
        labels = np.where(np.arange(30) < 10, WORST, BEST)
        marks = Classes("accuracy", batches, labels).evaluate(scaled(1))
        np.testing.assert_array_equal(marks.right, np.arange(30) >= 10)
        assert marks.score == pytest.approx(2 / 3)

    def test_the_verdict_counts_alike(self):
        labels = np.where(np.arange(30) < 10, WORST, BEST)
        found = accuracy(scaled(1), [({"x1": X}, labels)])
        assert (found.right, found.total) == (20, 30)

    @pytest.mark.parametrize("shape", [("batch", 1), ("batch", 4, 3), ("batch",)])
    def test_what_is_no_scores_of_classes(self, shape):
        feeds = {"x1": np.ones((5, *shape[1:]), np.float32)}
        assert top_classes(scaled(1, shape), [feeds]) is None
        with pytest.raises(InputError, match=r"no output .* --metric module:function"):
            Classes("accuracy", lambda: [feeds], np.zeros(5, int)).evaluate(scaled(1, shape))

    def test_axes_of_length_one_may_follow(self):
        feeds = {"x1": X[:, :, None, None]}
        np.testing.assert_array_equal(top_classes(scaled(1, ("batch", 4, 1, 1)), [feeds]), BEST)


class TestCloseness:
    def test_relative_error(self):
        evaluator = Closeness(batches, scaled(1))
        assert evaluator.evaluate(scaled(1)).score == 1
        assert evaluator.evaluate(scaled(0.9)).score == pytest.approx(0.9)


class TestCustom:
    def evaluate(self, function, labels=None):
        return Custom("mine:score", function, batches, labels).evaluate(scaled(2))

    def test_a_number(self):
        labels = np.arange(30)
        seen = {}

        def function(outputs, given):
            seen.update(outputs, labels=given)
            return np.float32(0.25)

        assert self.evaluate(function, labels).score == 0.25
        np.testing.assert_array_equal(seen["mul3"], 2 * X)
        assert seen["labels"] is labels

    def test_right_or_wrong(self):
        marks = self.evaluate(lambda outputs, _: outputs["mul3"].argmax(axis=1) == BEST)
        assert marks.score == 1
        assert marks.right.shape == (30,)

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda o, _: 1 / 0, "raised ZeroDivisionError"),
            (lambda o, _: None, "gave object"),
            (lambda o, _: float("nan"), "it should give a number"),
            (lambda o, _: np.zeros(30), r"gave float64 of shape \(30,\)"),
            (lambda o: 1.0, "raised TypeError"),
        ],
    )
    def test_what_is_no_metric(self, function, words):
        with pytest.raises(UsageError, match=words) as caught:
            self.evaluate(function)
        assert caught.value.where == "--metric mine:score"


class TestDrop:
    def test_answers_are_compared_one_by_one(self):
        before, after = np.ones(200, bool), np.ones(200, bool)
        before[:2], after[2:7] = False, False
        found = dropped("accuracy", MetricValue.of(before), MetricValue.of(after))
        assert found.value == pytest.approx(3 / 200)
        assert found.before == 0.99
        assert found.low < 3 / 200 < found.high
        assert found.spread == pytest.approx(np.sqrt(7) / 200)
        assert found.samples == 200

    def test_scores_alone(self):
        found = dropped("mine", MetricValue(0.8), MetricValue(0.75))
        assert found.value == pytest.approx(0.05)
        assert found.low is None


class TestImported:
    def test_from_the_working_directory(self, tmp_path, monkeypatch):
        (tmp_path / "onnxprune_my_metric.py").write_text("def score(outputs, labels):\n    return 0.5\n")
        monkeypatch.chdir(tmp_path)
        assert imported("onnxprune_my_metric:score")({}, None) == 0.5

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("f1", "no such metric; use accuracy, agreement, or module:function"),
            ("no_such_module_here:f", "can't be imported"),
            ("math:no_such_function", "can't be imported"),
            ("math:pi", "not a function"),
        ],
    )
    def test_what_is_not_there(self, text, words):
        with pytest.raises(UsageError, match=words):
            imported(text)


def test_worse_is_told_from_still_worse():
    """What is lost can't be lost twice, but one that learns shall see that it comes nearer."""
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)

    def loss(by):
        found = Loss()
        found.add(Expected({"y": x}), {"y": x + by * noise})
        return found

    assert loss(2).value == loss(4).value == 1
    assert loss(0.1).distance < loss(2).distance < loss(4).distance < 1
    assert loss(0.1).distance == pytest.approx(loss(0.1).value, rel=0.02)
    assert loss(np.nan).distance == np.inf
