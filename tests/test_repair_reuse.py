"""Layers that restore channels: exact where these are linear in those kept, and only where they pay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import PRIMES, SQUARE, Net, run
from repairs import operated, repaired, samples

from onnxprune import apply, prune
from onnxprune.contracts.cut import without
from onnxprune.contracts.groups import Choice
from onnxprune.cost.macs import macs
from onnxprune.graph import Graph, infer
from onnxprune.pipeline.maker import _stranded as stranded
from onnxprune.proof import prove, same
from onnxprune.reductions.channels import Channels
from onnxprune.repair import Task
from onnxprune.rewrites import widened

BOTH = pytest.mark.parametrize("dims", [PRIMES, SQUARE], ids=["primes", "square"])


def dependent(n, outputs, *rest, axis=0, groups=1):
    """A weight whose outputs of the second half (of every group) are linear in those of the first."""
    parts = []
    for _ in range(groups):
        first = n.weight(outputs // groups // 2, *rest)
        mixed = np.tensordot(n.weight(len(first), len(first)), first, 1).astype(np.float32)
        parts.append(np.concatenate([first, mixed]))
    return np.moveaxis(np.concatenate(parts), 0, axis).copy()


def spatial(n, layer):
    """That layer between others, read by a depthwise convolution that can't make up for anything."""
    x = n.Relu(n.conv(out=4 * n.C, kernel=(1, 1)))
    n.output(n.conv(n.Relu(depthwise(n, n.Relu(layer(n, x)))), 5))


def depthwise(n, y):
    width = n.shape(y)[1]
    return n.node("Conv", y, n.weight(width, 1, 3, 3), n.weight(width), group=width, pads=[1, 1, 1, 1])


def conv(n, x):
    return n.node("Conv", x, dependent(n, 2 * n.C, 4 * n.C, 3, 3), n.weight(2 * n.C), pads=[1, 1, 1, 1])


def without_bias(n, x):
    return n.node("Conv", x, dependent(n, 2 * n.C, 4 * n.C, 2, 3), strides=[2, 1])


def grouped(n, x):
    return n.node("Conv", x, dependent(n, 4 * n.C, 2 * n.C, 3, 3, groups=2), group=2, pads=[1, 1, 1, 1])


def transposed(n, x):
    return n.node("ConvTranspose", x, dependent(n, 2 * n.C, 4 * n.C, 2, 2, axis=1), n.weight(2 * n.C))


def dense(n, left=False, add=True):
    x = n.Relu(n.dense(out=6 * n.C))
    if left:
        y = n.MatMul(dependent(n, 2 * n.C, 6 * n.C), n.Transpose(x, perm=[0, 2, 1]))
        y = n.Transpose(y, perm=[0, 2, 1])
    else:
        y = n.MatMul(x, dependent(n, 2 * n.C, 6 * n.C, axis=1))
    n.output(n.dense(n.Relu(n.Add(y, n.weight(2 * n.C)) if add else y), 5))


def gemm(n, **attributes):
    x = n.Relu(n.gemm(out=6 * n.C))
    n.output(n.gemm(n.Relu(n.Gemm(x, dependent(n, 2 * n.C, 6 * n.C), transB=1, **attributes)), 5))


LAYERS = {
    "conv": lambda n: spatial(n, conv),
    "conv without bias": lambda n: spatial(n, without_bias),
    "grouped conv": lambda n: spatial(n, grouped),
    "transposed conv": lambda n: spatial(n, transposed),
    "matmul": dense,
    "matmul without bias": lambda n: dense(n, add=False),
    "matmul from the left": lambda n: dense(n, left=True),
    "gemm": gemm,
    "gemm scaled": lambda n: gemm(n, alpha=0.5),
}


def groups_of(cut):
    """Ids of the groups that lose something."""
    return [group.id for group in cut.groups]


def widened_of(cut):
    """With layers behind all that lose outputs, where that pays."""
    (space,) = cut.spaces
    return widened(space, cut.choice, groups_of(cut), Channels().find)


def halved(n, width):
    """Keep the first half of what a layer of dependent outputs makes, and all of the others."""

    def choose(group):
        if group.size not in width:
            return np.ones(group.size, bool)
        halves = 2 if group.lanes and group.size == 4 * n.C else 1
        return np.tile(np.arange(group.size // halves) < group.size // halves // 2, halves)

    return choose


def total(graph):
    return sum(macs(graph, infer(graph)).values())


@BOTH
@pytest.mark.parametrize("layer", LAYERS)
def test_what_is_linear_in_what_a_layer_keeps_is_restored(layer, dims):
    n = Net(layer, dims)
    LAYERS[layer](n)
    target = {4 * n.C} if layer == "grouped conv" else {2 * n.C}
    model = n.finished()
    cut = operated(model, choose=halved(n, target))
    if layer == "grouped conv":  # the layer before it is as wide
        first, *others = cut.groups
        assert others
        rest = Choice({key: mask for key, mask in cut.choice.kept.items() if key != first.id})
        cut = without(cut.base, cut.spaces, rest)
    assert not cut.choice.removes_nothing()
    made = repaired(cut, "reuse", samples(n, 40))
    assert made.repaired.mode == "reuse"
    onnx.checker.check_model(made.graph.model, full_check=True)
    assert sum("restored" in node.name for node in made.graph.nodes) >= 1
    assert total(made.graph) < total(cut.base.graph)
    feeds = samples(n, 1, seed=7)[0]
    (found,), (wanted,) = run(made.graph.model, feeds), run(model, feeds)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-3 * np.abs(wanted).max())


def narrowed_by(cut, wide, feeds):
    """What gets narrower of the original's tensors, where layers restore channels; the proof holds."""
    assert same(cut.base.graph, wide.network.graph, feeds).equal
    other = without(wide.network, [wide.space], wide.choice)
    assert prove(other, feeds).exact
    before, after = cut.base.facts.shapes, other.network.facts.shapes
    made = cut.base.graph.producer
    for output in wide.outputs:
        ((behind, _),) = other.network.graph.readers[output]
        assert "restored" in behind.name
    return {name for name in made if name in after and after[name] != before[name]}


@BOTH
@pytest.mark.parametrize("layer", LAYERS)
def test_only_layers_with_one_behind_them_get_narrower(layer, dims):
    n = Net(layer, dims)
    LAYERS[layer](n)
    width = {4 * n.C} if layer == "grouped conv" else {2 * n.C}
    cut = operated(n.finished(), choose=halved(n, width))
    if layer == "grouped conv":
        (*_, group) = cut.groups
        cut = without(cut.base, cut.spaces, Choice({group.id: cut.choice.of(group)}))
    wide = widened_of(cut)
    assert len(wide.outputs) == 1
    assert narrowed_by(cut, wide, n.feeds()[0]) == set(wide.outputs)


def test_all_layers_of_a_residual_get_one_behind_them_or_none_does():
    n = Net("residual")
    x = n.Relu(n.conv(out=16, kernel=(1, 1)))
    parts = [n.conv(x, 8, kernel=(3, 3), pads=[1] * 4) for _ in range(2)]
    n.output(n.conv(n.Relu(n.Add(*parts)), 5))
    cut = operated(n.finished(), choose=lambda g: np.arange(g.size) < (4 if g.size == 8 else 16))
    wide = widened_of(cut)
    assert set(wide.outputs) == set(parts)
    assert narrowed_by(cut, wide, n.feeds()[0]) == set(parts)
    assert len(wide.choice.kept) == 2, "each layer has units of its own now"


def test_a_weight_that_others_read_is_not_cut():
    """Neither that layer nor the one that it is added to can do without the channels."""
    n = Net("shared")
    x, w = n.Relu(n.conv(out=16, kernel=(1, 1))), n.const(n.weight(8, 16, 3, 3))
    first, second = n.Conv(x, w, pads=[1] * 4), n.Conv(n.Relu(x), w, pads=[1] * 4)
    n.output(n.conv(n.Relu(n.Add(first, second)), 5))
    cut = operated(n.finished(), choose=lambda g: np.arange(g.size) < (4 if g.size == 8 else 16))
    assert not cut.choice.removes_nothing()
    assert widened_of(cut) is None


def test_a_layer_that_costs_more_than_it_saves_is_not_inserted():
    n = Net("dear")
    n.output(n.conv(n.Relu(n.conv(out=8, kernel=(1, 1))), 5))
    cut = operated(n.finished())
    assert widened_of(cut) is None
    made = repaired(cut, "reuse", samples(n, 6))
    assert made.repaired.mode == "fold"
    assert total(made.graph) == total(cut.network.graph)


def test_groups_for_which_it_does_not_pay_lose_their_channels_everywhere():
    n = Net("both")
    x = n.Relu(n.conv(out=8, kernel=(1, 1)))
    n.output(n.conv(n.Relu(n.conv(x, 12, kernel=(3, 3), pads=[1, 1, 1, 1])), 5))
    cut = operated(n.finished())
    assert len(widened_of(cut).outputs) == 1
    made = repaired(cut, "reuse", samples(n, 30))
    assert made.repaired.mode == "reuse"
    assert len(made.widened) == 1
    onnx.checker.check_model(made.graph.model, full_check=True)
    assert total(cut.network.graph) < total(made.graph) < total(cut.base.graph)
    assert made.repaired.after < made.repaired.before


def test_single_weights_go_after_channels_that_are_restored():
    """With shortcuts: what layers are to give is told by the network with those that restore channels."""
    n = Net("then weights")
    x = n.input("N", 3, 6, 6)
    same = {"kernel": (3, 3), "pads": [1] * 4}
    h = n.Relu(n.conv(x, 16, **same))
    h = n.Relu(n.Add(n.conv(n.Relu(n.conv(h, 16, **same)), 16, **same), h))
    n.output(n.conv(h, 5))
    graph = Graph(n.finished())
    r = np.random.default_rng(0)
    calib = [{graph.inputs[0]: r.standard_normal((80, 3, 6, 6)).astype(np.float32)}]
    how = {"calib": calib, "measure_latency": False}
    result = prune(graph, ratio=0.5, sparsity=0.3, repair="reuse", simplify=False, force=True, **how)
    first, second = (one.candidate for one in result.solved)
    assert first.widened
    assert first.repaired.mode == "reuse"
    assert second.repaired.mode == "fold"
    assert second.repaired.after < second.repaired.before
    assert result.verdict.exact
    for lost in second.cut.lost:
        assert (result.graph.array(lost.layer.weight)[~lost.support] == 0).all()
    assert apply(graph, result.plan, **how).graph.serialized() == result.graph.serialized()


def unfittable(n, y):
    """A layer whose weight a node makes."""
    return n.Conv(y, n.Mul(n.weight(5, n.shape(y)[1], 1, 1), np.float32(2)))


def test_auto_restores_what_is_read_by_nothing_that_could_be_fitted():
    n = Net("stranded")
    x = n.Relu(n.conv(out=4 * n.C, kernel=(1, 1)))
    n.output(unfittable(n, n.Relu(conv(n, x))))
    model = n.finished()
    made = repaired(operated(model, choose=halved(n, {2 * n.C})), "auto", samples(n, 40))
    assert made.repaired.mode == "reuse"
    assert sum("restored" in node.name for node in made.graph.nodes) == 1
    feeds = samples(n, 1, seed=7)[0]
    (found,), (wanted,) = run(made.graph.model, feeds), run(model, feeds)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-3 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("reader", "expected"),
    [
        (unfittable, True),
        (lambda n, y: n.conv(y, 5), False),
        (lambda n, y: n.Concat(n.conv(y, 5), unfittable(n, y), axis=1), False),
        (lambda n, y: unfittable(n, n.Relu(depthwise(n, y))), True),
        (lambda n, y: n.conv(n.Relu(depthwise(n, y)), 5), False),
    ],
)
def test_what_is_stranded(reader, expected):
    n = Net("readers")
    n.output(reader(n, n.Relu(n.conv(out=8, kernel=(3, 3)))))
    cut = operated(n.finished())
    (space,) = cut.spaces
    assert len(space.groups) == 1
    assert (stranded(space, groups_of(cut), Task.of(cut)) == groups_of(cut)) is expected


def test_names_that_are_taken_are_not_taken_again():
    n = Net("names")
    spatial(n, conv)
    model = n.finished()
    target = next(
        node for node in model.graph.node if node.op_type == "Conv" and node.input[0].startswith("relu")
    )
    taken = f"{target.output[0]}.restored"
    model.graph.node.append(
        onnx.helper.make_node("Identity", [model.graph.input[0].name], [taken], name=taken)
    )
    made = repaired(operated(model, choose=halved(n, {2 * n.C})), "reuse", samples(n, 20))
    onnx.checker.check_model(made.graph.model, full_check=True)
    assert any(node.name == f"{taken}.1" for node in made.graph.nodes)
