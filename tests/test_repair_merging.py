"""Repair without samples: exact where filters are parallel, and no harm where nothing is alike."""

from __future__ import annotations

import numpy as np
import pytest
from nets import PRIMES, SQUARE, Net, run
from repairs import operated, repaired

from onnxprune.repair import Task
from onnxprune.repair.merging import merged

BOTH = pytest.mark.parametrize("dims", [PRIMES, SQUARE], ids=["primes", "square"])


def copied(n, *shape):
    """Weights of twice as many filters, those of the second half being positive multiples."""
    w = n.weight(shape[0] // 2, *shape[1:])
    factors = n.positive(shape[0] // 2) * 3
    return np.concatenate([w, w * factors.reshape(-1, *[1] * (len(shape) - 1))]), factors


def normalised(n, x, factors):
    """BatchNormalization after which channels j and j + C are still parallel, by other factors."""
    c = len(factors)
    gamma, beta, mean, var = n.positive(c), n.weight(c), n.weight(c), n.positive(c)
    more = n.positive(c)  # of the second half: factors * more of the first
    spread = np.sqrt(np.concatenate([var, var]) + 1e-3)
    scale = np.concatenate([gamma, gamma * more]) * spread
    other = n.weight(c)  # its own mean, made up for by its shift
    shift = np.concatenate([beta, (beta - gamma * mean) * factors * more + gamma * more * other])
    means = np.concatenate([mean, other])
    return n.node(
        "BatchNormalization", x, scale, shift, means, np.concatenate([var, var]), epsilon=1e-3
    ), factors * more


def head(n, x):
    """Two readers."""
    n.output(n.conv(x, 5, kernel=(3, 3), pads=[1, 1, 1, 1]))
    n.output(n.gemm(n.Flatten(n.MaxPool(x, kernel_shape=[2, 2])), 3))


def half(group):
    return np.arange(group.size) < group.size // 2


def exact(n):
    cut = operated(n.finished(), choose=half)
    assert not cut.choice.removes_nothing()
    feeds = n.feeds()[0]
    wanted = run(cut.base.graph.model, feeds)
    for network, same in ((cut.network, False), (merged(Task.of(cut)), True)):
        for a, b in zip(run(network.graph.model, feeds), wanted, strict=True):
            scale = np.abs(b).max()
            assert bool(np.abs(a - b).max() < 1e-4 * scale) == same, np.abs(a - b).max() / scale


@BOTH
@pytest.mark.parametrize("bn", [False, True])
def test_parallel_filters_are_merged_without_loss(bn, dims):
    n = Net("parallel", dims)
    w, factors = copied(n, 2 * n.C, 3, 3, 3)
    b = n.weight(n.C)
    x = n.input(n.B, 3, n.H, n.W)
    y = n.node("Conv", x, w, np.concatenate([b, b * factors]), pads=[1, 1, 1, 1])
    if bn:
        y, factors = normalised(n, y, factors)
    head(n, n.Relu(y))
    exact(n)


@BOTH
def test_depthwise_filters_multiply_their_factors(dims):
    n = Net("depthwise", dims)
    w, factors = copied(n, 2 * n.C, 3, 1, 1)
    y = n.node("Conv", n.input(n.B, 3, n.H, n.W), w)
    y, factors = normalised(n, y, factors)
    d, more = copied(n, 2 * n.C, 1, 3, 3)
    c = n.weight(n.C)
    y = n.node(
        "Conv", n.Relu(y), d, np.concatenate([c, c * factors * more]), group=2 * n.C, pads=[1, 1, 1, 1]
    )
    head(n, n.Relu(y))
    exact(n)


@BOTH
def test_filters_that_are_added_share_one_factor(dims):
    n = Net("added", dims)
    x = n.input(n.B, 3, n.H, n.W)
    factors = n.positive(n.C)
    parts = []
    for _ in range(2):
        w, b = n.weight(n.C, 3, 1, 1), n.weight(n.C)
        parts.append(
            n.node(
                "Conv",
                x,
                np.concatenate([w, w * factors.reshape(-1, 1, 1, 1)]),
                np.concatenate([b, b * factors]),
            )
        )
    head(n, n.Relu(n.Add(*parts)))
    exact(n)


def test_matrix_products_and_their_added_biases_are_filters_too():
    n = Net("dense")
    w, factors = copied(n, 2 * n.C, 3)
    b = n.weight(n.C)
    x = n.Add(n.MatMul(n.input(n.B, n.H, 3), w.T.copy()), np.concatenate([b, b * factors]))
    n.output(n.dense(n.Relu(x), 5))
    exact(n)


def test_filters_like_no_other_are_left_out():
    n = Net("unlike")
    x = n.input(n.B, 8, n.H, n.W)
    w = np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1)
    n.output(n.conv(n.Relu(n.node("Conv", x, w)), 5))
    cut = operated(n.finished())
    feeds = n.feeds()[0]
    found = merged(Task.of(cut)).graph
    np.testing.assert_array_equal(run(found.model, feeds)[0], run(cut.network.graph.model, feeds)[0])


def test_a_filter_of_zeros_is_like_no_other():
    """The first filter that stays gives nothing: what is gone goes to the one that it is a multiple of."""
    n = Net("zeros")
    w, factors = copied(n, 8, 3, 1, 1)
    w[0] = w[4] = 0
    b = n.weight(4)
    b[0] = 0
    y = n.node("Conv", n.input(n.B, 3, n.H, n.W), w, np.concatenate([b, b * factors]))
    head(n, n.Relu(y))
    exact(n)


def test_without_samples_filters_are_merged():
    n = Net("auto")
    w, _ = copied(n, 2 * n.C, 3, 1, 1)
    n.output(n.conv(n.Relu(n.node("Conv", n.input(n.B, 3, n.H, n.W), w)), 5))
    found = repaired(operated(n.finished(), choose=half)).repaired
    assert found.mode == "merge"
    assert found.before is None
