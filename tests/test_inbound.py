"""Kernels that go: which, that units nobody reads go with them, and that groups compute the same as zeros."""

from __future__ import annotations

import numpy as np
import pytest
from calibration import analysed, build, dumped, images, in_batches, residual_net
from onnx.helper import make_node

from onnxprune import calibration
from onnxprune.contracts.request import Request
from onnxprune.criteria import Context, get
from onnxprune.graph import Edits
from onnxprune.reductions.channels.cut import rewrite
from onnxprune.reductions.channels.sites import consumers
from onnxprune.reductions.weights.kernels import (
    compensated,
    keep_kernels,
    masks,
    narrowed,
    notes,
    read_units,
    rewritten,
    zeroed,
)

V = np.array([[9.0, 1, 5, 0], [0, 8, 2, 6], [1, 2, 3, 4], [5, 5, 6, 5]])


def test_each_filter_keeps_its_own():
    kept = keep_kernels(V, 0.5)
    assert kept.astype(int).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 1, 0]]
    assert keep_kernels(V, 0.01).sum(axis=1).tolist() == [1, 1, 1, 1], "at least one"
    assert keep_kernels(10 * V[:1], 0.5).tolist() == keep_kernels(V[:1], 0.5).tolist()


def test_groups_share_theirs():
    """Of the mean share: a loud filter does not outvote a quiet one."""
    kept = keep_kernels(np.array([[1000.0, 990, 0, 0], [0, 1, 3, 0]]), 0.5, groups=1)
    assert kept.tolist() == [[False, True, True, False]] * 2


def wide(taps=3, seed=0):
    """x -> a (12 channels) -> b (8 filters) -> y; filters of b read different channels of a."""
    r = np.random.default_rng(seed)
    w = {
        "a.w": r.standard_normal((12, 3, 3, 3)).astype(np.float32),
        "b.w": r.standard_normal((8, 12, taps, taps)).astype(np.float32),
        "c.w": r.standard_normal((4, 8, 1, 1)).astype(np.float32),
    }
    w["b.w"][:4, 6:] *= 1e-3
    w["b.w"][4:, :6] *= 1e-3
    w["b.w"][:, 5] *= 1e-4  # no filter wants this one
    same = {"pads": [taps // 2] * 4}
    nodes = [
        make_node("Conv", ["x", "a.w"], ["a0"], "a", pads=[1, 1, 1, 1]),
        make_node("Relu", ["a0"], ["a1"]),
        make_node("Conv", ["a1", "b.w"], ["b0"], "b", **same),
        make_node("Relu", ["b0"], ["b1"]),
        make_node("Conv", ["b1", "c.w"], ["y"], "c"),
    ]
    return build(nodes, {"x": ["N", 3, 9, 7]}, {"y": ["N", 4, 9, 7]}, w)


def found(graph, name="x"):
    facts, analysis = analysed(graph)
    wanted = calibration.requests(graph, facts, analysis, frozenset({"kernels"}))
    stats = calibration.measure(graph, wanted, in_batches({name: images()}, 16))
    variances = get("inbound-variance").kernels(Context(graph, analysis, stats))
    return facts, analysis, consumers(graph, analysis), variances


def test_channels_that_no_filter_keeps_are_removed():
    graph = wide()
    facts, analysis, by, variances = found(graph)
    kept = masks(graph, by, variances, 5 / 12)
    assert set(kept) == {"b.w", "c.w"}
    assert kept["b.w"][:4, :5].all()
    assert not kept["b.w"][:, 5].any()
    kept["c.w"][:] = True
    stay = read_units(analysis, by, kept)
    assert (~stay).sum() == 12 - kept["b.w"].any(axis=0).sum() >= 1
    pruned = rewrite(graph, facts, analysis, stay)
    left = narrowed(graph, analysis, by, kept, stay)
    assert left["b.w"].shape == pruned.shape_of_constant("b.w")[:2]
    x = {"x": images()}
    (before,), (after,) = dumped(zeroed(graph, kept), x, "y"), dumped(zeroed(pruned, left), x, "y")
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_what_others_read_stays():
    graph = residual_net()
    _, analysis, by, variances = found(graph, "image")
    kept = masks(graph, by, variances, 1.0)
    kept["body.w"][:, 3] = False  # wide.w still reads the sum
    assert read_units(analysis, by, kept).all()
    kept["wide.w"][:, 3] = False
    stay = read_units(analysis, by, kept)
    assert (~stay).sum() == 1
    assert not stay[analysis.groups[0].units[3]]


@pytest.mark.parametrize("taps", [1, 3])
def test_groups_compute_what_zeroed_kernels_do(taps):
    graph = wide(taps)
    _, _, by, variances = found(graph)
    kept = masks(graph, by, variances, 0.5, groups=2)
    assert (kept["b.w"][:4] != kept["b.w"][4:]).any()
    x = {"x": images()}
    zero, layers = rewritten(graph, kept, 2)
    assert [(layer.groups, layer.reason) for layer in layers] == [(1, "groups are not faster")] * 2
    grouped, layers = rewritten(graph, kept, 2, lambda before, after: True)
    assert [(layer.node, layer.groups, layer.kept) for layer in layers] == [("b", 2, 48), ("c", 2, 16)]
    assert [n.op for n in grouped.nodes].count("Gather") == 2
    assert grouped.shape_of_constant("b.w") == (8, 6, taps, taps)
    (expected,), (actual,) = dumped(zero, x, "y"), dumped(grouped, x, "y")
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    (dense,) = dumped(graph, x, "y")
    assert np.abs(actual - dense).max() > 1e-3, "the test would see if nothing had gone"


def test_filters_that_do_not_divide_are_zeroed_and_said_so():
    graph = wide()
    _, _, by, variances = found(graph)
    kept = masks(graph, by, variances, 0.5, groups=3)
    _, layers = rewritten(graph, kept, 3, lambda before, after: True)
    assert [layer.reason for layer in layers] == ["filters don't divide into 3 groups"] * 2
    first, last = notes(layers)
    assert first == "inbound pruning: 64 of 128 kernels are gone"
    assert (
        last == "2 convolutions have zeroed kernels, which saves no time (filters don't divide into 3 groups)"
    )


def moments_of(graph, tensor, x):
    request = Request(tensor, 1, (1, 12, 9, 7), frozenset({"gram"}))
    return calibration.measure(graph, {(tensor, 1): request}, in_batches({"x": x}, 16)).moments[tensor, 1]


def test_kernels_make_up_for_those_that_go():
    """Exactly, where a channel is a mixture of kept ones and a constant, and padding doesn't reach."""
    graph = wide(taps=1)
    w = graph.array("a.w").copy()
    w[1] = w[0]
    edits = Edits(constants={"a.w": w})
    graph, x = graph.edited(edits), images(200)
    kept = {"b.w": np.ones((8, 12), bool)}
    kept["b.w"][:5, 1] = False  # the others read it still
    found = {"b.w": moments_of(graph, "a1", x)}
    result = compensated(graph, kept, found)
    assert (result.array("b.w")[:5, 1] == 0).all()
    (dense,), (made,), (zero,) = (dumped(g, {"x": x}, "y") for g in (graph, result, zeroed(graph, kept)))
    energy = np.linalg.norm(dense)
    assert np.linalg.norm(made - dense) < 0.01 * energy
    assert np.linalg.norm(zero - dense) > 0.1 * energy


def test_what_kernels_make_up_for_is_what_least_squares_says():
    graph, x = wide(taps=1), images(200)
    kept = {"b.w": keep_kernels(np.random.default_rng(0).random((8, 12)), 0.5)}
    moments = moments_of(graph, "a1", x)
    result = compensated(graph, kept, {"b.w": moments})
    (a,) = dumped(graph, {"x": x}, "a1")
    rows = np.moveaxis(a, 1, -1).reshape(-1, 12)
    w, new = (g.array("b.w").reshape(8, 12).astype(float) for g in (graph, result))
    bias = result.array(result.nodes[2].inputs[2])
    for t in range(8):
        k = kept["b.w"][t]
        inputs = np.c_[rows[:, k], np.ones(len(rows))]
        best = np.linalg.lstsq(inputs, rows @ w[t], rcond=None)[0]
        lost, least = (rows @ (w[t] - new[t]) - bias[t]).std(), (rows @ w[t] - inputs @ best).std()
        assert lost <= 1.001 * least
        assert abs((rows @ (w[t] - new[t])).mean() - bias[t]) < 1e-4 * np.abs(rows @ w[t]).max()


def test_notes():
    graph = wide()
    _, _, by, variances = found(graph)
    kept = masks(graph, by, variances, 0.5, groups=2)
    _, layers = rewritten(graph, kept, 2, lambda before, after: "c" not in after.readers)
    assert notes(layers)[1] == "2 convolutions read their own channels in 2 groups"
    assert notes(rewritten(graph, masks(graph, by, variances, 1.0))[1]) == ()
