"""The `taylor` criterion against gradients written out in NumPy, and where it has to refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from calibration import build, channels, dumped, gathered, images, in_batches, residual_net, smooth_net
from differences import slopes as slopes_of
from onnx.helper import make_node

from onnxprune import prune
from onnxprune.criteria import Context, get
from onnxprune.errors import UsageError
from onnxprune.pipeline import prepare


def context(graph, x, name="image"):
    space = channels(graph)
    return Context(space, gathered(space, get("taylor").needs, in_batches({name: x}, 16)))


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def slopes(graph, x):
    """dL/dg of each sample for the channels that the head reads, and for those that `thin` reads."""
    d, thin, flat, z = dumped(graph, {"image": x}, "d", "thin", "flat", "logits")
    delta = softmax(z) - np.eye(z.shape[1])[z.argmax(1)]
    back = delta @ graph.array("head.w").astype(float)  # (samples, 6), dL/dflat
    positions = thin.shape[2] * thin.shape[3]
    inner = back[:, :, None, None] / positions * (thin > 0)
    w = graph.array("thin.w").astype(float).reshape(6, 12)
    return back * flat, np.einsum("nthw,tj,njhw->nj", inner, w, d)


def test_is_the_mean_magnitude_of_the_gradient():
    graph, x = residual_net(), images()
    head, wide = slopes(graph, x)
    found = get("taylor").scores(context(graph, x))
    np.testing.assert_allclose(found[2], np.abs(head).mean(0), rtol=1e-3)
    np.testing.assert_allclose(found[1], np.abs(wide).mean(0), rtol=1e-3)


def test_is_what_differences_say():
    """Of the cross entropy against its own class, with a factor on one channel wherever it is read."""
    graph, x = residual_net(), images()
    space = channels(graph)
    (z,) = dumped(graph, {"image": x}, "logits")
    own = z.argmax(1)[:, None]

    def loss(logits):
        return -np.log(np.take_along_axis(softmax(logits), own, 1)[:, 0])

    found = get("taylor").scores(context(graph, x))
    for group, score in zip(space.groups, found, strict=True):
        measured = np.abs(slopes_of(space, group, {"image": x}, loss)).mean(0)
        # A ReLU that switches within the step is where differences are off.
        np.testing.assert_allclose(score, measured, rtol=1e-2, atol=1e-2 * measured.max())


def test_a_softmax_at_the_end_is_seen_through():
    """Also where it is so sure that its probabilities say 1 and 0."""
    r = np.random.default_rng(0)
    weights = {
        "a.w": r.standard_normal((6, 4)).astype(np.float32),
        "b.w": (20 * r.standard_normal((5, 6))).astype(np.float32),
    }
    nodes = [
        make_node("Gemm", ["x", "a.w"], ["a"], "first", transB=1),
        make_node("Relu", ["a"], ["r"]),
        make_node("Gemm", ["r", "b.w"], ["z"], "second", transB=1),
        make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    graph = build(nodes, {"x": ["N", 4]}, {"p": ["N", 5]}, weights)
    x = r.standard_normal((16, 4)).astype(np.float32)
    one, z = dumped(graph, {"x": x}, "r", "z")
    sure = softmax(z).max(1) > 1 - 1e-6
    assert sure.any()
    delta = softmax(z) - np.eye(5)[z.argmax(1)]
    # 1 - p of the own class is all cancellation: it is the sum of the others.
    np.put_along_axis(delta, z.argmax(1)[:, None], 0, 1)
    np.put_along_axis(delta, z.argmax(1)[:, None], -delta.sum(1, keepdims=True), 1)
    exact = np.abs(delta @ weights["b.w"].astype(float) * one)[sure].mean(0)
    (found,) = get("taylor").scores(context(graph, x[sure], "x"))
    np.testing.assert_allclose(found, exact, rtol=1e-3)


def test_outputs_that_are_no_classes_count_by_their_squared_norm():
    r = np.random.default_rng(0)
    graph = smooth_net(r)
    x = r.standard_normal((16, 4, 3, 3)).astype(np.float32)
    s, y = dumped(graph, {"x": x}, "s", "y")
    w = graph.array("b.w").astype(float).reshape(5, 6)
    slope = np.einsum("nohw,oj,njhw->nj", y, w, s) / (y**2).sum((1, 2, 3)).mean()
    (found,) = get("taylor").scores(context(graph, x, "x"))
    np.testing.assert_allclose(found, np.abs(slope).mean(0), rtol=1e-3)


def test_without_samples_it_says_so():
    with pytest.raises(UsageError, match=r"needs samples.*--calib"):
        get("taylor").scores(Context(channels(residual_net())))


def test_statistics_alone_are_enough():
    """They hold the slopes, so that the samples are needed no more."""
    ready = prepare(residual_net())
    stats = gathered(ready.channels, get("taylor").needs, [{"image": images()}])
    how = {"macs": 0.6, "criterion": "taylor", "evaluations": 0, "repair": "none", "force": True}
    from_stats = prune(residual_net(), stats=stats, **how)
    assert from_stats.verdict.exact
    with pytest.raises(UsageError, match="have nothing on what a loss feels of 'stem'"):
        prune(residual_net(), stats=replace(stats, slopes={}), **how)


def test_prunes():
    result = prune(residual_net(), macs=0.6, criterion="taylor", calib={"image": images()}, force=True)
    assert result.verdict.exact
