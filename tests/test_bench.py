"""Models side by side, on a clock that only the timed functions move."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from nets import Dims, Net
from rich.console import Console

from onnxprune.cli.output import Output
from onnxprune.contracts.timing import sizes_by_name
from onnxprune.contracts.verdict import Size, Speed, Verdict
from onnxprune.cost.sizes import feeds_for, sizes
from onnxprune.errors import InputError, UsageError
from onnxprune.graph import load
from onnxprune.profile.bench import compare, comparison_table, in_words, side_by_side
from onnxprune.report import verdict_table
from onnxprune.runtime import ExecutionOptions, Ratio, TensorSpec

IMAGE = TensorSpec("image", np.dtype(np.float32), ("batch", 3, "size", 8))
FEEDS = {"image": np.zeros((1, 3, 16, 8), np.float32)}


def printed(what):
    console = Console(width=120)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakeSession:
    """A session whose runs take what `cost` says next."""

    def __init__(self, clock, cost):
        self.clock, self.cost = clock, cost

    def bind(self, feeds):
        def run():
            self.clock.now += self.cost()

        return run


def test_the_first_is_what_others_are_compared_with():
    clock = Clock()
    sessions = [FakeSession(clock, lambda c=c: c) for c in (0.2, 0.1, 0.3)]
    found = compare(["a", "b", "c"], sessions, [FEEDS] * 3, seconds=1, clock=clock)
    assert [e.seconds for e in found.entries] == pytest.approx([0.2, 0.1, 0.3])
    assert found.entries[0].ratio is None
    assert found.entries[1].verdict == "2.00x as fast"
    assert found.entries[2].verdict == "1.50x slower"
    assert "2.00x as fast" in printed(comparison_table(found))


def test_one_model_is_compared_with_nothing():
    clock = Clock()
    found = compare(["a"], [FakeSession(clock, lambda: 0.25)], [FEEDS], clock=clock)
    text = printed(comparison_table(found))
    assert "250 ms" in text
    assert "on image 1x3x16x8" in text
    assert "ratio" not in text


def test_noise_is_said():
    clock, random = Clock(), np.random.default_rng(0)
    sessions = [FakeSession(clock, lambda: float(random.lognormal(0, 2))) for _ in range(2)]
    found = compare(["a", "b"], sessions, [FEEDS] * 2, seconds=5, clock=clock)
    assert found.entries[1].ratio.noisy
    assert found.entries[1].verdict.startswith("too noisy to say")


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (Ratio(0.5, 0.48, 0.52), "2.00x as fast"),
        (Ratio(2.0, 1.9, 2.1), "2.00x slower"),
        (Ratio(0.5, 0.4, 0.8), "1.25x to 2.50x as fast"),
        (Ratio(2.0, 1.5, 2.5), "1.50x to 2.50x slower"),
        (Ratio(1.0, 0.97, 1.03), "the same"),
        (Ratio(0.98, 0.97, 0.99), "the same"),
        (Ratio(0.7, 0.4, 1.1), "too noisy"),
    ],
)
def test_what_a_ratio_allows_to_say(ratio, words):
    assert in_words(ratio).startswith(words)


@pytest.fixture
def resizable(tmp_path):
    """A convolution over images of any size that holds at least 7 pixels."""
    n = Net("resizable", Dims(8, 7, 5, 3))
    n.output(n.conv(n.input("batch", 3, "size", 8), 4, kernel=(7, 1), pads=[0] * 4))
    onnx.save(n.finished(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_sizes_follow_batch_and_dims(resizable):
    graph = load(resizable)
    assert sizes(graph) == {"batch": 1, "size": 64}
    assert sizes(graph, {"size": 9}, batch=4) == {"batch": 4, "size": 9}
    assert sizes(graph, {"batch": 2}, batch=4) == {"batch": 2, "size": 64}


def test_an_axis_without_a_name_has_one():
    spec = TensorSpec("x", np.dtype(np.float32), (None, 3, None))
    assert feeds_for([spec], {"x[0]": 2, "x[2]": 5})["x"].shape == (2, 3, 5)


def test_inputs_are_the_same_every_time():
    np.testing.assert_array_equal(feeds_for([IMAGE], {})["image"], feeds_for([IMAGE], {})["image"])


def test_files_side_by_side(resizable):
    options = ExecutionOptions(threads=1)
    found = side_by_side([resizable] * 2, options, dims={"size": 9}, batch=2, seconds=0)
    assert found.setting["shapes"] == {"x1": [2, 3, 9, 8]}
    assert found.entries[1].ratio.value > 0


def test_a_dimension_that_nobody_has(resizable):
    with pytest.raises(UsageError, match="no input has a dimension 'width'") as caught:
        side_by_side([resizable], ExecutionOptions(), dims={"width": 3})
    assert caught.value.hint == "there are: batch, size"


def test_a_size_that_does_not_work_is_asked_for(resizable):
    with pytest.raises(InputError, match=r"onv.*--dim NAME=SIZE for batch"):
        side_by_side([resizable], ExecutionOptions(), dims={"size": 3}, seconds=0)


def test_json():
    clock = Clock()
    sessions = [FakeSession(clock, lambda: 1.0)] * 2
    found = compare(["a", "b"], sessions, [FEEDS] * 2, clock=clock, setting={"threads": 1})
    data = json.loads(json.dumps(found.data()))
    assert data["version"] == 1
    assert data["entries"][1]["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert data["setting"] == {"threads": 1, "shapes": {"image": [1, 3, 16, 8]}}


def test_dims_as_typed():
    assert sizes_by_name(["n=3", "a=b=4"]) == {"n": 3, "a=b": 4}
    for text in ("n", "n=", "=3", "n=x", "n=0", "n=-1"):
        with pytest.raises(UsageError):
            sizes_by_name([text])


@pytest.mark.parametrize(("low", "high", "said"), [(0.7, 1.4, True), (0.97, 1.02, False), (0.4, 0.8, False)])
def test_a_verdict_says_where_noise_forbids_one(low, high, said, capsys):
    size = Size(1, 1, 1)
    Output(quiet=False).show(verdict_table(Verdict(size, size, speed=Speed(1.0, 1.0, 0.99, low, high))))
    assert ("too noisy to say" in capsys.readouterr().out) is said
