"""Models side by side, on a clock that only the timed functions move."""

from __future__ import annotations

import json

import numpy as np
import pytest

from onnxprune.bench import compare, comparison_table, feeds_for, in_words
from onnxprune.cli.options import parsed_dims
from onnxprune.errors import UsageError
from onnxprune.runtime import Ratio, TensorSpec

IMAGE = TensorSpec("image", np.dtype(np.float32), ("batch", 3, "size", 8))


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakeSession:
    """A session whose runs take what `cost` says next; it remembers its feeds."""

    def __init__(self, clock, cost, inputs=(IMAGE,)):
        self.clock, self.cost, self.inputs = clock, cost, inputs
        self.feeds = None

    def bind(self, feeds):
        self.feeds = feeds

        def run():
            self.clock.now += self.cost()

        return run


def test_the_first_is_what_others_are_compared_with():
    clock = Clock()
    sessions = [FakeSession(clock, lambda c=c: c) for c in (0.2, 0.1, 0.3)]
    found = compare(["a", "b", "c"], sessions, seconds=1, clock=clock)
    assert [e.seconds for e in found.entries] == pytest.approx([0.2, 0.1, 0.3])
    assert found.entries[0].ratio is None
    assert found.entries[1].verdict == "2.00x as fast"
    assert found.entries[2].verdict == "1.50x slower"
    assert "2.00x as fast" in str(list(comparison_table(found).columns[4].cells))


def test_noise_is_said():
    clock, random = Clock(), np.random.default_rng(0)
    sessions = [FakeSession(clock, lambda: float(random.lognormal(0, 2))) for _ in range(2)]
    found = compare(["a", "b"], sessions, seconds=5, clock=clock)
    assert found.entries[1].ratio.noisy
    assert found.entries[1].verdict.startswith("too noisy to say")


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (Ratio(0.5, 0.4, 0.6), "2.00x as fast"),
        (Ratio(2.0, 1.5, 2.5), "2.00x slower"),
        (Ratio(1.0, 0.97, 1.03), "the same"),
        (Ratio(0.98, 0.97, 0.99), "the same"),
        (Ratio(0.7, 0.4, 1.1), "too noisy"),
    ],
)
def test_what_a_ratio_allows_to_say(ratio, words):
    assert in_words(ratio).startswith(words)


def test_shapes_follow_batch_and_dims():
    feeds = feeds_for([IMAGE], dims={"size": 5}, batch=4)
    assert feeds["image"].shape == (4, 3, 5, 8)
    assert feeds_for([IMAGE], dims={"size": 5})["image"].shape == (1, 3, 5, 8)
    assert feeds_for([IMAGE], dims={"size": 5, "batch": 2}, batch=4)["image"].shape == (2, 3, 5, 8)
    np.testing.assert_array_equal(feeds_for([IMAGE])["image"], feeds_for([IMAGE])["image"])


def test_a_dimension_that_nobody_has():
    with pytest.raises(UsageError, match="no input has a dimension 'width'") as caught:
        compare(["a"], [FakeSession(Clock(), lambda: 1.0)], dims={"width": 3})
    assert caught.value.hint == "there are: batch, size"


def test_json():
    clock = Clock()
    found = compare(["a", "b"], [FakeSession(clock, lambda: 1.0)] * 2, clock=clock, setting={"threads": 1})
    data = json.loads(json.dumps(found.data()))
    assert data["version"] == 1
    assert data["entries"][1]["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert data["setting"] == {"threads": 1, "shapes": {"image": [1, 3, 16, 8]}}


def test_dims_as_typed():
    assert parsed_dims(["n=3", "a=b=4"]) == {"n": 3, "a=b": 4}
    assert parsed_dims(None) == {}
    for text in ("n", "n=", "=3", "n=x", "n=0", "n=-1"):
        with pytest.raises(UsageError):
            parsed_dims([text])
