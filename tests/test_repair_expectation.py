"""What BatchNormalization says of means, and biases that take them over."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Net, run
from repairs import operated, repaired
from scipy.stats import norm

from onnxprune.execution.expectation import expected, normals
from onnxprune.graph import Graph, infer

random = np.random.default_rng(0)
BETA, GAMMA = random.standard_normal(6), random.standard_normal(6)
SPREAD = np.abs(GAMMA)


def normalised(n, x, channels):
    """White noise made by orthonormal filters, so that what the normalisation says is true."""
    w = np.linalg.qr(random.standard_normal((channels, channels)))[0].astype(np.float32)
    y = n.Conv(x, w[:, :, None, None])
    one = np.ones(channels, np.float32)
    scale, bias = (v[:channels].astype(np.float32) for v in (GAMMA, BETA))
    return n.BatchNormalization(y, scale, bias, 0 * one, one, epsilon=0.0)


def of(make):
    """The expectation of what is made of a normalised tensor."""
    n = Net("means")
    y = normalised(n, n.input("batch", 6, 8, 8), 6)
    n.output(make(n, y))
    graph = Graph(n.finished())
    return expected(graph, infer(graph), normals(graph), graph.outputs[0])


def test_statistics_are_scale_and_bias():
    np.testing.assert_allclose(of(lambda n, y: n.Identity(y)), BETA, atol=1e-5)


def test_relu_of_a_normal_distribution():
    wanted = BETA * norm.cdf(BETA / SPREAD) + SPREAD * norm.pdf(BETA / SPREAD)
    np.testing.assert_allclose(of(lambda n, y: n.Relu(y)), wanted, atol=3e-3)
    np.testing.assert_allclose(of(lambda n, y: n.Flatten(n.GlobalAveragePool(n.Relu(y)))), wanted, atol=3e-3)


def test_what_meets_its_own_sigmoid():
    x = BETA + SPREAD * random.standard_normal((400_000, 1))
    wanted = (x / (1 + np.exp(-x))).mean(0)
    np.testing.assert_allclose(of(lambda n, y: n.Mul(y, n.Sigmoid(y))), wanted, atol=5e-3)


def test_sums_are_taken_as_independent():
    n = Net("sum")
    a, b = n.input("batch", 6, 8, 8), n.input("batch", 6, 8, 8)
    n.output(n.Relu(n.Add(normalised(n, a, 6), normalised(n, b, 6))))
    graph = Graph(n.finished())
    mean, spread = 2 * BETA, np.sqrt(2) * SPREAD
    wanted = mean * norm.cdf(mean / spread) + spread * norm.pdf(mean / spread)
    found = expected(graph, infer(graph), normals(graph), graph.outputs[0])
    np.testing.assert_allclose(found, wanted, atol=0.1)


def test_what_is_not_told():
    assert of(lambda n, y: n.MaxPool(y, kernel_shape=[2, 2])) is None
    n = Net("unknown")
    n.output(n.Relu(n.input("batch", 6, 8, 8)))
    graph = Graph(n.finished())
    assert expected(graph, infer(graph), {}, graph.outputs[0]) is None


@pytest.mark.parametrize("head", ["conv", "transposed", "gemm"])
def test_biases_take_over_the_means(head):
    n = Net("bias")
    y = n.Relu(normalised(n, n.input("batch", 6, 6, 6), 6))
    w = random.standard_normal
    if head == "conv":
        n.output(n.Conv(y, w((4, 6, 3, 3)).astype(np.float32)))
    elif head == "transposed":
        n.output(n.ConvTranspose(y, w((6, 4, 2, 2)).astype(np.float32), strides=[2, 2]))
    else:
        n.output(n.Gemm(n.Flatten(n.GlobalAveragePool(y)), w((6, 4)).astype(np.float32)))
    cut = operated(n.finished())
    x = {cut.base.graph.inputs[0]: random.standard_normal((400, 6, 6, 6)).astype(np.float32)}
    made = repaired(cut, "bias")
    assert made.repaired.mode == "bias"

    def means(graph):
        (found,) = run(graph.model, x)
        return found.mean((0, *range(2, found.ndim)))

    wanted = means(cut.base.graph)
    np.testing.assert_allclose(means(made.graph), wanted, atol=0.05)
    assert np.abs(means(cut.network.graph) - wanted).max() > 0.3


def test_nothing_is_told_without_normalisation():
    n = Net("plain")
    n.output(n.conv(n.Relu(n.conv(n.input("batch", 3, 5, 5), 8)), 4))
    cut = operated(n.finished())
    x = n.feeds()[0]
    made = repaired(cut, "bias").graph
    for a, b in zip(run(made.model, x), run(cut.network.graph.model, x), strict=True):
        np.testing.assert_array_equal(a, b)
