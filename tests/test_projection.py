"""Consumers refitted from Gram matrices: what is gone is predicted from what stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from nets import Dims, Net

from onnxprune.calibration.places import requests
from onnxprune.calibration.run import measure
from onnxprune.graph import Graph, infer
from onnxprune.reductions.channels.find import analyze
from onnxprune.reductions.channels.mask import masked
from onnxprune.repair import projected
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


@pytest.mark.parametrize("dims", [PRIMES, SQUARE], ids=["primes", "square"])
@pytest.mark.parametrize("kind", CONSUMERS)
def test_what_can_be_predicted_is_restored(kind: str, dims: Dims) -> None:
    n = Net(kind, dims=dims)
    n.output(CONSUMERS[kind](n))
    graph = Graph(n.finished())
    facts = infer(graph)
    analysis = analyze(graph, facts)
    (group,) = analysis.groups
    assert group.size == 8
    kept = np.ones(analysis.count, bool)
    kept[group.units[4:]] = False
    x = graph.inputs[0]
    shape = (500, *facts.shapes[x][1:])
    batches = [{x: np.random.default_rng(1).standard_normal(shape).astype(np.float32)}]
    stats = measure(graph, requests(graph, facts, analysis, frozenset({"consumers"}), 0), batches)
    reference = masked(graph, facts, analysis, kept)
    repaired = projected(reference, graph, analysis, stats, group, kept)

    def error(other: Graph) -> float:
        feeds = batches[0]
        a, b = (next(iter(Session(g.serialized()).run(feeds).values())) for g in (graph, other))
        return float(np.square(a - b).mean() / a.var())

    assert error(reference) > 0.03
    assert error(repaired) < 2e-3
    assert graph.serialized() == Graph(n.finished()).serialized()


def test_groups_of_a_convolution_do_not_predict_each_other() -> None:
    n = Net("lanes", dims=SQUARE)
    n.output(n.conv(image(n), 6, group=2))
    graph = Graph(n.finished())
    facts = infer(graph)
    analysis = analyze(graph, facts)
    group = analysis.groups[0]
    kept = np.ones(analysis.count, bool)
    kept[group.units[[1, 5]]] = False
    x = graph.inputs[0]
    shape = (50, *facts.shapes[x][1:])
    batches = [{x: np.random.default_rng(1).standard_normal(shape).astype(np.float32)}]
    stats = measure(graph, requests(graph, facts, analysis, frozenset({"consumers"}), 0), batches)
    repaired = projected(masked(graph, facts, analysis, kept), graph, analysis, stats, group, kept)
    weight = repaired.array(repaired.producer[graph.outputs[0]].inputs[1])
    original = graph.array(graph.producer[graph.outputs[0]].inputs[1])
    assert (weight[:, 1] == 0).all()  # the place within each lane
    assert not np.allclose(weight[:, [0, 2, 3]], original[:, [0, 2, 3]])
