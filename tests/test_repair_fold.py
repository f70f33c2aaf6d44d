"""Folding against explicit least squares for every kind of consumer, and cases where it must be exact."""

from __future__ import annotations

import numpy as np
import pytest
from nets import PRIMES, SQUARE, Net, run
from repairs import Columns, by_output, least_squares, operated, samples, thinned, values

from onnxprune.contracts.traces import Chained
from onnxprune.ops.layers import LINEAR
from onnxprune.quality.loss import Judge
from onnxprune.reductions.weights import Kernels, Weights
from onnxprune.repair import Task, sequential
from onnxprune.repair.fitted import fitted_layers
from onnxprune.repair.regression import Fit, fit
from onnxprune.repair.sequential import fold


def bent(n, x):
    """Channels of which the others know something, as in networks."""
    return n.LeakyRelu(x, alpha=0.3)


def conv(n, kernel=(3, 3), groups=1, out=5, bias=True, **attributes):
    x = bent(n, n.conv(out=2 * groups * n.C if groups > 1 else n.C, kernel=(1,) * len(kernel)))
    w = n.weight(out * groups, n.shape(x)[1] // groups, *kernel)
    b = [n.weight(out * groups)] if bias else []
    n.output(n.node("Conv", x, w, *b, **({"group": groups} if groups > 1 else {}), **attributes))


def transposed(n, kernel=(3, 3), groups=1, out=3, **attributes):
    x = bent(n, n.conv(out=2 * groups * n.C if groups > 1 else n.C, kernel=(1,) * len(kernel)))
    w = n.weight(n.shape(x)[1], out, *kernel)
    group = {"group": groups} if groups > 1 else {}
    n.output(n.node("ConvTranspose", x, w, n.weight(out * groups), **group, **attributes))


def gemm(n, bias=True, turned=False, **attributes):
    x = bent(n, n.gemm())
    if turned:
        x = n.Transpose(x, perm=[1, 0])
    w = n.weight(6, n.C) if attributes.get("transB") else n.weight(n.C, 6)
    n.output(n.Gemm(x, w, *([n.weight(6)] if bias else []), transA=int(turned), **attributes))


def matmul(n, add=None, left=False):
    x = bent(n, n.dense())
    if left:
        n.output(n.MatMul(n.weight(6, n.C), n.Transpose(x, perm=[0, 2, 1])))
        return
    y = n.MatMul(x, n.weight(n.C, 6))
    if add is not None:
        y = n.Add(y, n.weight(6)) if add == "right" else n.Add(n.weight(6), y)
    n.output(y)


KINDS = {
    "conv 1x1": lambda n: conv(n, (1, 1)),
    "conv 3x3": lambda n: conv(n, pads=[1, 1, 1, 1]),
    "conv without bias": lambda n: conv(n, pads=[1, 1, 1, 1], bias=False),
    "conv strided": lambda n: conv(n, pads=[1, 1, 1, 1], strides=[2, 1]),
    "conv dilated": lambda n: conv(n, (2, 3), pads=[1, 2, 1, 2], dilations=[1, 2]),
    "conv uneven pads": lambda n: conv(n, (2, 3), pads=[0, 2, 1, 1]),
    "conv SAME_UPPER": lambda n: conv(n, (2, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv SAME_LOWER": lambda n: conv(n, (2, 3), auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv VALID": lambda n: conv(n, (2, 2), auto_pad="VALID"),
    "conv grouped": lambda n: conv(n, pads=[1, 1, 1, 1], groups=2),
    "conv 1d": lambda n: conv(n, (3,), pads=[1, 1]),
    "conv 3d": lambda n: conv(n, (2, 2, 2)),
    "transposed": transposed,
    "transposed strided": lambda n: transposed(n, strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 0]),
    "transposed dilated": lambda n: transposed(n, (2, 3), dilations=[2, 1], strides=[1, 2]),
    "transposed grouped": lambda n: transposed(n, groups=2, strides=[2, 2]),
    "transposed SAME_UPPER": lambda n: transposed(n, auto_pad="SAME_UPPER", strides=[2, 2]),
    "transposed SAME_LOWER": lambda n: transposed(n, auto_pad="SAME_LOWER", strides=[2, 2]),
    "transposed 1d": lambda n: transposed(n, (3,), strides=[2]),
    "gemm": gemm,
    "gemm transB": lambda n: gemm(n, transB=1),
    "gemm transA": lambda n: gemm(n, turned=True),
    "gemm scaled": lambda n: gemm(n, transB=1, alpha=0.5, beta=3.0),
    "gemm without bias": lambda n: gemm(n, bias=False),
    "gemm beta of zero": lambda n: gemm(n, beta=0.0),
    "matmul": matmul,
    "matmul and add": lambda n: matmul(n, add="right"),
    "add and matmul": lambda n: matmul(n, add="left"),
    "matmul from the left": lambda n: matmul(n, left=True),
}
HAVE_NO_BIAS = {"gemm beta of zero", "matmul", "matmul from the left"}
"""A MatMul that is a graph output keeps its name for what it gives, so nothing can be added behind it."""


BOTH = pytest.mark.parametrize("dims", [PRIMES, SQUARE], ids=["primes", "square"])


def built(kind, dims):
    n = Net(kind, dims)
    KINDS[kind](n)
    return n, n.finished()


def axis_of(kind):
    """Where a consumer's outputs are."""
    if kind == "matmul from the left":
        return -2
    return 1 if kind.startswith(("conv", "transposed")) else -1


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_is_fitted_by_least_squares(kind, dims):
    n, model = built(kind, dims)
    task = Task.of(operated(model))
    whole, cut = task.origin.graph, task.network.graph
    batches = samples(n, 8 if axis_of(kind) == 1 else 24)
    repaired, lines = fold(task, batches)
    (line,), (layer,) = lines, fitted_layers(task)
    assert line.penalty < 1
    assert line.after < line.before

    axis, columns = axis_of(kind), Columns(cut, layer.output, layer.input)
    read = np.concatenate([columns.of(*values(cut, f, layer.data)) for f in batches], 1)
    wanted = np.concatenate([values(whole, f, layer.output)[0] for f in batches])
    mine = np.abs(by_output(columns.of(np.ones_like(values(cut, batches[0], layer.data)[0])), axis))
    start = cut.array(columns.name).astype(np.float64).ravel()
    has_bias = kind not in HAVE_NO_BIAS
    weights, bias = least_squares(read, mine.max(2) > 0, wanted, start, axis, line.penalty, bias=has_bias)
    close(repaired.graph.array(columns.name).ravel(), weights)

    feeds = samples(n, 1, seed=5)[0]
    predicted = np.tensordot(weights, columns.of(*values(cut, feeds, layer.data)), 1)
    predicted += bias.reshape([-1 if a == axis % wanted.ndim else 1 for a in range(wanted.ndim)])
    end, here = values(whole, feeds, whole.outputs[0], layer.output)
    close(run(repaired.graph.model, feeds)[0], predicted + end - here)


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_of_single_values_those_that_are_left_are_fitted(kind, dims):
    """Against dense least squares, for each output on the weights that it has left."""
    n, model = built(kind, dims)
    last = [node for node in model.graph.node if node.op_type in LINEAR][-1].output[0]
    cut = thinned(model, Weights(), share=0.4, of=[last])
    task = Task.of(cut)
    whole = task.origin.graph
    batches = samples(n, 8 if axis_of(kind) == 1 else 24)
    repaired, lines = fold(task, batches)
    (line,), (layer,), (lost,) = lines, fitted_layers(task), cut.lost
    assert line.penalty < 1
    assert line.after < line.before

    axis, columns = axis_of(kind), Columns(whole, layer.output, layer.input)
    support = lost.support.ravel()
    read = np.concatenate([columns.of(*values(whole, f, layer.data)) for f in batches], 1)
    wanted = np.concatenate([values(whole, f, layer.output)[0] for f in batches])
    mine = np.abs(by_output(columns.of(np.ones_like(values(whole, batches[0], layer.data)[0])), axis))
    start = np.where(support, whole.array(columns.name).astype(np.float64).ravel(), 0)
    weights, _ = least_squares(
        read,
        mine.max(2) > 0,
        wanted,
        start,
        axis,
        line.penalty,
        bias=kind not in HAVE_NO_BIAS,
        support=support,
    )
    found = repaired.graph.array(columns.name).ravel()
    assert (found[~support] == 0).all()
    close(found, weights)


@pytest.mark.parametrize("reduction", [Weights(), Kernels()])
def test_layers_that_lose_values_one_behind_the_other(reduction):
    """Each is fitted to what the original gives, from what those before it give now."""
    n = Net("thin chain")
    x = n.input(n.B, 3, n.H, n.W)
    for width in (2 * n.C, n.C, n.C):
        x = n.LeakyRelu(n.conv(x, width, kernel=(3, 3), pads=[1] * 4), alpha=0.3)
    n.output(n.conv(x, 5))
    cut = thinned(n.finished(), reduction, share=0.4)
    repaired, lines = fold(Task.of(cut), samples(n, 24))
    assert len(lines) == (4 if reduction.name == "weights" else 3)
    for lost in cut.lost:
        assert (repaired.graph.array(lost.layer.weight)[~lost.support] == 0).all()
    judge = Judge(cut.base.graph, samples(n, 8, seed=3))
    assert judge.loss(repaired.graph) < 0.5 * judge.loss(cut.network.graph)


def test_a_second_phase_is_fitted_to_the_original():
    """Channels go and are repaired, then single values of what is left: zeros stay where they are."""
    n = Net("phases")
    x = n.input(n.B, 3, n.H, n.W)
    for width in (4 * n.C, 2 * n.C):
        x = n.LeakyRelu(n.conv(x, width, kernel=(3, 3), pads=[1] * 4), alpha=0.3)
    n.output(n.conv(x, 5))
    first = operated(n.finished(), share=0.3)
    batches = samples(n, 24)
    left, _ = fold(Task.of(first), batches)
    second = thinned(left.graph.model, Weights(), share=0.3)
    task = Task(second, first.base, second.network, Chained(first.trace, second.trace))
    repaired, _ = fold(task, batches)
    judge = Judge(first.base.graph, samples(n, 8, seed=3))
    own, _ = fold(Task.of(second), batches)
    losses = [judge.loss(network.graph) for network in (repaired, own, second.network)]
    assert losses[0] < losses[1] < losses[2]
    for lost in second.lost:
        assert (repaired.graph.array(lost.layer.weight)[~lost.support] == 0).all()


def close(found, expected, tolerance=2e-4):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# ---------------------------------------------------------------- exact cases

RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(n, op, x, hidden=3, directions=1, bias=True, **attributes):
    gates = RECURRENT[op]
    steps = n.Transpose(x, perm=[1, 0, 2])
    weights = [n.weight(directions, gates * hidden, k) for k in (n.shape(x)[-1], hidden)]
    more = [n.weight(directions, 2 * gates * hidden)] if bias else []
    way = {"direction": "bidirectional"} if directions == 2 else {}
    return n.node(op, steps, *weights, *more, hidden_size=hidden, **way, **attributes)


def linear_copies(n, x, width, axis):
    """Twice as many channels: x and M x, or M x + c where nothing is padded."""
    more = n.weight(width, width)
    if axis == 1:
        w = np.concatenate([np.eye(width, dtype=np.float32), more])
        return n.node("Conv", x, w.reshape(2 * width, width, *[1] * (len(n.shape(x)) - 2)))
    return n.Add(
        n.MatMul(x, np.concatenate([np.eye(width, dtype=np.float32), more.T], 1)), n.weight(2 * width)
    )


def first_half(group):
    return np.arange(group.size) < group.size // 2


def read_by_all(n, spatial):
    """A tensor of which half of the channels are linear in the others, and all that can read it."""
    if spatial == 0:
        x = n.LeakyRelu(n.MatMul(n.input(n.B, n.H, 3), n.weight(3, n.C)), alpha=0.3)
        y = linear_copies(n, x, n.C, -1)
        n.output(n.Tanh(n.MatMul(y, n.weight(2 * n.C, 5))))
        n.output(n.Add(n.MatMul(y, n.weight(2 * n.C, 5)), n.weight(5)))
        n.output(n.Relu(n.MatMul(n.weight(5, 2 * n.C), n.Transpose(y, perm=[0, 2, 1]))))
        n.output(n.Gemm(n.Reshape(y, [-1, 2 * n.C]), n.weight(5, 2 * n.C), n.weight(5), transB=1, alpha=2.0))
        for op in RECURRENT:
            n.output(recurrent(n, op, y))
            n.output(recurrent(n, op, y, directions=2, bias=False))
        return
    sizes = (n.H, n.W, 3)[:spatial]
    x = n.LeakyRelu(n.node("Conv", n.input(n.B, 3, *sizes), n.weight(n.C, 3, *[1] * spatial)), alpha=0.3)
    y = linear_copies(n, x, n.C, 1)
    kernel = (2, 3, 2)[:spatial]
    pads = [1] * (2 * spatial)
    n.output(n.node("Conv", y, n.weight(5, 2 * n.C, *kernel), pads=pads))
    n.output(n.Relu(n.node("Conv", y, n.weight(5, 2 * n.C, *kernel), n.weight(5), auto_pad="SAME_UPPER")))
    n.output(n.node("ConvTranspose", y, n.weight(2 * n.C, 5, *kernel), strides=[2] * spatial))
    n.output(n.Relu(n.node("ConvTranspose", y, n.weight(2 * n.C, 5, *kernel), n.weight(5), pads=pads)))
    n.output(n.gemm(n.Flatten(y) if spatial < 3 else n.ReduceMean(y, axes=[2, 3, 4], keepdims=0)))


@BOTH
@pytest.mark.parametrize("spatial", [0, 1, 2, 3])
def test_what_is_linear_in_what_stays_is_restored(spatial, dims):
    n = Net(f"linear {spatial}", dims)
    read_by_all(n, spatial)
    cut = operated(
        n.finished(), choose=lambda g: first_half(g) if g.size == 2 * n.C else np.ones(g.size, bool)
    )
    assert not cut.choice.removes_nothing()
    repaired, lines = fold(Task.of(cut), samples(n, 60))
    feeds = samples(n, 1, seed=5)[0]
    wanted = run(cut.base.graph.model, feeds)
    assert len(lines) == len(wanted)
    for name, before, found, expected in zip(
        cut.base.graph.outputs,
        run(cut.network.graph.model, feeds),
        run(repaired.graph.model, feeds),
        wanted,
        strict=True,
    ):
        assert np.abs(before - expected).max() > 0.01 * np.abs(expected).max(), name
        close(found, expected, 1e-3)


@BOTH
def test_a_chain_of_linear_layers_is_restored_one_after_the_other(dims):
    n = Net("chain", dims)
    x = n.LeakyRelu(n.conv(kernel=(3, 3), pads=[1, 1, 1, 1]), alpha=0.3)
    y = linear_copies(n, x, n.C, 1)
    z = linear_copies(n, n.node("Conv", y, n.weight(n.C, 2 * n.C, 3, 3), pads=[1, 1, 1, 1]), n.C, 1)
    n.output(n.node("Conv", z, n.weight(5, 2 * n.C, 3, 3), n.weight(5), pads=[1, 1, 1, 1]))
    cut = operated(
        n.finished(), choose=lambda g: first_half(g) if g.size == 2 * n.C else np.ones(g.size, bool)
    )
    repaired, lines = fold(Task.of(cut), samples(n, 40))
    assert len(lines) >= 2
    feeds = samples(n, 1, seed=5)[0]
    close(run(repaired.graph.model, feeds)[0], run(cut.base.graph.model, feeds)[0], 1e-3)


@pytest.mark.parametrize(("count", "rows"), [(6, [108, 108]), (5, [108, 72]), (1, [18, 18])])
def test_one_batch_is_halved_by_samples_and_one_sample_by_rows(count, rows, monkeypatch):
    """Either half judges what the other has fitted, so both need rows."""
    seen = []

    def watched(halves, *given, **named):
        seen.append([half.rows for half in halves])
        return fit(halves, *given, **named)

    monkeypatch.setattr(sequential, "fit", watched)
    n = Net("one batch")
    n.output(n.conv(bent(n, n.conv(n.input("batch", 3, 6, 6), 8)), 5, (1, 1)))
    cut = operated(n.finished())
    (name,) = cut.base.graph.inputs
    x = np.random.default_rng(0).standard_normal((count, 3, 6, 6)).astype(np.float32)
    repaired, (line,) = fold(Task.of(cut), [{name: x}])
    assert seen == [rows]
    assert line.rows == count * 36
    assert line.after < line.before
    before, after = (
        np.square(
            values(g, {name: x}, *g.outputs)[0] - values(cut.base.graph, {name: x}, *g.outputs)[0]
        ).sum()
        for g in (cut.network.graph, repaired.graph)
    )
    assert after < before


@pytest.mark.parametrize(("width", "rows"), [(8, 4096), (800, 12 * 400)])
def test_as_many_rows_are_looked_at_as_inputs_ask_for(width, rows):
    """Twelve for each input that is left, of all batches together, and 4096 at least."""
    n = Net("rows")
    n.output(n.gemm(n.Relu(n.gemm(n.input("batch", 3), width)), 2))
    cut = operated(n.finished())
    (name,) = cut.base.graph.inputs
    random = np.random.default_rng(0)
    batches = [{name: random.standard_normal((2600, 3)).astype(np.float32)} for _ in range(2)]
    (line,) = fold(Task.of(cut), batches)[1]
    assert line.inputs == width // 2
    assert line.rows == 2 * (rows // 2 + 1)


def test_a_layer_whose_fit_gains_nothing_stays_as_it_is(monkeypatch):
    """No weight changes, and no bias is added that says nothing."""
    n = Net("no gain")
    n.output(n.Conv(n.Relu(n.conv(out=8)), n.weight(5, 8, 1, 1)))
    cut = operated(n.finished())

    def useless(_halves, start, bias, **_):
        return Fit(start, bias, float("inf"), 0.5, 0.5)

    monkeypatch.setattr(sequential, "fit", useless)
    repaired, (line,) = fold(Task.of(cut), samples(n, 4))
    assert line.after == line.before == 0.5
    assert repaired.graph.serialized() == cut.network.graph.serialized()
