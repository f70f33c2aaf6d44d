"""Weights that are computed: cast, dequantised, transposed. Every stage must take them as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
import pytest
from nets import Net
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from surgery import check, operate

import onnxprune
from onnxprune.criteria import CRITERIA
from onnxprune.graph import Graph

WIDTH = 12
Weight = Callable[..., str]


def cast(n: Net, *shape: int) -> str:
    return str(n.Cast(n.weight(*shape).astype(np.float16), to=TensorProto.FLOAT))


def dequantised(n: Net, *shape: int) -> str:
    integers = n.random.integers(-99, 99, shape).astype(np.int8)
    return str(n.DequantizeLinear(integers, n.positive(shape[0]) / 100, np.zeros(shape[0], np.int8), axis=0))


def reshaped(n: Net, *shape: int) -> str:
    return str(n.Reshape(n.weight(shape[0], int(np.prod(shape[1:]))), list(shape)))


def turned(n: Net, *shape: int) -> str:
    """In another order, shape and precision, one after the other."""
    half = n.Transpose(n.weight(*shape).astype(np.float16).T)
    return str(n.Cast(n.Identity(n.Reshape(half, [0, -1, *shape[2:]])), to=TensorProto.FLOAT))


def scaled(n: Net, *shape: int) -> str:
    return str(n.Mul(n.weight(*shape), np.float32(2)))


def standardised(n: Net, *shape: int) -> str:
    w, axes = n.const(n.weight(*shape)), list(range(1, len(shape)))
    return str(n.Sub(w, n.ReduceMean(w, axes=axes)))


def constant(n: Net, *shape: int) -> str:
    return n.const(n.weight(*shape))


COMPUTED = {f.__name__: f for f in (cast, dequantised, reshaped, turned, scaled, standardised)}


def residual(n: Net, w: Weight) -> str:
    x = n.Relu(n.Conv(n.input("batch", 3, 6, 6), w(n, WIDTH, 3, 3, 3), n.weight(WIDTH), pads=[1] * 4))
    y = n.Relu(n.Conv(x, w(n, WIDTH, WIDTH, 3, 3), n.weight(WIDTH), pads=[1] * 4))
    return str(n.Conv(n.Relu(n.Add(x, y)), w(n, 4, WIDTH, 1, 1), n.weight(4)))


def depthwise(n: Net, w: Weight) -> str:
    x = n.Relu(n.Conv(n.input("batch", 3, 6, 6), w(n, WIDTH, 3, 1, 1), n.weight(WIDTH)))
    y = n.Relu(n.Conv(x, w(n, WIDTH, 1, 3, 3), n.weight(WIDTH), group=WIDTH))
    return str(n.Conv(y, w(n, 4, WIDTH, 1, 1), n.weight(4)))


def transposed(n: Net, w: Weight) -> str:
    x = n.Relu(n.Conv(n.input("batch", 3, 6, 6), w(n, WIDTH, 3, 1, 1), n.weight(WIDTH)))
    y = n.Relu(n.ConvTranspose(x, w(n, WIDTH, 8, 2, 2), n.weight(8)))
    return str(n.Conv(y, w(n, 4, 8, 1, 1), n.weight(4)))


def dense(n: Net, w: Weight) -> str:
    x = n.Relu(n.Gemm(n.input("batch", 5), w(n, WIDTH, 5), n.weight(WIDTH), transB=1))
    return str(n.Gemm(n.Relu(n.Gemm(x, w(n, WIDTH, WIDTH), n.weight(WIDTH))), w(n, WIDTH, 3)))


NETS = {f.__name__: f for f in (residual, depthwise, transposed, dense)}


def network(name: str, weight: Weight) -> Net:
    net = Net(name, opset=17)
    net.output(NETS[name](net, weight))
    return net


def model_of(net: Net) -> onnx.ModelProto:
    """With a declared output, of a symbolic batch."""
    model = net.model()
    (output,) = model.graph.output
    shape = ["batch", *net.shape(output.name)[1:]]
    output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape))
    return model


def samples(net: Net, count: int = 20) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [
        {k: random.standard_normal(v.shape).astype(v.dtype) for k, v in net.feeds()[0].items()}
        for _ in range(count)
    ]


@pytest.mark.parametrize("kind", COMPUTED)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("calibrated", [False, True], ids=["weights alone", "samples"])
def test_they_are_pruned_and_repaired(name: str, kind: str, calibrated: bool) -> None:
    net = network(name, COMPUTED[kind])
    calib = samples(net) if calibrated else None
    result = onnxprune.prune(
        Graph(model_of(net)), ratio=0.5, calib=calib, simplify=False, force=True, measure_latency=False
    )
    assert result.verdict.exact
    assert result.verdict.after.params < 0.7 * result.verdict.before.params


@pytest.mark.parametrize("kind", sorted(set(COMPUTED) - {"standardised"}))
@pytest.mark.parametrize("name", NETS)
def test_the_surgery_is_that_of_the_oracle(name: str, kind: str) -> None:
    net = network(name, COMPUTED[kind])
    surgery = operate(model_of(net))
    assert surgery.removed
    assert {b.cause.reason for b in surgery.analysis.blocked} <= {f"is the graph output '{net._outputs[0]}'"}
    for feeds in net.feeds():
        check(surgery, feeds, all_read=True)


@pytest.mark.parametrize("kind", ["cast", "reshaped", "turned"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("repair", ["none", "fold"])
def test_they_are_scored_and_repaired_as_what_they_stand_for(name: str, kind: str, repair: str) -> None:
    """The same as with plain weights comes out, stored as before."""
    found = {}
    for weight in (COMPUTED[kind], constant):
        net = network(name, weight)
        found[weight] = onnxprune.prune(
            Graph(model_of(net)),
            macs=0.6,
            calib=samples(net),
            simplify=False,
            repair=repair,
            force=True,
            measure_latency=False,
        )
    one, plain = found.values()
    assert one.verdict.exact
    assert one.repaired.mode == plain.repaired.mode == repair
    assert one.plan.options["criterion"] == "obs"
    (drift,), (expected,) = (list(r.verdict.drift.relative.values()) for r in (one, plain))
    assert drift == pytest.approx(expected, abs=0.03)
    stored = {t.data_type for t in one.model.graph.initializer if np.prod(t.dims) > 40}
    assert stored == {TensorProto.FLOAT if kind == "reshaped" else TensorProto.FLOAT16}
    assert len(one.graph.nodes) == len(one.prepared.original.nodes)


@pytest.mark.parametrize("name", NETS)
def test_what_cannot_be_told_is_scored_by_its_filters(name: str) -> None:
    """Samples are there, and of no layer it is known what it multiplies by: that is no lack of samples."""
    net = network(name, scaled)
    calib = samples(net)
    result = onnxprune.prune(
        Graph(model_of(net)), macs=0.6, calib=calib, simplify=False, force=True, measure_latency=False
    )
    assert result.verdict.exact
    assert result.plan.options["criterion"] == "obs"


@pytest.mark.parametrize("criterion", sorted(set(CRITERIA) - {"bn-scale"}))
def test_every_criterion_takes_them(criterion: str) -> None:
    net = network("residual", dequantised)
    result = onnxprune.prune(
        Graph(model_of(net)),
        ratio=0.5,
        calib=samples(net),
        criterion=criterion,
        simplify=False,
        repair="none",
        force=True,
        measure_latency=False,
    )
    assert result.verdict.exact
    assert result.verdict.after.params < result.verdict.before.params


class Reader(CalibrationDataReader):
    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self._feeds: Iterator[Mapping[str, np.ndarray]] = iter(feeds)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self._feeds, None)


@pytest.mark.parametrize("per_channel", [False, True], ids=["one scale", "scale for each channel"])
@pytest.mark.parametrize("name", ["residual", "depthwise"])
def test_what_onnxruntime_has_quantised(name: str, per_channel: bool, tmp_path) -> None:
    net = network(name, constant)
    onnx.save(model_of(net), tmp_path / "float.onnx")
    quantised = tmp_path / "quantised.onnx"
    quantize_static(tmp_path / "float.onnx", quantised, Reader(samples(net)), per_channel=per_channel)
    for calib in (None, samples(net)):
        result = onnxprune.prune(quantised, ratio=0.5, calib=calib, force=True, measure_latency=False)
        assert result.verdict.exact
        assert result.verdict.after.params < 0.7 * result.verdict.before.params
