"""Layers refitted from Gram matrices: what is gone is predicted from what stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from calibration import gathered
from nets import Dims, Net

from onnxprune.contracts.cut import without
from onnxprune.contracts.groups import Choice
from onnxprune.contracts.reduction import Space
from onnxprune.contracts.stats import Stats
from onnxprune.graph import Graph, Network
from onnxprune.ops.layers import LINEAR
from onnxprune.proof import prove
from onnxprune.reductions.channels import Channels
from onnxprune.reductions.weights import Kernels, Weights
from onnxprune.repair import Task, attempts, predicted
from onnxprune.repair.projection import RIDGE, projected
from onnxprune.runtime import Session

SQUARE, PRIMES = Dims(2, 6, 6, 6), Dims(2, 7, 5, 3)


def redundant(n: Net, x: str, axis: int, constant: float = 1.0) -> str:
    """Channels of which the second half are mixtures of the first, plus a constant."""
    half = np.linalg.qr(n.weight(4, 4))[0]
    b = constant * (n.weight(4) + 1)
    if axis == 1:
        w = n.weight(4, n.shape(x)[1])
        first, second = w, half @ w
        return str(
            n.Conv(
                x, np.concatenate([first, second])[..., None, None], np.r_[np.zeros(4), b].astype(np.float32)
            )
        )
    w = n.weight(n.shape(x)[-1], 4)
    return str(n.Add(n.MatMul(x, np.concatenate([w, w @ half], 1)), np.r_[np.zeros(4), b].astype(np.float32)))


def image(n: Net) -> str:
    return redundant(n, n.input("batch", 5, n.H, n.W), 1)


def tokens(n: Net, constant: float = 1.0) -> str:
    return redundant(n, n.input("batch", n.H, 5), -1, constant)


CONSUMERS: dict[str, Callable[[Net], str]] = {
    "conv": lambda n: n.conv(image(n), 6),
    "conv without bias": lambda n: n.Conv(image(n), n.weight(6, 8, 1, 1)),
    "conv 3x3": lambda n: n.conv(image(n), 6, (3, 3)),
    "strided": lambda n: n.conv(image(n), 6, strides=[2, 2]),
    "transposed": lambda n: n.ConvTranspose(image(n), n.weight(8, 6, 1, 1), n.weight(6)),
    "matmul, which has no place for a bias": lambda n: n.MatMul(tokens(n, 0.0), n.weight(8, 6)),
    "matmul and add": lambda n: n.dense(tokens(n), 6),
    "gemm": lambda n: n.gemm(n.Reshape(tokens(n), [-1, 8]), 6),
    "gemm times alpha": lambda n: n.Gemm(
        n.Reshape(tokens(n), [-1, 8]), n.weight(8, 6), n.weight(6), alpha=0.5, beta=2.0
    ),
}


class Case:
    """A network, samples, and what was gathered on them."""

    def __init__(self, kind: str, build: Callable[[Net], str], dims: Dims, count: int = 500) -> None:
        n = Net(kind, dims=dims)
        n.output(build(n))
        self.graph = Graph(n.finished())
        self.network = Network(self.graph)
        (x,) = self.graph.inputs
        shape = (count, *self.network.facts.shapes[x][1:])
        self.feeds = {x: np.random.default_rng(1).standard_normal(shape).astype(np.float32)}

    def stats(self, space: Space) -> Stats:
        return gathered(space, {"consumers"}, [self.feeds], positions=0)

    def masked(self, space: Space, choice: Choice) -> Network:
        return space.mask(self.network, choice)

    def repaired(self, space: Space, choice: Choice) -> Network:
        reference = self.masked(space, choice)
        return predicted(reference, space.lost(choice), self.graph, self.stats(space))

    def output(self, graph: Graph, *names: str) -> np.ndarray:
        found = Session(graph.tapped(names).serialized()).run(self.feeds, names or graph.outputs)
        return next(iter(found.values()))

    def error(self, other: Network) -> float:
        a, b = self.output(self.graph), self.output(other.graph)
        return float(np.square(a - b).mean() / a.var())


def chosen(space: Space) -> Choice:
    """Half of the channels between both layers; or two of 8 kernels, or values, of each output and tap."""
    layers = [node.outputs[0] for node in space.network.graph.nodes if node.op in LINEAR]
    name = layers[0 if space.reduction == "channels" else -1]
    group = next(g for g in space.groups if name in g.layers)
    random = np.random.default_rng(3)
    if space.reduction == "channels":
        return Choice({group.id: np.arange(group.size) < 4})
    outputs, inputs, taps = space.weight(group).shape
    taps = taps if space.reduction == "weights" else 1
    stays = np.ones((outputs, inputs, taps), bool)
    for o in range(outputs):
        for t in range(taps):
            stays[o, random.choice(inputs, 2, replace=False), t] = False
    return Choice({group.id: stays.ravel()})


REDUCTIONS = {"channels": Channels(), "weights": Weights(), "kernels": Kernels()}
CONVOLUTIONS = {"conv", "conv without bias", "conv 3x3", "strided"}
ROWS = [
    (kind, name) for kind in CONSUMERS for name in REDUCTIONS if name != "kernels" or kind in CONVOLUTIONS
]


OTHERS: dict[str, Callable[[Net], str]] = {
    "groups": lambda n: n.conv(image(n), 6, (3, 2), group=2),
    "transposed in groups": lambda n: n.ConvTranspose(
        image(n), n.weight(8, 3, 2, 3), n.weight(6), group=2, strides=[2, 1]
    ),
    "recurrent": lambda n: n.LSTM(
        tokens(n), n.weight(1, 20, 8), n.weight(1, 20, 5), n.weight(1, 40), hidden_size=5
    ),
}


@pytest.mark.parametrize("dims", [PRIMES, SQUARE], ids=["primes", "square"])
@pytest.mark.parametrize(("kind", "reduction"), ROWS)
def test_what_can_be_predicted_is_restored(kind: str, reduction: str, dims: Dims) -> None:
    case = Case(kind, CONSUMERS[kind], dims)
    before = case.graph.serialized()
    space = REDUCTIONS[reduction].find(case.network)
    choice = chosen(space)
    reference = case.masked(space, choice)
    repaired = case.repaired(space, choice)
    assert case.error(reference) > 0.03
    assert case.error(repaired) < 2e-3
    assert case.graph.serialized() == before


@pytest.mark.parametrize("kind", ["conv", "conv without bias", "transposed", "matmul and add", "gemm"])
def test_the_mean_of_what_is_predicted_is_not_counted_twice(kind: str) -> None:
    """Where what stays has a mean, a part of what is missing on average is predicted already."""
    case = Case(kind, CONSUMERS[kind], PRIMES)
    for name in case.feeds:
        case.feeds[name] += 3
    space = Channels().find(case.network)
    choice = chosen(space)
    assert case.error(case.masked(space, choice)) > 0.03
    assert case.error(case.repaired(space, choice)) < 2e-3


@pytest.mark.parametrize("reduction", ["channels", "weights"])
def test_what_is_always_zero_predicts_nothing(reduction: str) -> None:
    """What stays says nothing of what is gone: only that is made up for which is missing on average."""

    def silent(n: Net) -> str:
        w = n.weight(8, 5, 1, 1)
        w[:4] = 0
        return n.conv(n.Relu(n.Conv(n.input("batch", 5, n.H, n.W), w)), 6)

    case = Case("silent", silent, PRIMES)
    space = REDUCTIONS[reduction].find(case.network)
    group = next(g for g in space.groups if g.size == (8 if reduction == "channels" else 48))
    stays = np.arange(8) < 4
    choice = Choice({group.id: stays if reduction == "channels" else np.tile(stays, 6)})
    before, after = case.masked(space, choice), case.repaired(space, choice)
    wanted, was, found = (case.output(g) for g in (case.graph, before.graph, after.graph))
    assert np.ptp(found, axis=(0, 2, 3)).max() < 1e-6, "as without it, but for the bias"
    np.testing.assert_allclose(found.mean((0, 2, 3)), wanted.mean((0, 2, 3)), atol=1e-4)
    assert np.abs(was.mean((0, 2, 3)) - wanted.mean((0, 2, 3))).max() > 0.1


@pytest.mark.parametrize(("kind", "reduction"), [*ROWS, *((kind, "weights") for kind in OTHERS)])
def test_a_cut_is_repaired_as_its_reference_is(kind: str, reduction: str) -> None:
    """Both are told what is missing in terms of the uncut network."""
    case = Case(kind, (CONSUMERS | OTHERS)[kind], PRIMES, 50)
    space = REDUCTIONS[reduction].find(case.network)
    choice = chosen(space)
    cut = without(case.network, [space], choice)
    repaired, unknown = projected(Task.of(cut), case.stats(space))
    assert unknown == 0
    expected, found = (case.output(n.graph) for n in (case.repaired(space, choice), repaired))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert np.abs(case.output(cut.network.graph) - expected).max() > 0.01 * np.abs(expected).max()


EVERYWHERE = {"conv 3x3", "strided"}
"""Statistics are of all positions, and these read some more often than others."""


@pytest.mark.parametrize(("kind", "reduction"), ROWS)
def test_biases_alone_make_up_for_means(kind: str, reduction: str) -> None:
    """Weights stay as the cut has them."""
    case = Case(kind, CONSUMERS[kind], PRIMES)
    space = REDUCTIONS[reduction].find(case.network)
    cut = without(case.network, [space], chosen(space))
    repaired, _ = projected(Task.of(cut), case.stats(space), weights=False)
    for node in cut.network.graph.nodes:
        for name in node.inputs[1:2] if node.op in LINEAR else ():
            np.testing.assert_allclose(repaired.graph.array(name), cut.network.graph.array(name), rtol=1e-6)
    axis = 1 if kind in (*CONVOLUTIONS, "transposed") else -1

    def off(network: Network) -> float:
        difference = case.output(network.graph) - case.output(case.graph)
        return float(np.abs(np.moveaxis(difference, axis, 0).reshape(6, -1).mean(1)).max())

    before = off(cut.network)
    if "no place" not in kind:
        assert before > 1e-2
        assert off(repaired) < (0.1 * before if kind in EVERYWHERE else 1e-4)
    else:
        assert off(repaired) == before


@pytest.mark.parametrize("kind", [*CONSUMERS, *OTHERS])
def test_single_values_are_those_of_dense_systems(kind: str) -> None:
    """Each output and tap for itself: least squares with a ridge, on its own entries of what is read."""
    case = Case(kind, (CONSUMERS | OTHERS)[kind], PRIMES, 50)
    space = Weights().find(case.network)
    choice = chosen(space)
    (sparse,) = space.lost(choice)
    layer, (tensor, axis) = sparse.layer, sparse.activation
    x = np.moveaxis(case.output(case.graph, tensor).astype(np.float64), axis, -1).reshape(-1, 8)
    biased = kind != "matmul, which has no place for a bias"
    c = np.cov(x.T, bias=True) if biased else x.T @ x / len(x)
    array = case.graph.array(layer.weight).astype(np.float64)
    new = case.repaired(space, choice).graph
    found = new.array(new.producer[layer.output].inputs[layer.input])
    assert (found[~sparse.support] == 0).all()

    def split(weight: np.ndarray) -> np.ndarray:
        """(groups, outputs, inputs, taps)"""
        matrix = layer.layout.matrix(weight.astype(np.float64))
        return matrix.reshape(*matrix.shape[:2], -1, layer.layout.taps)

    w, w2, s = split(array), split(found), split(sparse.support) != 0
    width = w.shape[2]
    for g in range(len(w)):
        own = c[g * width : (g + 1) * width, g * width : (g + 1) * width]
        ridge = (RIDGE + len(c) / len(x)) * np.trace(own) / width
        for o in range(w.shape[1]):
            for t in range(w.shape[3]):
                on = s[g, o, :, t]
                gone = np.where(on, 0, w[g, o, :, t])
                system = own[np.ix_(on, on)] + ridge * np.eye(on.sum())
                expected = w[g, o, on, t] + np.linalg.solve(system, (own @ gone)[on])
                np.testing.assert_allclose(w2[g, o, on, t], expected, rtol=1e-3, atol=1e-4)


def test_layers_that_statistics_do_not_tell_of_are_counted_and_the_others_repaired() -> None:
    def chain(n: Net) -> str:
        x = n.input("batch", 5, n.H, n.W)
        for _ in range(3):
            x = n.Relu(n.conv(x, 8))
        return n.conv(x, 6)

    case = Case("chain", chain, PRIMES, 50)
    space = Channels().find(case.network)
    choice = Choice({g.id: np.arange(8) % 2 == 0 for g in space.groups})
    cut, stats = without(case.network, [space], choice), case.stats(space)
    consumers = [lost.consumer for lost in cut.lost]
    assert len(consumers) == 3

    def weight(network: Network, output: str) -> np.ndarray:
        return network.graph.array(network.graph.producer[output].inputs[1])

    for left_out in (consumers[:1], consumers[1:], consumers):
        moments = {k: v for k, v in stats.moments.items() if k not in {c.activation for c in left_out}}
        repaired, unknown = projected(Task.of(cut), replace(stats, moments=moments))
        assert unknown == len(left_out)
        for consumer in consumers:
            same = np.array_equal(weight(repaired, consumer.output), weight(cut.network, consumer.output))
            assert same == (consumer in left_out)


@pytest.mark.parametrize(("unknown", "said"), [(0, ()), (1, "1 layer unchanged"), (2, "2 layers unchanged")])
def test_how_many_layers_stay_unchanged_is_said(unknown: int, said: str, monkeypatch) -> None:
    case = Case("said", CONSUMERS["conv"], PRIMES, 10)
    space = Channels().find(case.network)
    task = Task.of(without(case.network, [space], chosen(space)))
    monkeypatch.setattr(attempts, "projected", lambda task, *_, **__: (task.network, unknown))
    found = attempts.from_statistics(task, "auto", case.stats(space), lambda network: network)
    assert found.mode == "stats"
    assert (f"repair leaves {said}" in found.notes[0]) if said else found.notes == ()
    assert attempts.from_statistics(task, "bias", case.stats(space), lambda network: network).mode == "bias"


def test_a_stack_of_matrices_has_no_bias() -> None:
    """Each token is multiplied by a matrix of its own: what is missing is not one vector."""

    def stack(n: Net) -> str:
        return n.Tanh(n.MatMul(n.Unsqueeze(tokens(n, 0.0), [2]), n.weight(n.H, 8, 6)))

    case = Case("stack", stack, PRIMES)
    space = Channels().find(case.network)
    choice = chosen(space)
    repaired = case.repaired(space, choice)
    assert case.error(repaired) < 0.1 * case.error(case.masked(space, choice))
    assert repaired.graph.operators()["Add"] == case.graph.operators()["Add"]


def test_kernels_and_channels_that_go_together() -> None:
    """A layer that loses both is one system: what is left of it makes up for both."""
    case = Case("both", lambda n: n.conv(n.Relu(n.conv(image(n), 8)), 6, (3, 3)), PRIMES, 50)
    kernels, channels = Kernels().find(case.network), Channels().find(case.network)
    last = next(g for g in kernels.groups if case.graph.outputs[0] in g.layers)
    hidden = channels.groups[-1]
    read = np.random.default_rng(0).random((6, 8)) < 0.7
    choice = Choice({last.id: read.ravel(), hidden.id: ~np.isin(np.arange(8), [2, 5])})
    cut = without(case.network, [kernels, channels], choice)
    assert prove(cut, case.feeds).exact
    stats = case.stats(channels)
    repaired, unknown = projected(Task.of(cut), stats)
    assert unknown == 0
    reference = channels.mask(kernels.mask(case.network, choice), choice)
    expected = case.output(predicted(reference, list(cut.lost), case.graph, stats).graph)
    np.testing.assert_allclose(
        case.output(repaired.graph), expected, rtol=0, atol=2e-5 * np.abs(expected).max()
    )
    assert case.error(repaired) < 0.5 * case.error(cut.network)
    weight = repaired.graph.array(repaired.graph.producer[case.graph.outputs[0]].inputs[1])
    left = read[:, ~np.isin(np.arange(8), [2, 5])]
    np.testing.assert_array_equal((weight != 0).any((2, 3)), left)


def test_groups_of_a_convolution_do_not_predict_each_other() -> None:
    case = Case("lanes", lambda n: n.conv(image(n), 6, group=2), SQUARE, 50)
    space = Channels().find(case.network)
    choice, alone = (Choice({space.groups[0].id: ~np.isin(np.arange(8), gone)}) for gone in ([1, 5], [1]))
    repaired = case.repaired(space, choice).graph
    graph = case.graph
    first = case.repaired(space, alone).graph
    lane, same = (g.array(g.producer[graph.outputs[0]].inputs[1])[:3] for g in (first, repaired))
    np.testing.assert_allclose(lane, same, atol=0.02 * np.abs(lane).max())
    weight = repaired.array(repaired.producer[graph.outputs[0]].inputs[1])
    original = graph.array(graph.producer[graph.outputs[0]].inputs[1])
    assert (weight[:, 1] == 0).all()  # the place within each lane
    assert not np.allclose(weight[:, [0, 2, 3]], original[:, [0, 2, 3]])
