"""Repair that looks through what follows a layer: activations, and shortcuts that are added."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Net
from repairs import Columns, least_squares, operated, samples, values

from onnxprune.graph import Graph
from onnxprune.quality.loss import Judge
from onnxprune.repair import Task, sequential, targets
from onnxprune.repair.fitted import fitted_layers
from onnxprune.repair.nonlinear import FitRows, refitted
from onnxprune.repair.regression import Sums, fit
from onnxprune.repair.response import Shortcut, function, shortcut
from onnxprune.repair.sequential import fold

# ---------------------------------------------------------------- f


def hard_swish(n, y):
    gate = n.Div(n.Clip(n.Add(y, 3.0), np.float32(0), np.float32(6)), 6.0)
    return n.Mul(y, gate)


def gelu(n, y):
    return n.Mul(n.Mul(y, n.Add(n.Erf(n.Div(y, np.float32(2**0.5))), 1.0)), 0.5)


FUNCTIONS = {
    "relu": lambda n, y: n.Relu(y),
    "silu": lambda n, y: n.Mul(y, n.Sigmoid(y)),
    "silu by division": lambda n, y: n.Div(y, n.Add(n.Exp(n.Neg(y)), 1.0)),
    "hard swish": hard_swish,
    "gelu": gelu,
    "a slope for each channel": lambda n, y: n.PRelu(y, n.positive(*vector(n, y))),
    "a bias for each channel": lambda n, y: n.Relu(n.Add(y, n.weight(*vector(n, y)))),
    "two": lambda n, y: n.Tanh(n.LeakyRelu(y, alpha=0.2)),
}
LAYERS = {
    "conv": (1, lambda n: n.conv(out=5)),
    "matmul": (-1, lambda n: n.MatMul(n.input(n.B, n.H, 3), n.weight(3, 5))),
    "weight on the left": (-2, lambda n: n.MatMul(n.weight(5, 3), n.input(n.B, 3, n.W))),
    "flat, weight on the left": (-2, lambda n: n.MatMul(n.weight(5, 3), n.input(3, n.W))),
}


def vector(n, y):
    """The shape of what is the same for all positions of y."""
    axis = next(a for a, make in LAYERS.values() if n.made is make)
    shape = n.shape(y)
    return [s if k == axis % len(shape) else 1 for k, s in enumerate(shape)]


def layer(kind, behind):
    n = Net(f"{kind} {behind}")
    axis, n.made = LAYERS[kind]
    y = n.made(n)
    end = FUNCTIONS[behind](n, y)
    n.output(n.ReduceSum(end, [0]))
    return n, Graph(n.finished()), y, end, axis


def rows_of(array, axis):
    """(1, R, O)."""
    return np.moveaxis(array, axis, -1).reshape(1, -1, array.shape[axis])


@pytest.mark.parametrize("behind", FUNCTIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_f_gives_what_the_graph_gives(kind, behind):
    n, graph, y, end, axis = layer(kind, behind)
    (feeds,) = samples(n, 1)
    before, after = values(graph, feeds, y, end)
    f = function(graph, y, np.dtype(np.float32), before.shape, axis)
    np.testing.assert_allclose(f(rows_of(before, axis)), rows_of(after, axis), atol=1e-6)


def test_f_keeps_groups_apart():
    _, graph, y, _, _ = layer("conv", "a bias for each channel")
    f = function(graph, y, np.dtype(np.float32), (1, 6, 2, 2), 1)
    bias = next(graph.array(i) for node in graph.nodes if node.op == "Add" for i in node.inputs[1:])
    graph = graph.edited  # only the first graph is asked
    x = np.random.default_rng(0).standard_normal((5, 4, 1)).astype(np.float32)
    np.testing.assert_allclose(f(x), np.maximum(x + bias.reshape(5, 1, 1), 0), atol=1e-6)


@pytest.mark.parametrize(
    "behind",
    [
        lambda n, y: n.Add(y, n.weight(5, 1, 1)),
        lambda n, y: n.Mul(y, n.positive(5, 1, 1)),
        lambda n, y: n.Relu(n.Add(y, n.weight(1, 5, n.H, n.W))),
        lambda n, y: n.Relu(n.GlobalAveragePool(y)),
        lambda n, y: n.Mul(y, n.Sigmoid(n.GlobalAveragePool(y))),
        lambda n, y: n.Concat(n.Relu(y), y, axis=1),
        lambda n, y: n.Relu(n.Add(y, n.input(n.B, 5, n.H, n.W))),
        lambda n, y: (n.output(y), n.Relu(y))[1],
    ],
)
def test_what_is_linear_or_looks_elsewhere_is_not_f(behind):
    n = Net("no function")
    y = n.conv(out=5)
    n.output(n.Tanh(n.ReduceSum(behind(n, y), [0])))
    graph = Graph(n.finished())
    assert function(graph, y, np.dtype(np.float32), (n.B, 5, n.H, n.W), 1) is None


# ---------------------------------------------------------------- the fit


def relu(x):
    return np.maximum(x, 0)


def silu(x):
    return x / (1 + np.exp(-x))


def problem(groups=1, rows=600):
    """Rows that are not linear in what is read, with a shortcut."""
    r = np.random.default_rng(0)
    p = r.standard_normal((groups, rows, 8)).astype(np.float32)
    hidden = np.tanh(p @ r.standard_normal((groups, 8, 6)) * 2)
    y = (hidden @ r.standard_normal((groups, 6, 4)) - 0.5).astype(np.float32)
    return p, y, (0.3 * r.standard_normal(y.shape)).astype(np.float32)


def linear(p, y, start):
    sums = Sums(), Sums()
    for s, part in zip(sums, (slice(None, None, 2), slice(1, None, 2)), strict=True):
        s.add(p[:, part], y[:, part])
    halves = tuple(s.covariance() for s in sums)
    return fit(halves, start, np.zeros(start.shape[:2])), halves[0].joined(halves[1])


def lost(found, f, p, y, shortcut):
    z = p @ found.weights.swapaxes(1, 2) + found.bias[:, None]
    return float(np.square(f(y + shortcut) - f(z + shortcut)).mean())


@pytest.mark.parametrize("f", [relu, silu])
@pytest.mark.parametrize("groups", [1, 2])
def test_less_is_lost_behind_f_on_rows_that_were_not_fitted(f, groups):
    p, y, shortcut = problem(groups)
    start = np.zeros((groups, 4, 8))
    own, other = slice(None, 400), slice(400, None)
    found, whole = linear(p[:, own], y[:, own], start)
    rows = [FitRows(p[:, part], y[:, part], shortcut[:, part]) for part in (slice(150), slice(150, 400))]
    better = refitted(found, start, whole, rows, f, biased=True)
    held = p[:, other], y[:, other], shortcut[:, other]
    assert lost(better, f, *held) < 0.97 * lost(found, f, *held)


def test_where_f_is_linear_least_squares_were_right_already():
    p, y, shortcut = problem()
    start = np.zeros((1, 4, 8))
    found, whole = linear(p, y, start)
    again = refitted(found, start, whole, [FitRows(p, y, shortcut)], lambda x: 3 * x, biased=True)
    np.testing.assert_allclose(again.weights, found.weights, atol=0.05 * np.abs(found.weights).max())
    np.testing.assert_allclose(again.bias, found.bias, atol=1e-2)


def test_what_f_does_not_tell_apart_asks_for_nothing():
    """Of what is wanted below zero, a ReLU shows nothing: any other wish there gives the same fit."""
    p, y, shortcut = problem()
    start = np.zeros((1, 4, 8))
    found, whole = linear(p, y, start)
    z = p @ found.weights.swapaxes(1, 2).astype(np.float32) + found.bias[:, None].astype(np.float32)
    flat = (y + shortcut < 0) & (z + shortcut < 0)
    assert flat.mean() > 0.2
    other = np.where(flat, y - np.float32(0.5), y)
    fits = [
        refitted(found, start, whole, [FitRows(p, wish, shortcut)], relu, biased=True) for wish in (y, other)
    ]
    np.testing.assert_allclose(fits[0].weights, fits[1].weights, atol=1e-6)
    np.testing.assert_allclose(fits[0].bias, fits[1].bias, atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_where_f_is_not_finite_the_linear_fit_stays():
    p, y, shortcut = problem()
    start = np.zeros((1, 4, 8))
    found, whole = linear(p, y, start)

    def unbounded(x):
        return np.where(x > 0.5, np.float32(np.inf), x)

    assert refitted(found, start, whole, [FitRows(p, y, shortcut)], unbounded, biased=True) is found


def test_weights_that_are_gone_stay_away_behind_f():
    p, y, shortcut = problem()
    start = np.zeros((1, 4, 8))
    support = np.random.default_rng(2).random(start.shape) < 0.6
    sums = Sums(), Sums()
    for s, part in zip(sums, (slice(300), slice(300, 600)), strict=True):
        s.add(p[:, part], y[:, part])
    halves = tuple(s.covariance() for s in sums)
    found = fit(halves, start, np.zeros((1, 4)), support=support)
    rows = [FitRows(p, y, shortcut)]
    whole = halves[0].joined(halves[1])
    better = refitted(found, start, whole, rows, relu, biased=True, support=support)
    assert (better.weights[~support] == 0).all()
    assert lost(better, relu, p, y, shortcut) < 0.99 * lost(found, relu, p, y, shortcut)


def test_a_fit_that_can_have_no_bias_gets_none():
    p, y, shortcut = problem()
    start = np.zeros((1, 4, 8))
    sums = Sums(), Sums()
    for s, part in zip(sums, (slice(300), slice(300, 600)), strict=True):
        s.add(p[:, part], y[:, part])
    halves = tuple(s.covariance(centred=False) for s in sums)
    found = fit(halves, start, np.zeros((1, 4)))
    whole = halves[0].joined(halves[1])
    better = refitted(found, start, whole, [FitRows(p, y, shortcut)], relu, biased=False)
    assert not better.bias.any()
    assert lost(better, relu, p, y, shortcut) < lost(found, relu, p, y, shortcut)


@pytest.mark.parametrize("behind", ["relu", "hard swish"])
def test_layers_of_a_network_are_fitted_through_what_follows_them(behind, monkeypatch):
    """Behind the function less is lost than with the linear fit alone."""
    n = Net("fitted through")
    n.output(FUNCTIONS[behind](n, n.conv(n.Relu(n.conv(out=16)), 12)))
    task, batches = Task.of(operated(n.finished())), samples(n, 24)

    def lost(network):
        both = [[values(g, f, *g.outputs)[0] for g in (task.origin.graph, network.graph)] for f in batches]
        return sum(float(np.square(a - b).sum()) for a, b in both)

    through, _ = fold(task, batches)
    monkeypatch.setattr(sequential, "refitted", lambda found, *_, **__: found)
    alone, _ = fold(task, batches)
    assert lost(through) < 0.97 * lost(alone) < lost(task.network)


# ---------------------------------------------------------------- shortcuts


def residual(n):
    """Blocks of convolutions."""
    x = n.conv(n.Relu(n.conv(out=4 * n.C)), n.C)
    for _ in range(2):
        inner = n.Relu(n.conv(x, 4 * n.C, kernel=(3, 3), pads=[1, 1, 1, 1]))
        x = n.Relu(n.Add(n.conv(inner, n.C), x))
    n.output(n.conv(x, 5))
    return operated(n.finished())


def drifting(n):
    """A convolution, its sum with one that can't be fitted as a node makes its weight, and that one."""
    h, turned = n.Relu(n.conv(out=4 * n.C)), n.Transpose(n.weight(4 * n.C, 1, 1, 1), perm=[1, 0, 2, 3])
    x, y = n.Conv(h, turned), n.conv(h, 1)
    total = n.Add(y, x)
    n.output(n.conv(total, 5, kernel=(3, 3), pads=[1, 1, 1, 1]))
    return y, total, x


def test_a_shortcut_that_drifts_is_made_up_for(monkeypatch):
    n = Net("drift")
    y, total, x = drifting(n)
    task, batches = Task.of(operated(n.finished())), samples(n, 24)
    whole, cut = task.origin.graph, task.network.graph
    repaired, lines = fold(task, batches)
    (line,) = (line for line in lines if line.node == whole.producer[y].name)

    columns = Columns(cut, y, 1)
    (read,) = (layer.data for layer in fitted_layers(task) if layer.output == y)
    seen = [values(cut, f, read, x) for f in batches]
    wanted = np.concatenate([values(whole, f, total)[0] for f in batches])
    wanted -= np.concatenate([now for _, now in seen])
    patches = np.concatenate([columns.of(data) for data, _ in seen], 1)
    start = cut.array(columns.name).astype(np.float64).ravel()
    every = np.ones((start.size, 1), bool)
    weights, _ = least_squares(patches, every, wanted, start, 1, line.penalty)
    found = repaired.graph.array(columns.name).ravel()
    np.testing.assert_allclose(found, weights, atol=2e-4 * np.abs(weights).max())

    judge = Judge(whole, samples(n, 8, seed=3))
    monkeypatch.setattr(targets, "shortcut", lambda *_: None)
    without, _ = fold(task, batches)
    assert judge.loss(repaired.graph) < 0.5 * judge.loss(without.graph) < judge.loss(cut)


def found_shortcuts(task):
    found = {layer.output: layer for layer in fitted_layers(task)}
    return {key: shortcut(task, layer, found) for key, layer in found.items()}


def test_only_the_later_branch_has_a_shortcut():
    task = Task.of(residual(Net("later")))
    graph = task.origin.graph
    sums = {s.sum: s for s in found_shortcuts(task).values() if s is not None}
    assert sorted(sums) == sorted(node.outputs[0] for node in graph.nodes if node.op == "Add")
    for name, s in sums.items():
        assert graph.producer[s.first].op == "Conv"
        assert {s.first, s.other(graph)} == set(graph.producer[name].inputs)


def test_a_shortcut_behind_the_bias_of_a_product():
    n = Net("transformer")
    x = n.dense(n.Relu(n.dense(out=4 * n.C)))
    product = n.MatMul(n.Relu(n.dense(x, 4 * n.C)), n.weight(4 * n.C, n.C))
    biased = n.Add(product, n.weight(n.C))
    total = n.Add(x, biased)
    n.output(n.dense(n.Relu(total), 5))
    task = Task.of(operated(n.finished()))
    assert found_shortcuts(task)[product] == Shortcut(total, biased)
    batches = samples(n, 24)
    judge = Judge(task.origin.graph, samples(n, 8, seed=3))
    repaired, _ = fold(task, batches)
    assert judge.loss(repaired.graph) < 0.5 * judge.loss(task.network.graph)


@pytest.mark.parametrize(
    "join",
    [
        lambda n, y, x: n.Add(y, n.GlobalAveragePool(x)),
        lambda n, y, x: n.Add(y, y),
        lambda n, y, x: n.Add(n.Relu(y), x),
        lambda n, y, x: n.Concat(n.Add(y, x), y, axis=1),
        lambda n, y, x: n.Sub(y, x),
        lambda n, y, x: n.Add(y, n.Abs(n.weight(n.B, n.C, n.H, n.W))),
    ],
)
def test_what_is_no_shortcut(join):
    n = Net("none")
    x = n.conv(n.Relu(n.conv(out=4 * n.C)), n.C)
    y = n.conv(n.Relu(n.conv(x, 4 * n.C)), n.C)
    n.output(n.conv(join(n, y, x), 5))
    assert found_shortcuts(Task.of(operated(n.finished()))).get(y) is None
