"""New weights said in terms of the uncut network: the cut gets what is left of them, the reference all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from nets import PRIMES, SQUARE, Dims, Net, run
from repairs import operated
from test_ops import qdq_conv
from test_repair_integers import layer

from onnxprune.contracts.traces import Unchanged
from onnxprune.ops.layers import layer_at
from onnxprune.ops.layers.storage import weights
from onnxprune.repair.compensation import Compensation, compensated, outputs_of, place_for_shift

LAYERS: dict[str, Callable[[Net], str]] = {
    "conv": lambda n: n.conv(n.Relu(n.conv()), 6, (3, 2)),
    "conv without bias": lambda n: n.Conv(n.Relu(n.conv()), n.weight(6, n.C, 3, 2)),
    "conv in groups": lambda n: n.conv(n.Relu(n.conv(out=8)), 6, (1, 2), group=2),
    "transposed": lambda n: n.ConvTranspose(n.Relu(n.conv()), n.weight(n.C, 6, 2, 2), n.weight(6)),
    "gemm": lambda n: n.gemm(n.Relu(n.gemm()), 6),
    "gemm scaled": lambda n: n.Gemm(n.Relu(n.gemm()), n.weight(n.C, 6), n.weight(6), alpha=0.5, beta=2.0),
    "matmul": lambda n: n.MatMul(n.Relu(n.dense()), n.weight(n.C, 6)),
    "matmul and add": lambda n: n.dense(n.Relu(n.dense()), 6),
    "matmul from the left": lambda n: n.Transpose(
        n.MatMul(n.weight(6, n.C), n.Transpose(n.Relu(n.dense()), perm=[0, 2, 1])), perm=[0, 2, 1]
    ),
    "recurrent": lambda n: n.Squeeze(
        n.RNN(n.Relu(n.dense()), n.weight(1, 6, n.C), n.weight(1, 6, 6), outputs=1, hidden_size=6), [1]
    ),
    "stored as integers": lambda n: qdq_conv(n, n.Relu(n.conv()), 6),
    "multiplied as integers": lambda n: layer(n, n.Relu(n.dense()), "MatMulInteger", 6, "behind"),
}
WITHOUT_BIAS = {"conv in groups", "multiplied as integers"}


def of_layer(cut, kind):
    """New weights and a shift for the layer in the middle, which loses inputs and outputs."""
    graph = cut.base.graph
    lost = next(iter(cut.lost))
    consumer = lost.consumer
    random = np.random.default_rng(0)
    array = weights(graph, consumer.weight).astype(np.float64)
    rows = consumer.rows(array)
    new = rows + np.abs(array).max() / 3 * random.standard_normal(rows.shape)
    new[~lost.kept] = 0
    numbers = outputs_of(graph, consumer, rows)
    shift = None if kind in WITHOUT_BIAS else random.standard_normal(int(numbers.max()) + 1)
    made = Compensation(consumer.output, consumer.input, consumer.array(new, array.shape), shift, numbers)
    return consumer, made


@pytest.mark.parametrize("dims", [PRIMES, SQUARE], ids=["primes", "square"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_cut_computes_what_the_masked_reference_does(kind: str, dims: Dims) -> None:
    n = Net(kind, dims)
    n.read(n.Tanh(LAYERS[kind](n)))
    cut = operated(n.finished())
    (space,) = cut.spaces
    assert len(cut.groups) >= 2
    consumer, new = of_layer(cut, kind)
    graph = cut.base.graph
    if kind != "conv in groups":
        assert (place_for_shift(graph, consumer.output, consumer.input) is None) == (new.shift is None)
    whole = compensated(space.mask(cut.base, cut.choice), Unchanged(), [new]).graph
    left = compensated(cut.network, cut.trace, [new]).graph
    feeds = n.feeds()[0]
    expected, found, before = (run(g.model, feeds)[0] for g in (whole, left, cut.network.graph))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert np.abs(found - before).max() > 1e-3 * np.abs(before).max()
    for name in graph.constants:
        if name in left.constants:
            assert left.dtype(name) == graph.dtype(name)


@pytest.mark.parametrize("kind", [k for k in LAYERS if k not in WITHOUT_BIAS and "integers" not in k])
def test_values_know_their_output(kind: str) -> None:
    n = Net(kind, PRIMES)
    n.read(n.Tanh(LAYERS[kind](n)))
    cut = operated(n.finished())
    graph = cut.base.graph
    consumer, new = of_layer(cut, kind)
    linear = layer_at(graph, graph.nodes[consumer.node])
    matrix = linear.layout.matrix(new.outputs.astype(float)) / linear.layout.matrix(np.ones(new.weight.shape))
    expected = np.arange(matrix.shape[1])[None, :, None]
    np.testing.assert_array_equal(matrix, np.broadcast_to(expected, matrix.shape))


def test_a_layer_that_is_gone_is_left_out() -> None:
    n = Net("gone")
    n.read(n.Relu(n.conv()))
    cut = operated(n.finished())
    nothing = Compensation("nowhere", 1, np.zeros((2, 2)), None, np.zeros((2, 2), np.int64))
    assert compensated(cut.network, cut.trace, [nothing]) is cut.network


def test_integers_are_the_nearest_that_there_are() -> None:
    """Weights count from their zero point on, and end where their type does."""
    n = Net("integers", SQUARE)
    n.output(layer(n, n.Relu(n.dense()), "MatMulInteger", 6, None))
    cut = operated(n.finished())
    (space,) = cut.spaces
    consumer = next(c for c in space.consumers if c.op == "MatMulInteger")
    array = weights(cut.base.graph, consumer.weight).astype(np.float64)
    wanted = array + 0.3
    wanted[:, 0] = 1000.0
    rows = consumer.rows(array)
    one = Compensation(consumer.output, 1, wanted, None, outputs_of(cut.base.graph, consumer, rows))
    found = compensated(cut.network, cut.trace, [one]).graph
    stored = found.array(found.producer[consumer.output].inputs[1])
    assert stored.dtype == np.uint8
    assert (stored[:, 0] == 255).all()
    before = cut.network.graph.array(cut.network.graph.producer[consumer.output].inputs[1])
    np.testing.assert_array_equal(stored[:, 1:], before[:, 1:])
