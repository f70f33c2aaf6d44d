"""What makes a unit: filters and biases as they reach what reads them."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Net

from onnxprune.graph import Graph, Network
from onnxprune.reductions.channels import Channels
from onnxprune.repair.makers import Mixed, makers


def found(n: Net, x: str, count: int = 1):
    """Of the only group, when a reader is put behind x."""
    n.output(n.conv(x, 3) if n.value(x).ndim == 4 else n.dense(x, 3))
    network = Network(Graph(n.finished()))
    space = Channels().find(network)
    (group,) = space.groups
    made = makers(space, group)
    assert len(made) == count
    return made


def layer(n: Net, bias: bool = True):
    """A convolution, with the filters of each unit in a row, and its biases."""
    w, b = n.weight(6, 3, 3, 3), n.weight(6)
    y = n.Conv(n.input(2, 3, 7, 5), w, *([b] if bias else []))
    return y, w.reshape(6, -1), b[:, None] * bias


def norm(n: Net, y: str, epsilon: float = 0.25):
    scale, shift, mean, variance = n.weight(6), n.weight(6), n.weight(6), n.positive(6)
    given = {} if epsilon == 1e-5 else {"epsilon": epsilon}
    y = n.BatchNormalization(y, scale, shift, mean, variance, **given)
    factor = scale / np.sqrt(variance + epsilon)
    return y, factor[:, None], (shift - mean * factor)[:, None]


@pytest.mark.parametrize("bias", [True, False])
def test_filters_and_biases(bias):
    n = Net("filters")
    y, w, b = layer(n, bias)
    (made,) = found(n, n.Relu(y))
    np.testing.assert_allclose(made.rows, w)
    np.testing.assert_allclose(made.bias, b)
    assert not made.serial


@pytest.mark.parametrize("epsilon", [0.25, 1e-5], ids=["epsilon", "no epsilon"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_normalisation_behind_scales_and_shifts_both(bias, epsilon):
    n = Net("normalised")
    y, w, b = layer(n, bias)
    y, factor, offset = norm(n, y, epsilon)
    (made,) = found(n, n.Relu(y))
    np.testing.assert_allclose(made.rows, w * factor, rtol=1e-6)
    np.testing.assert_allclose(made.bias, b * factor + offset, rtol=1e-5, atol=1e-6)


def test_what_is_added_before_a_normalisation_and_behind_it():
    n = Net("added")
    y, w, b = layer(n)
    first, last = n.weight(6, 1, 1), n.weight(1, 6, 1, 1)
    y, factor, offset = norm(n, n.Add(y, first))
    (made,) = found(n, n.Relu(n.Add(last, y)))
    expected = (b + first[:, :, 0]) * factor + offset + last.reshape(6, 1)
    np.testing.assert_allclose(made.rows, w * factor, rtol=1e-6)
    np.testing.assert_allclose(made.bias, expected, rtol=1e-5, atol=1e-6)


def test_the_same_number_may_be_added_to_all():
    n = Net("a number")
    y, w, b = layer(n)
    (made,) = found(n, n.Relu(n.Add(y, np.float32(0.5))))
    np.testing.assert_allclose(made.rows, w)
    np.testing.assert_allclose(made.bias, b + 0.5)


def test_a_product_and_its_added_bias():
    n = Net("product")
    w, b = n.weight(4, 6), n.weight(6)
    (made,) = found(n, n.Relu(n.Add(n.MatMul(n.input(2, 5, 4), w), b)))
    np.testing.assert_allclose(made.rows, w.T)
    np.testing.assert_allclose(made.bias, b[:, None])


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_bias_of_gemm_counts_beta_times(beta):
    n = Net("gemm")
    w, b = n.weight(6, 4), n.weight(6)
    y = n.Gemm(n.input(3, 4), w, b, transB=1, beta=beta)
    (made,) = found(n, n.Relu(y))
    np.testing.assert_allclose(made.rows, w)
    np.testing.assert_allclose(made.bias, beta * b[:, None])


def test_depthwise_filters_come_behind_what_they_read():
    n = Net("depthwise")
    y, w, _ = layer(n)
    d, e = n.weight(6, 1, 3, 3), n.weight(6)
    made = found(n, n.Relu(n.Conv(n.Relu(y), d, e, group=6)), 2)
    assert [m.serial for m in made] == [False, True]
    np.testing.assert_allclose(made[0].rows, w)
    np.testing.assert_allclose(made[1].rows, d.reshape(6, 9))
    np.testing.assert_allclose(made[1].bias, e[:, None])


def test_layers_that_are_added_up_are_both_told_of():
    n = Net("sum")
    x = n.input(2, 3, 7, 5)
    weights = [(n.weight(6, 3, 1, 1), n.weight(6)) for _ in "ab"]
    made = found(n, n.Relu(n.Add(*(n.Conv(x, w, b) for w, b in weights))), 2)
    for one, (w, b) in zip(made, weights, strict=True):
        np.testing.assert_allclose(one.rows, w.reshape(6, 3))
        np.testing.assert_allclose(one.bias, b[:, None])


@pytest.mark.parametrize(
    "behind",
    [
        lambda n, y: norm(n, n.Relu(y))[0],
        lambda n, y: norm(n, n.Mul(y, n.weight(6, 1, 1)))[0],
    ],
    ids=["behind an activation", "behind a product"],
)
def test_a_normalisation_elsewhere_does_not_keep_proportions(behind):
    n = Net("elsewhere")
    y, _, _ = layer(n)
    with pytest.raises(Mixed):
        found(n, n.Relu(behind(n, y)))


def test_what_others_read_too_is_not_normalised_for_all():
    """The sum behind reads the convolution as it is: the normalisation is beside it, not behind it."""
    n = Net("beside")
    y, _, _ = layer(n)
    with pytest.raises(Mixed):
        found(n, n.Relu(n.Add(y, norm(n, y)[0])))


def test_rows_of_a_table_are_filters_without_bias():
    n = Net("table")
    table = n.weight(9, 6)
    x = n.input(2, 5, feed=n.random.integers(0, 9, (2, 5)))
    (made,) = found(n, n.Relu(n.Gather(table, x, axis=0)))
    np.testing.assert_allclose(made.rows, table.T)
    assert not made.bias.any()


def test_the_biases_of_gates_are_not_what_is_added_to_states():
    n = Net("gates")
    w, r, b = n.weight(1, 24, 3), n.weight(1, 24, 6), n.weight(1, 48)
    y = n.Squeeze(n.node("LSTM", n.input(5, 2, 3), w, r, b, hidden_size=6), [1])
    for made in found(n, y, 2):  # what is read, and the states
        assert len(made.rows) == 6
        assert not made.bias.any()
