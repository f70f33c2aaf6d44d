"""Sums that come out of a graph equal those of its dumped activations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from calibration import build, dumped, images, in_batches, residual_net, rows_of
from onnx.helper import make_node

from onnxprune.calibration.emitter import POSITIONS
from onnxprune.calibration.meter import Meter
from onnxprune.contracts.request import Kernel, Request
from onnxprune.errors import InputError, UsageError
from onnxprune.runtime import Session

ALL = frozenset({"gram", "zeros", "squares", "norms", "pooled"})


def gathered(graph, requests, feeds, *sizes):
    """Moments of each request, over batches of these sizes."""
    meter = Meter(graph, requests)
    session = Session(meter.graph.serialized())
    for batch in in_batches(feeds, *sizes):
        meter.add(session.run(meter.feeds(batch)))
    return meter.moments


def relu(shape, opset=17):
    """A graph that makes y = relu(x)."""
    return build([make_node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape}, {}, opset)


@pytest.mark.parametrize("opset", [9, 11, 13, 18, 21])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((11, 5, 4, 3), 1), ((11, 4, 3, 5), 3), ((11, 7, 5), 2), ((11, 5, 7), 1), ((11, 5), 1), ((5, 11), 0)],
)
def test_every_kind_on_every_layout(shape, axis, opset):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    open_shape = ["N", *shape[1:]]
    feeds = {"x": x}
    sizes = (3, 5, 2) if axis else (len(x),)
    (m,) = gathered(relu(open_shape, opset), [Request("y", axis, shape, ALL)], feeds, *sizes)
    y = np.maximum(x, 0).astype(np.float64)
    rows = rows_of(y, axis)
    assert m.rows == len(rows)
    np.testing.assert_allclose(m.sum, rows.sum(0), rtol=1e-5)
    np.testing.assert_allclose(m.gram, rows.T @ rows, rtol=1e-5)
    np.testing.assert_allclose(m.second, (rows**2).mean(0), rtol=1e-5)
    np.testing.assert_allclose(m.covariance, np.cov(rows.T, bias=True), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(m.zeros, (rows == 0).sum(0))
    cube = np.moveaxis(y if axis else y[None], axis or 1, 1).reshape(len(x) if axis else 1, shape[axis], -1)
    norms = np.sqrt((cube**2).sum(2))
    assert m.samples == len(cube)
    np.testing.assert_allclose(m.norms, norms.sum(0), rtol=1e-5)
    np.testing.assert_allclose(m.norm_variance, norms.var(0), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(m.pooled, cube.mean(2), rtol=1e-5)


def test_squares_without_a_gram_matrix():
    x = np.random.default_rng(0).standard_normal((6, 4, 5)).astype(np.float32)
    (m,) = gathered(relu(["N", 4, 5]), [Request("y", 1, x.shape, frozenset({"squares"}))], {"x": x}, 4)
    assert m.gram is None
    np.testing.assert_allclose(m.second, (rows_of(np.maximum(x, 0)) ** 2).mean(0), rtol=1e-5)
    with pytest.raises(UsageError, match="gram"):
        m.covariance  # noqa: B018


def test_half_precision_is_summed_in_single():
    nodes = [make_node("Cast", ["x"], ["h"], to=10), make_node("Cast", ["h"], ["y"], to=1)]
    graph = build(nodes, {"x": ["N", 2, 4000]}, {"y": ["N", 2, 4000]}, {})
    x = np.full((40, 2, 4000), 3.0, np.float32)
    (m,) = gathered(graph, [Request("h", 1, x.shape, frozenset({"gram", "norms"}))], {"x": x}, 40)
    assert m.gram is not None
    assert m.gram[0, 1] == 9 * 40 * 4000  # more than float16 can hold
    np.testing.assert_allclose(m.norms, 40 * 3 * np.sqrt(4000), rtol=1e-5)


def test_values_that_are_no_numbers_are_refused():
    x = np.ones((3, 4, 6, 5), np.float32)
    x[1, 2, 3, 4] = np.inf
    with pytest.raises(InputError, match="'y' holds NaN or infinity on some sample"):
        gathered(relu(["N", 4, 6, 5]), [Request("y", 1, x.shape, frozenset({"gram"}))], {"x": x}, 3)


@pytest.mark.parametrize("turn", [True, False])
@pytest.mark.parametrize("length", [30, None])
def test_ways_to_look_at_some_positions_see_the_same(turn, length):
    """Also of channels that come last."""
    x = np.random.default_rng(0).standard_normal((9, 4, 6, 5)).astype(np.float32)
    kinds = frozenset({"gram", "zeros"})
    (first,) = gathered(relu(["N", 4, 6, 5]), [Request("y", 1, x.shape, kinds, 7)], {"x": x}, 4)
    request = Request("y", 1, x.shape, kinds, 7, length=length, turn=turn)
    (other,) = gathered(relu(["N", 4, 6, 5]), [request], {"x": x}, 4)
    assert other.rows == first.rows == 9 * 7
    np.testing.assert_allclose(other.gram, first.gram, rtol=1e-5)
    np.testing.assert_array_equal(other.zeros, first.zeros)
    rows = np.ascontiguousarray(np.moveaxis(x, 1, 3)).reshape(9, 30, 4)
    last = build([make_node("Relu", ["x"], ["y"])], {"x": ["N", 30, 4]}, {"y": ["N", 30, 4]}, {})
    meter = Meter(last, [Request("y", 2, rows.shape, kinds, 7, length=length)])
    meter.add(Session(meter.graph.serialized()).run({"x": rows, POSITIONS: meter.feeds({"x": x})[POSITIONS]}))
    np.testing.assert_allclose(meter.moments[0].gram, first.gram, rtol=1e-5)


class TestPositions:
    request = Request("y", 1, (1, 4, 6, 5), frozenset({"gram", "zeros"}), 7)
    x = np.random.default_rng(0).standard_normal((200, 4, 6, 5)).astype(np.float32)

    def test_each_is_a_row_of_the_tensor(self):
        marked = np.zeros((3, 4, 6, 5), np.float32)
        marked[:] = np.arange(1, 31).reshape(6, 5)  # all channels say the position
        (m,) = gathered(relu(["N", 4, 6, 5]), [self.request], {"x": marked}, 3)
        assert m.rows == 3 * 7
        np.testing.assert_allclose(m.gram, np.full((4, 4), m.gram[0, 0]))

    def test_they_stand_for_all(self):
        (m,) = gathered(relu(["N", 4, 6, 5]), [self.request], {"x": self.x}, 50)
        rows = rows_of(np.maximum(self.x, 0))
        assert m.rows == 200 * 7
        np.testing.assert_allclose(m.mean, rows.mean(0), atol=0.06)
        np.testing.assert_allclose(m.zero_fraction, 0.5, atol=0.06)

    def test_none_is_never_seen(self):
        """Each position comes up: a mark on any single one is found."""
        marked = np.zeros((400, 4, 6, 5), np.float32)
        marked[:] = np.random.default_rng(1).random((400, 1, 1, 1)) * 1e-3  # tell the samples apart
        marked[:, 0, 5, 4] += 1
        (m,) = gathered(relu(["N", 4, 6, 5]), [self.request], {"x": marked}, 50)
        assert m.mean[0] == pytest.approx(1 / 30, rel=0.5)

    def test_neither_batches_nor_order_change_them(self):
        graph = relu(["N", 4, 6, 5])
        (a,) = gathered(graph, [self.request], {"x": self.x}, 50)
        (b,) = gathered(graph, [self.request], {"x": self.x[::-1]}, 1)
        np.testing.assert_allclose(a.gram, b.gram, rtol=1e-5)
        np.testing.assert_array_equal(a.zeros, b.zeros)

    def test_old_opsets_look_at_all(self):
        meter = Meter(relu(["N", 4, 6, 5], opset=9), [self.request])
        assert POSITIONS not in meter.graph.inputs


@pytest.mark.parametrize("attrs", [{"pads": [1, 1, 1, 1]}, {"strides": [2, 2]}, {"dilations": [2, 1]}])
def test_kernel_norms_equal_those_of_single_convolutions(attrs):
    x = images(9)
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 2)).astype(np.float32)
    graph = build([make_node("Relu", ["x"], ["y"])], {"x": ["N", 3, 9, 7]}, {"y": ["N", 3, 9, 7]}, {})
    request = Request("y", 1, x.shape, frozenset({"kernels"}), kernel=Kernel(weight, attrs))
    (m,) = gathered(graph, [request], {"x": x}, 4)
    for t in range(4):
        for s in range(3):
            alone = build(
                [make_node("Conv", ["x", "w"], ["y"], **attrs)],
                {"x": ["N", 1, 9, 7]},
                {"y": ["N", 1, None, None]},
                {"w": weight[t : t + 1, s : s + 1]},
            )
            (y,) = dumped(alone, {"x": np.maximum(x[:, s : s + 1], 0)}, "y")
            norms = np.sqrt((y**2).sum((1, 2, 3)))
            np.testing.assert_allclose(m.kernel_norms[t, s], norms.sum(), rtol=1e-4)
            np.testing.assert_allclose(m.kernel_variance[t, s], norms.var(), rtol=1e-3, atol=1e-6)


def test_only_sums_come_out():
    graph = residual_net()
    meter = Meter(graph, [Request("a", 1, (1, 8, 9, 7), frozenset({"gram"}))])
    out = Session(meter.graph.serialized()).run({"image": images(32)})
    assert sorted(v.shape for v in out.values()) == [(), (8,), (8, 8)]
    assert "head" not in [n.name for n in meter.graph.nodes], "what nothing asks for is not computed"


def test_reductions_run_right_behind_what_they_reduce(tmp_path):
    """Else all activations would be held until the end; ONNX Runtime visits the last outputs first."""
    requests = [
        Request("a", 1, (1, 8, 9, 7), frozenset({"gram"})),
        Request("d", 1, (1, 12, 9, 7), frozenset({"pooled"})),
        Request("b", 1, (1, 8, 9, 7), frozenset({"gram"})),
    ]
    meter = Meter(residual_net(), requests)
    session = Session(meter.graph.serialized(), trace=str(tmp_path / "trace"))
    session.run({"image": images(4)})
    events = json.loads(session.end_trace().read_text())
    kinds = [e["args"]["op_name"] for e in events if e["name"].endswith("_kernel_time")]
    kinds = [k for k in kinds if k in ("Conv", "FusedConv", "Gemm", "GlobalAveragePool")]
    assert [k.replace("Fused", "") for k in kinds] == [
        *("Conv", "Gemm"),
        *("Conv", "Gemm"),
        *("Conv", "Conv", "GlobalAveragePool"),
    ]


def test_disjoint_parts_add_up():
    graph, x = residual_net(), images(30)
    request = Request("a", 1, (1, 8, 9, 7), ALL)
    (whole,) = gathered(graph, [request], {"image": x}, 8)
    (first,) = gathered(graph, [request], {"image": x[:11]}, 8)
    (rest,) = gathered(graph, [request], {"image": x[11:]}, 8)
    both = first + rest
    assert (both.rows, both.samples) == (whole.rows, whole.samples)
    np.testing.assert_allclose(both.covariance, whole.covariance, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(both.pooled, whole.pooled, rtol=1e-5)
