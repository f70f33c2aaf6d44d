"""How losses of outputs are counted."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.quality.loss import Expected, Loss

random = np.random.default_rng(0)


def loss(*pairs: tuple[np.ndarray, np.ndarray]) -> float:
    """Of one output, over batches of (expected, actual)."""
    total = Loss()
    for expected, actual in pairs:
        total.add(Expected({"y": expected}), {"y": actual})
    return total.value


def probabilities(rows: int, classes: int) -> np.ndarray:
    values = np.exp(2 * random.standard_normal((rows, classes)))
    return (values / values.sum(1, keepdims=True)).astype(np.float32)


def test_nothing_lost():
    p = probabilities(6, 4)
    x = random.standard_normal((6, 3, 5, 5)).astype(np.float32)
    assert loss((p, p)) == pytest.approx(0, abs=1e-6)
    assert loss((x, x)) == 0
    assert Loss().value == 0


def test_saying_the_mean_loses_all():
    p = probabilities(50, 4)
    x = random.standard_normal((50, 3, 5, 7)).astype(np.float32) + np.arange(3)[:, None, None]
    mean = np.broadcast_to(x.mean((0, 2, 3), keepdims=True), x.shape)
    assert loss((p, np.broadcast_to(p.mean(0), p.shape))) == pytest.approx(1, rel=1e-4)
    assert loss((x, mean)) == pytest.approx(1, rel=1e-5)


def test_divergence_of_probabilities():
    p, q = probabilities(30, 5), probabilities(30, 5)
    mean = p.mean(0)
    expected = (p * np.log(p / q)).sum() / (p * np.log(p / mean)).sum()
    assert loss((p, q)) == pytest.approx(expected, rel=1e-4)


def test_squares_count_for_each_index_of_the_shortest_axis():
    """Boxes in pixels beside scores from 0 to 1, as a detector gives them."""
    x = np.stack([100 * random.standard_normal((8, 40)), random.random((8, 40))], axis=1).astype(np.float32)
    y = x.copy()
    y[:, 1] += 0.1 * random.standard_normal((8, 40))
    part = np.square(x[:, 1] - y[:, 1]).mean() / x[:, 1].var()
    assert loss((x, y)) == pytest.approx(part / 2, rel=1e-4)


def test_an_index_can_lose_no_more_than_all():
    x = random.standard_normal((9, 4, 11)).astype(np.float32)
    y = x.copy()
    y[:, 0] += 1e6
    assert loss((x, y)) == pytest.approx(1 / 4)


@pytest.mark.parametrize("make", [lambda: probabilities(24, 3), lambda: random.standard_normal((24, 3, 8))])
def test_batches_add_up(make):
    x, y = make(), make()
    assert loss((x[:5], y[:5]), (x[5:], y[5:])) == pytest.approx(loss((x, y)), rel=1e-9)


def test_outputs_count_alike():
    x = random.standard_normal((9, 4)).astype(np.float32)
    total = Loss()
    expected = Expected({"a": x, "b": x, "ids": np.arange(9)})
    total.add(expected, {"a": x, "b": np.full_like(x, 1e9), "ids": np.zeros(9, int)})
    assert total.value == pytest.approx(0.5)


@pytest.mark.parametrize("damage", ["nan", "shape"])
def test_what_is_broken_is_worth_nothing(damage):
    x = random.standard_normal((3, 4)).astype(np.float32)
    y = x[:, :3] if damage == "shape" else np.where(np.eye(3, 4) > 0, np.nan, x)
    assert loss((x, y)) == float("inf")


def test_infinities_of_the_original_are_left_out():
    x = random.standard_normal((30, 4)).astype(np.float32)
    x[0, 0] = -np.inf
    assert loss((x, x)) == 0
