"""Layers that restore channels: exact where these are linear in those kept, and only where they pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from nets import PRIMES, SQUARE, Net, run
from repairs import operated, samples

from onnxprune.cost.macs import macs
from onnxprune.graph import infer
from onnxprune.reductions.channels.cut import rewrite
from onnxprune.repair import repair
from onnxprune.repair.reuse import arranged, narrowed, stranded

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


def surgery_of(n, choose):
    surgery = operated(n.finished(), choose=choose)
    return replace(surgery, again=lambda kept: rewrite(surgery.graph, surgery.facts, surgery.analysis, kept))


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
    surgery = surgery_of(n, halved(n, target))
    if layer == "grouped conv":  # the layer before it is as wide
        names = {g.name: g for g in surgery.analysis.groups}
        assert len(names) >= 2
        first = surgery.analysis.groups[0].units
        kept = surgery.kept.copy()
        kept[first] = True
        pruned = rewrite(surgery.graph, surgery.facts, surgery.analysis, kept)
        surgery = replace(surgery, kept=kept, pruned=pruned)
    assert not surgery.kept.all()
    outcome = repair(surgery, "reuse", samples(n, 40))
    assert outcome.mode == "reuse"
    onnx.checker.check_model(outcome.graph.model, full_check=True)
    assert sum("restored" in node.name for node in outcome.graph.nodes) >= 1
    assert total(outcome.graph) < total(surgery.graph)
    feeds = samples(n, 1, seed=7)[0]
    (found,), (wanted,) = run(outcome.graph.model, feeds), run(model, feeds)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-3 * np.abs(wanted).max())


def test_a_layer_that_costs_more_than_it_saves_is_not_inserted():
    n = Net("dear")
    n.output(n.conv(n.Relu(n.conv(out=8, kernel=(1, 1))), 5))
    surgery = surgery_of(n, None)
    assert not arranged(surgery, narrowed(surgery)).restored
    outcome = repair(surgery, "reuse", samples(n, 6))
    assert outcome.mode == "fold"
    assert total(outcome.graph) == total(surgery.pruned)


def test_groups_for_which_it_does_not_pay_lose_their_channels_everywhere():
    n = Net("both")
    x = n.Relu(n.conv(out=8, kernel=(1, 1)))
    n.output(n.conv(n.Relu(n.conv(x, 12, kernel=(3, 3), pads=[1, 1, 1, 1])), 5))
    surgery = surgery_of(n, None)
    assert len(arranged(surgery, narrowed(surgery)).restored) == 1
    outcome = repair(surgery, "reuse", samples(n, 30))
    assert outcome.mode == "reuse"
    onnx.checker.check_model(outcome.graph.model, full_check=True)
    assert total(surgery.pruned) < total(outcome.graph) < total(surgery.graph)
    assert outcome.after < outcome.before


def unfittable(n, y):
    """A layer whose weight a node makes."""
    weight = n.Transpose(n.weight(n.shape(y)[1], 5, 1, 1), perm=[1, 0, 2, 3])
    return n.Conv(y, weight)


def test_auto_restores_what_is_read_by_nothing_that_could_be_fitted():
    n = Net("stranded")
    x = n.Relu(n.conv(out=4 * n.C, kernel=(1, 1)))
    n.output(unfittable(n, n.Relu(conv(n, x))))
    model = n.finished()
    surgery = surgery_of(n, halved(n, {2 * n.C}))
    outcome = repair(surgery, "auto", samples(n, 40))
    assert outcome.mode == "reuse"
    assert sum("restored" in node.name for node in outcome.graph.nodes) == 1
    feeds = samples(n, 1, seed=7)[0]
    (found,), (wanted,) = run(outcome.graph.model, feeds), run(model, feeds)
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
    surgery = surgery_of(n, None)
    assert len(surgery.analysis.groups) == 1
    assert (stranded(surgery) == {0}) is expected


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
    surgery = operated(model, choose=halved(n, {2 * n.C}))
    outcome = repair(surgery, "reuse", samples(n, 20))
    onnx.checker.check_model(outcome.graph.model, full_check=True)
    assert any(node.name == f"{taken}.1" for node in outcome.graph.nodes)
