"""Pruned small networks for tests of repair, and regressions that know nothing of how operators work.

A linear node is linear in its weight, too: what it gives for a weight of zeros with a single one is a column
of the least-squares problem. So ONNX Runtime itself says what a patch is, whatever the operator is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from nets import Net, run
from onnx import helper

from onnxprune import samples as sources
from onnxprune.contracts.cut import without
from onnxprune.contracts.groups import Choice, Group
from onnxprune.contracts.maker import Candidate
from onnxprune.contracts.reduction import Cut, Reduction
from onnxprune.contracts.selection import keep_best
from onnxprune.contracts.stats import Stats
from onnxprune.contracts.traces import Unchanged
from onnxprune.execution.expectation import normals
from onnxprune.graph import Graph, Network
from onnxprune.pipeline import Evidence, Loaded, Options
from onnxprune.pipeline.maker import CandidateMaker
from onnxprune.reductions.channels import Channels
from onnxprune.runtime import Session

Feeds = dict[str, np.ndarray]


def thinned(
    model: onnx.ModelProto, reduction: Reduction, *, share: float = 0.5, of: Sequence[str] = ()
) -> Cut:
    """Take a share of single values or kernels at random: of all layers, or of those that make `of`."""
    network = Network(Graph(model))
    space = reduction.find(network)
    random = np.random.default_rng(0)
    kept = {
        group.id: random.random(group.size) < 1 - share
        for group in space.groups
        if not of or set(of) & set(group.layers)
    }
    return without(network, [space], Choice(kept))


def operated(
    model: onnx.ModelProto, *, share: float = 0.5, choose: Callable[[Group], np.ndarray] | None = None
) -> Cut:
    """Remove about a share of every group at random, or what `choose` doesn't keep."""
    network = Network(Graph(model))
    space = Channels().find(network)
    random = np.random.default_rng(0)
    kept = {}
    for group in space.groups:
        scores = random.random(group.size)
        keep = max(1, round((1 - share) * group.size))
        kept[group.id] = keep_best(group, scores, keep) if choose is None else choose(group)
    return without(network, [space], Choice(kept))


JUDGES = 4
"""Batches to judge on where no others than those of the fit are given."""


def repaired(
    cut: Cut,
    mode: str = "auto",
    batches: Sequence[Feeds] = (),
    held: Sequence[Feeds] = (),
    *,
    stats: Stats | None = None,
    seed: int = 0,
) -> Candidate:
    """What a run makes of a cut, with samples to fit to, and others to judge on; or with statistics alone."""
    graph = cut.base.graph
    evidence = Evidence(stats=stats)
    if batches:
        given = (sources.load(list(some), graph) for some in (batches, held or batches[:JUDGES]))
        evidence = Evidence(*given)
    loaded = Loaded(cut.base, cut.base, (), normals(graph))
    size = len(next(iter(batches[0].values()))) if batches else 1
    options = Options(repair=mode, seed=seed, batch=size)
    find = Channels().find
    making = CandidateMaker(
        loaded, cut.base, Unchanged(), cut.spaces, find, evidence, options, lambda _: None
    )
    return making.candidate(cut.choice)


def samples(net: Net, batches: int = 4, seed: int = 1) -> list[Feeds]:
    """Random inputs like those that the network was built with."""
    random = np.random.default_rng(seed)
    return [
        {k: random.standard_normal(v.shape).astype(v.dtype) for k, v in net.feeds()[0].items()}
        for _ in range(batches)
    ]


def values(graph: Graph, feeds: Feeds, *names: str) -> list[np.ndarray]:
    """Tensors of a graph, by ONNX Runtime as the graph is written."""
    tapped = graph.tapped(names)
    found = dict(zip(tapped.outputs, run(tapped.model, feeds), strict=True))
    return [found[name] for name in names]


class Columns:
    """What a node gives for each single weight: the columns of a regression.

    Args:
        graph: the graph that the node is in.
        key: its first output.
        weight: which of its inputs is the weight.
    """

    def __init__(self, graph: Graph, key: str, weight: int) -> None:
        self.node = graph.producer[key]
        self.name = self.node.inputs[weight]
        self.shape = graph.shape_of_constant(self.name)
        proto = onnx.NodeProto.FromString(graph.model.graph.node[self.node.index].SerializeToString())
        del proto.input[2:]
        data = self.node.inputs[1 - weight]
        inputs = [
            onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in (data, self.name)
        ]
        body = helper.make_graph([proto], "one", inputs, [onnx.ValueInfoProto(name=key)])
        model = helper.make_model(body, opset_imports=graph.model.opset_import, ir_version=8)
        self._session = Session(model.SerializeToString())
        self._data = data

    def of(self, x: np.ndarray) -> np.ndarray:
        """float64 (weights, *output)."""
        units = np.eye(int(np.prod(self.shape)), dtype=np.float32).reshape(-1, *self.shape)
        found = [self._session.run({self._data: x, self.name: u})[self.node.outputs[0]] for u in units]
        return np.asarray(found, np.float64)


def by_output(columns: np.ndarray, axis: int) -> np.ndarray:
    """(weights, outputs, rows) from (weights, *output)."""
    moved = np.moveaxis(columns, axis + 1 if axis >= 0 else axis, 1)
    return moved.reshape(*moved.shape[:2], -1)


def least_squares(
    columns: np.ndarray,
    mine: np.ndarray,
    targets: np.ndarray,
    start: np.ndarray,
    axis: int,
    penalty: float,
    *,
    bias: bool = True,
    support: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of least squares, pulled towards `start`.

    Args:
        columns: (weights, *output).
        mine: (weights, outputs), which weights each output has.
        targets: (*output).
        start: (weights,).
        axis: of the outputs that have a bias each.
        penalty: relative to the mean variance of what is read.
        bias: whether there is one.
        support: (weights,), which of them may be other than zero.
    """
    y = np.moveaxis(targets, axis, 0).reshape(targets.shape[axis], -1)
    x = by_output(columns, axis)
    rows = y.shape[1]
    variances = [
        np.var(x[w, o]) if bias else np.mean(x[w, o] ** 2)
        for o in range(len(y))
        for w in np.flatnonzero(mine[:, o])
    ]
    ridge = np.sqrt(penalty * np.mean(variances) * rows)
    new, intercepts = start.copy(), np.zeros(len(y))
    for o in range(len(y)):
        own = np.flatnonzero(mine[:, o] if support is None else mine[:, o] & support)
        a = np.concatenate([x[own, o].T, np.ones((rows, int(bias)))], 1)
        pull = np.concatenate([ridge * np.eye(len(own)), np.zeros((len(own), int(bias)))], 1)
        right = np.concatenate([y[o], ridge * start[own]])
        found = np.linalg.lstsq(np.concatenate([a, pull]), right, rcond=None)[0]
        new[own] = found[: len(own)]
        intercepts[o] = found[-1] if bias else 0
    return new, intercepts
