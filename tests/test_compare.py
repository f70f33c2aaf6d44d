"""How far arrays are apart, and what rounding explains."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from nets import Net

from onnxprune.contracts.cut import without
from onnxprune.contracts.groups import Choice
from onnxprune.errors import ProofFailed
from onnxprune.execution.sessions import open_session
from onnxprune.graph import Edits, Graph, Network
from onnxprune.proof import parts, prove, same
from onnxprune.proof.compare import allowed, is_comparable, relative_error
from onnxprune.reductions.channels import Channels

INF, NAN = np.inf, np.nan


def f32(*values) -> np.ndarray:
    return np.asarray(values, np.float32)


@pytest.mark.parametrize(
    ("expected", "actual", "error"),
    [
        (f32(1, 2, 4), f32(1, 2, 4), 0.0),
        (f32(1, 2, 4), f32(1, 3, 4), 0.25),
        (f32(1, 2, -4), f32(1, 2, -5), 0.25),
        (f32(0, 0), f32(0, 0.5), 0.5),
        (f32(0.5, 0), f32(0.5, 0.25), 0.5),
        (f32(), f32(), 0.0),
        (f32(1, INF), f32(1.5, INF), 0.5),
        (f32(1, INF), f32(1, 1), INF),
        (f32(1, 1), f32(1, NAN), INF),
        (f32(NAN, NAN), f32(NAN, NAN), 0.0),
        (f32(1, 2), f32(1), INF),
        (f32(1, 2), f32(1, 2)[None], INF),
        (f32(1), f32(1, 1), INF),
        (np.asarray([1.0]), f32(1), INF),
        (f32(1), np.asarray([1.0]), INF),
        (np.asarray([0, 100], np.uint8), np.asarray([50, 100], np.uint8), 0.5),
        (np.asarray([True, False]), np.asarray([True, True]), 1.0),
    ],
)
def test_errors_are_relative_to_the_largest(expected, actual, error):
    assert relative_error(expected, actual) == pytest.approx(error)


def test_a_small_magnitude_counts_for_the_least():
    assert relative_error(f32(0.1), f32(0.2)) == pytest.approx(1)
    assert relative_error(f32(0.1), f32(0.2), least=0.5) == pytest.approx(0.2)
    assert relative_error(f32(1), f32(2), least=0.5) == pytest.approx(1)


@pytest.mark.parametrize(
    ("dtype", "units"),
    [("float64", 1e4), ("float32", 200), ("float16", 25), (ml_dtypes.bfloat16, 30)],
)
def test_rounding_explains_some_units_in_the_last_place(dtype, units):
    """More than sums in another order differ by, and far less than what a wrong layer gives."""
    eps = float(ml_dtypes.finfo(dtype).eps)
    assert units * eps / 4 < allowed(np.dtype(dtype)) < units * eps


def test_integers_must_agree():
    for dtype in (np.int8, np.uint8, np.int64, bool):
        assert allowed(np.dtype(dtype)) < 1 / 255


@pytest.mark.parametrize(
    ("dtype", "is_one"), [(np.float32, True), (np.int8, True), (np.uint8, True), (bool, True)]
)
def test_numbers_are_compared(dtype, is_one):
    assert is_comparable(np.zeros(2, dtype)) is is_one
    assert is_comparable(np.zeros(2, ml_dtypes.bfloat16))
    assert not is_comparable(np.asarray(["a", "b"], object))


# ---------------------------------------------------------------- part by part


def cut_of(n: Net):
    network = Network(Graph(n.finished()))
    space = Channels().find(network)
    choice = Choice({g.id: np.arange(g.size) % 2 == 0 for g in space.groups})
    return space.mask(network, choice), without(network, [space], choice)


@pytest.mark.parametrize(("share", "equal"), [(0.0, True), (1.0, True), (1.001, False), (1.9, False)])
def test_a_part_is_equal_as_far_as_rounding_explains(share, equal, monkeypatch):
    n = Net("parts")
    n.read(n.Relu(n.conv(n.Relu(n.conv(out=8)), 8)))
    reference, cut = cut_of(n)
    monkeypatch.setattr(parts, "_error", lambda *_: (0.25, share))
    found = parts.by_parts(reference.graph, cut.base, cut.network.graph, cut.trace, n.feeds()[0])
    assert found.equal is equal
    assert (found.error, found.excess) == (0.25, share)
    assert bool(found.where) is not equal, "the node alone that gives something else"


def test_parts_of_a_right_cut_are_equal_and_all_are_compared():
    n = Net("all parts")
    x = n.Relu(n.conv(out=8))
    n.read(n.Add(n.conv(x, 8), x))
    reference, cut = cut_of(n)
    found = parts.by_parts(reference.graph, cut.base, cut.network.graph, cut.trace, n.feeds()[0])
    assert found.equal
    assert found.tensors == 2, "the output, and the layer that lost something"
    assert found.error < 1e-5


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_node_that_is_wrong_is_found_by_halving(which):
    n = Net("halving")
    n.read(n.Relu(n.conv(n.Relu(n.conv(out=8)), 8)))
    reference, cut = cut_of(n)
    graph = cut.network.graph
    node = [node for node in graph.nodes if node.op == "Conv"][which]
    wrong = graph.edited(Edits(constants={node.inputs[1]: graph.array(node.inputs[1]) * np.float32(1.01)}))
    found = parts.by_parts(reference.graph, cut.base, wrong, cut.trace, n.feeds()[0])
    assert not found.equal
    assert found.where == str(node)
    assert found.excess == pytest.approx(found.error / 2e-5)


def test_layers_that_lost_something_are_compared_where_outputs_hide_them():
    """What is behind the layer is zero whatever it gives."""
    n = Net("hidden")
    y = n.conv(n.Relu(n.conv(out=8)), 6)
    n.read(n.Relu(n.Add(y, np.float32(-100))))
    _, cut = cut_of(n)
    assert y in cut.trace.compared
    compared = prove(cut, n.feeds()[0]).compared
    assert compared.tensors >= 2
    assert compared.excess < 0.5, "far less than what rounding may explain"
    graph = cut.network.graph
    name = graph.producer[y].inputs[1]
    wrong = cut.network.edited(Edits(constants={name: graph.array(name) * np.float32(1.01)}))
    with pytest.raises(ProofFailed, match=f"{graph.producer[y]} differs"):
        prove(replace(cut, network=wrong), n.feeds()[0])


def normalised() -> tuple[Net, Network, Channels]:
    n = Net("normalised channels")
    y = n.dense(n.Relu(n.dense(n.input(n.B, n.H, 3), 8)), 8)
    n.output(n.MatMul(n.LayerNormalization(y, n.positive(8), n.weight(8)), n.weight(8, 6)))
    return n, Network(Graph(n.finished())), Channels("auto", True)


def test_groups_that_a_normalisation_runs_over_are_left_out_and_named():
    n, network, reduction = normalised()
    space = reduction.find(network)
    loose = [g for g in space.groups if g.approximate]
    others = [g for g in space.groups if not g.approximate]
    assert len(loose) == len(others) == 1
    choice = Choice({g.id: np.arange(8) % 2 == 0 for g in space.groups})
    proved = prove(without(network, [space], choice), n.feeds()[0])
    assert not proved.exact
    assert proved.approximate == (loose[0].name,)
    assert proved.covered == {others[0].id}
    assert proved.compared.tensors
    alone = prove(without(network, [space], choice.among(loose)), n.feeds()[0])
    assert (alone.covered, alone.compared.tensors) == (frozenset(), 0), "there is nothing to compare"


# ---------------------------------------------------------------- rewritten graphs


def net() -> tuple[Graph, dict]:
    n = Net("rewritten")
    x = n.Relu(n.conv(out=6))
    n.output(n.Softmax(n.Flatten(n.GlobalAveragePool(n.conv(x, 5))), axis=1))
    n.output(n.conv(x, 4))
    return Graph(n.finished()), n.feeds()[0]


def with_weight(graph: Graph, which: int, factor: float) -> Graph:
    name = [node.inputs[1] for node in graph.nodes if node.op == "Conv"][which]
    return graph.edited(Edits(constants={name: graph.array(name) * np.float32(factor)}))


def test_a_graph_is_the_same_as_itself():
    graph, feeds = net()
    found = same(graph, graph, feeds)
    assert found.equal
    assert found.tensors == 3, "two outputs, and what the Softmax squashes"
    assert found.error == found.excess == 0


@pytest.mark.parametrize("which", [0, 1, 2])
def test_another_weight_anywhere_is_seen(which):
    graph, feeds = net()
    found = same(graph, with_weight(graph, which, 1.01), feeds)
    assert not found.equal
    assert 1e-3 < found.error < 0.1
    assert found.excess == pytest.approx(found.error / 1e-4)
    assert same(graph, with_weight(graph, which, 1 + 1e-6), feeds).equal


def test_the_tensor_that_differs_most_is_named():
    graph, feeds = net()
    assert same(graph, with_weight(graph, 2, 1.01), feeds).where == f"'{graph.outputs[1]}'"


def test_other_inputs_or_outputs_are_not_the_same():
    graph, feeds = net()
    n = Net("rewritten")
    n.output(n.Relu(n.conv(out=6)))
    for other in (Graph(n.finished()), graph.tapped([graph.nodes[0].outputs[0]])):
        found = same(graph, other, feeds)
        assert not found.equal
        assert found.tensors == 0
        assert found.where == "the list of inputs or outputs"


def test_a_graph_that_cannot_be_run_is_not_the_same():
    graph, feeds = net()
    name = next(node.inputs[1] for node in graph.nodes if node.op == "Conv")
    broken = graph.edited(Edits(constants={name: graph.array(name)[:, :2]}))
    found = same(graph, broken, feeds)
    assert not found.equal
    assert found.tensors == 0
    assert "can't be run" in found.where


def test_what_is_squashed_is_compared_before_and_counts_as_far_as_it_can_be_seen():
    """Of a Sigmoid near zero, a difference that rounding explains is a large share."""
    n = Net("squashed")
    offset = n.const(np.float32(-20))
    n.output(n.Sigmoid(n.Add(n.conv(out=4), offset)))
    graph = Graph(n.finished())
    near = graph.edited(Edits(constants={offset: np.float32(-20.0004)}))
    values = [
        next(iter(open_session(g).run(n.feeds()[0]).values())).astype(np.float64) for g in (graph, near)
    ]
    assert relative_error(*values) > 1e-4
    found = same(graph, near, n.feeds()[0])
    assert found.equal
    assert found.tensors == 2
    far = graph.edited(Edits(constants={offset: np.float32(-20.04)}))
    assert not same(graph, far, n.feeds()[0]).equal
