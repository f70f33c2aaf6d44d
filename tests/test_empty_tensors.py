"""Tensors with an axis of length 0: statistics, criteria, repair and judges take them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import Net, run
from onnx import TensorProto, helper
from test_ops import nothing_of, rolled

import onnxprune
from onnxprune.criteria import CRITERIA
from onnxprune.graph import Graph
from onnxprune.quality.loss import are_probabilities, are_scores

WIDTH = 12


def network() -> Net:
    """A layer that is applied to no rows as well, and outputs that hold nothing."""
    n = Net("empty", opset=17)
    x = n.Relu(n.Add(n.MatMul(n.input("batch", 4, 5), n.weight(5, WIDTH)), n.weight(WIDTH)))
    w, b, v = n.const(n.weight(WIDTH, WIDTH)), n.const(n.weight(WIDTH)), n.const(n.weight(WIDTH, 3))
    parts = [n.Relu(n.Add(n.MatMul(part, w), b)) for part in (nothing_of(n, x, 1), rolled(n, x, 1))]
    n.output(n.MatMul(n.Concat(*parts, axis=1), v))
    n.output(n.Softmax(n.MatMul(parts[0], v)))
    n.output(n.MatMul(parts[0], v))
    return n


def graph_of(net: Net) -> Graph:
    model = net.model()
    for output, value in zip(model.graph.output, run(model, net.feeds()[0]), strict=True):
        shape = ["batch", *value.shape[1:]]
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape))
    return Graph(model)


def samples(net: Net, count: int = 20) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [
        {k: random.standard_normal(v.shape).astype(v.dtype) for k, v in net.feeds()[0].items()}
        for _ in range(count)
    ]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("criterion", sorted(set(CRITERIA) - {"bn-scale"}))
def test_every_criterion_and_the_repair(criterion: str) -> None:
    net = network()
    result = onnxprune.prune(
        graph_of(net),
        ratio=0.5,
        calib=samples(net),
        criterion=criterion,
        simplify=False,
        force=True,
        measure_latency=False,
    )
    onnx.checker.check_model(result.model, full_check=True)
    assert result.verdict.exact
    assert result.verdict.after.params < 0.6 * result.verdict.before.params
    assert all(np.isfinite(value) for value in result.verdict.drift.relative.values())


def test_an_output_of_nothing_is_neither_scores_nor_probabilities() -> None:
    assert not are_probabilities(np.zeros((0, 3), np.float32))
    assert not are_scores(np.zeros((0, 3), np.float32), 0)
