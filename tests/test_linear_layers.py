"""The table of linear layers against ONNX Runtime: y = W p + b, for a row of each operator and variant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from nets import Net, run

from onnxprune.graph import Graph
from onnxprune.ops.layers import LINEAR, float_layers, is_depthwise, layer_at, weight_inputs
from onnxprune.ops.layers.bias import intercept
from onnxprune.ops.layers.storage import weights


@dataclass(frozen=True)
class Row:
    op: str
    build: Callable[[Net], str]
    groups: int = 1
    taps: int = 1
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.op} {self.variant}".strip()


ZEROS = np.uint8(3), np.int8(-3)


def image(n: Net) -> str:
    return n.input(2, 4, 7, 5)


def transposed(n: Net, **attributes) -> str:
    group = attributes.get("group", 1)
    return n.ConvTranspose(n.input(2, 4, 5, 3), n.weight(4, 6 // group, 3, 2), n.weight(6), **attributes)


def recurrent(n: Net, op: str, gates: int, directions: int = 1, **attributes) -> str:
    shape = (2, 5, 3) if attributes.get("layout") else (5, 2, 3)
    w, r = n.weight(directions, gates * 4, 3), n.weight(directions, gates * 4, 4)
    return n.node(op, n.input(*shape), w, r, n.weight(directions, 8 * gates), hidden_size=4, **attributes)


def integers(n: Net, *shape: int) -> np.ndarray:
    return n.random.integers(-60, 60, shape).astype(np.int8)


def pixels(n: Net, *shape: int) -> str:
    return n.input(*shape, feed=n.random.integers(0, 100, shape).astype(np.uint8))


def conv_integer(n: Net) -> str:
    return n.ConvInteger(pixels(n, 2, 4, 5, 3), integers(n, 6, 4, 3, 3), *ZEROS)


ROWS = [
    Row("Conv", lambda n: n.conv(n.input(2, 4, 5, 3), 6)),
    Row("Conv", lambda n: n.conv(image(n), 6, (3, 2), strides=[2, 1], pads=[1, 0, 2, 1]), 1, 6, "pads"),
    Row("Conv", lambda n: n.conv(image(n), 6, (3, 3), auto_pad="SAME_LOWER", group=2), 2, 9, "groups"),
    Row("Conv", lambda n: n.conv(n.input(2, 4, 9), 8, (3,), dilations=[2], group=4), 4, 3, "depthwise"),
    Row("ConvTranspose", transposed, 1, 6),
    Row("ConvTranspose", lambda n: transposed(n, group=2, strides=[2, 1], pads=[1, 0, 0, 1]), 2, 6, "groups"),
    Row("Gemm", lambda n: n.Gemm(n.input(3, 4), n.weight(4, 6), n.weight(6), alpha=0.5, beta=2.0)),
    Row("Gemm", lambda n: n.Gemm(n.input(4, 3), n.weight(6, 4), transA=1, transB=1), variant="turned"),
    Row("Gemm", lambda n: n.Gemm(n.input(4, 3), n.weight(4, 6), transA=1), variant="data turned"),
    Row("Gemm", lambda n: n.Gemm(n.input(3, 4), n.weight(6, 4), transB=1), variant="weight turned"),
    Row("Gemm", lambda n: n.Gemm(n.weight(6, 4), n.input(4, 3)), variant="left"),
    Row("Gemm", lambda n: n.Gemm(n.weight(4, 6), n.input(4, 3), transA=1), variant="left, turned"),
    Row("Gemm", lambda n: n.Gemm(n.weight(6, 4), n.input(3, 4), transB=1), variant="left, data turned"),
    Row("MatMul", lambda n: n.MatMul(n.input(2, 5, 4), n.weight(4, 6))),
    Row("MatMul", lambda n: n.MatMul(n.weight(6, 4), n.input(2, 4, 5)), variant="left"),
    Row("LSTM", lambda n: recurrent(n, "LSTM", 4)),
    Row("GRU", lambda n: recurrent(n, "GRU", 3, 2, direction="bidirectional"), variant="both ways"),
    Row("RNN", lambda n: recurrent(n, "RNN", 1)),
    Row("ConvInteger", conv_integer, 1, 9),
    Row("MatMulInteger", lambda n: n.MatMulInteger(pixels(n, 5, 4), integers(n, 4, 6), *ZEROS)),
]  # fmt: skip


def built(row: Row) -> tuple[Net, Graph, str]:
    n = Net(str(row))
    y = row.build(n)
    n.output(y)
    return n, Graph(n.finished()), y


def test_every_layer_has_a_row():
    assert {row.op for row in ROWS} == set(LINEAR)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_layer_is_a_matrix_product_of_its_patches(row):
    n, graph, y = built(row)
    layer = layer_at(graph, graph.producer[y])
    assert layer is not None
    (x,) = n.feeds()[0].values()
    layout, value = layer.layout, weights(graph, layer.weight).astype(np.float64)
    matrix = layout.matrix(value)
    groups, outputs, fan_in = matrix.shape
    assert (groups, layout.groups, layout.taps) == (row.groups, row.groups, row.taps)
    assert fan_in == layout.fan_in(value.shape) == x.shape[layout.summed] // groups * layout.taps
    np.testing.assert_allclose(layout.restored(matrix, value.shape), value)
    if layer.row.recurrent:
        return
    found = run(graph.model, {layer.data: x})[0].astype(np.float64)
    rows = np.arange(layout.rows(found.shape))
    zero = 0.0 if layer.row.zero is None else float(graph.array(layer.node.inputs[2]))
    patches = layout.patches(x.astype(np.float64) - zero, found.shape, rows)
    slot = intercept(graph, layer.node, layer.input)
    bias = np.zeros(groups * outputs) if slot is None else slot.now(groups * outputs)
    expected = patches @ matrix.swapaxes(1, 2) + bias.reshape(groups, 1, outputs)
    np.testing.assert_allclose(expected, layout.targets(found, rows), rtol=1e-4, atol=1e-4)


def test_a_recurrent_layer_reads_its_input_by_gates():
    """What LSTM makes of zeros and of its input differs by W x in the gates, which its own sums show."""
    n, graph, y = built(Row("LSTM", lambda n: recurrent(n, "LSTM", 4)))
    layer = layer_at(graph, graph.producer[y])
    w = graph.array(layer.weight)
    x = n.feeds()[0][layer.data]
    rows = np.arange(layer.layout.rows((5, 2, 16)))
    patches = layer.layout.patches(x, (5, 2, 16), rows)
    np.testing.assert_allclose(
        (patches @ layer.layout.matrix(w).swapaxes(1, 2))[0], x.reshape(-1, 3) @ w[0].T
    )


def test_what_holds_weights():
    assert weight_inputs("Gemm") == (0, 1)
    assert weight_inputs("LSTM") == (1, 2)
    assert weight_inputs("Relu") == ()


def test_depthwise_is_one_channel_of_one():
    _, graph, y = built(Row("Conv", lambda n: n.conv(n.input(2, 4, 9), 4, (3,), group=4)))
    assert is_depthwise(graph, graph.producer[y])
    _, graph, y = built(ROWS[2])
    assert not is_depthwise(graph, graph.producer[y])


def test_layers_whose_weight_is_data_are_none():
    n = Net("data")
    y = n.Conv(n.input(2, 4, 5, 3), n.Cast(n.const(n.weight(6, 4, 1, 1)), to=1))
    z = n.MatMul(n.input(2, 5, 4), n.input(4, 6))
    n.output(y)
    n.output(z)
    graph = Graph(n.finished())
    assert list(float_layers(graph)) == []
    assert not is_depthwise(graph, graph.producer[y])
