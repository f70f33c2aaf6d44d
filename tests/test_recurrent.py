"""Recurrent layers beyond what ONNX Runtime runs as it is: batch first, and states that the caller keeps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from nets import PRIMES, SQUARE, Dims, Net, run
from onnx import TensorProto, helper
from surgery import Surgery, masked, operate

from onnxprune.contracts.selection import keep_best
from onnxprune.graph import Graph, infer
from onnxprune.ops.label import locate
from onnxprune.reductions.channels.cut import recorded
from onnxprune.reductions.channels.find import analyze

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN = 6


def model_of(
    n: Net, outputs: Mapping[str, tuple[int, ...]], inputs: Mapping[str, tuple[int, ...]]
) -> onnx.ModelProto:
    """The model with declared inputs and outputs, without running it."""
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(n._nodes, "net", *values, n._initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", n.opset)], ir_version=8)


# ---------------------------------------------------------------- batch first


def batch_first(n: Net, kind: str, directions: int) -> onnx.ModelProto:
    """A layer, one that reads it batch first from a state of its own, and one that reads all it gives."""
    x = n.node("MatMul", "x", n.weight(3, n.C))
    weights = [n.weight(directions, GATES[kind] * HIDDEN, width) for width in (n.C, HIDDEN)]
    y, last = n.node(
        kind,
        x,
        *weights,
        n.weight(directions, 2 * GATES[kind] * HIDDEN),
        None,
        n.weight(n.B, directions, HIDDEN),
        outputs=2,
        hidden_size=HIDDEN,
        direction="bidirectional" if directions > 1 else "forward",
        layout=1,
    )
    flat = [n.Reshape(y, [n.B, n.H, -1]), n.Reshape(last, [n.B, 1, -1])]
    joined = n.Concat(*flat, axis=1)
    n._nodes.append(helper.make_node("MatMul", [joined, n.const(n.weight(directions * HIDDEN, 4))], ["y"]))
    return model_of(n, {"y": (n.B, n.H + 1, 4)}, {"x": (n.B, n.H, 3)})


def time_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with transposes around the layer, which ONNX Runtime runs."""
    result = onnx.ModelProto.FromString(model.SerializeToString())
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        layout = [a for a in node.attribute if a.name == "layout"]
        if not layout:
            nodes.append(node)
            continue
        node.attribute.remove(layout[0])
        for i in (0, 5):
            nodes.append(helper.make_node("Transpose", [node.input[i]], [f"in{i}"], perm=[1, 0, 2]))
            node.input[i] = f"in{i}"
        nodes.append(node)
        for i, perm in ((0, [2, 0, 1, 3]), (1, [1, 0, 2])):
            nodes.append(helper.make_node("Transpose", [f"out{i}"], [node.output[i]], perm=perm))
            node.output[i] = f"out{i}"
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


@pytest.mark.parametrize("dims", [PRIMES, SQUARE], ids=["primes", "square"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", GATES)
def test_batch_first(kind: str, directions: int, dims: Dims) -> None:
    n = Net(f"{kind} {directions}", dims)
    surgery = operate(batch_first(n, kind, directions))
    sizes = sorted(g.size for g in surgery.analysis.groups)
    assert sizes == sorted([n.C, directions * HIDDEN])
    feeds = {"x": n.random.standard_normal((n.B, n.H, 3)).astype(np.float32)}
    expected, found, whole = (
        run(time_first(m), feeds)[0] for m in (masked(surgery), surgery.pruned.model, surgery.original.model)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(whole - expected).max() > 1e-3


# ---------------------------------------------------------------- states


def streaming(n: Net, kind: str) -> onnx.ModelProto:
    """Two layers, the states of which come stacked and go stacked."""
    x, states = n.node("MatMul", "x", n.weight(3, n.C)), []
    for k in range(2):
        width = HIDDEN if k else n.C
        weights = [n.weight(1, GATES[kind] * HIDDEN, w) for w in (width, HIDDEN)]
        first = n.Slice("before", [k], [k + 1], [0])
        y, last = n.node(kind, x, *weights, None, None, first, outputs=2, hidden_size=HIDDEN)
        x = n.Squeeze(y, [1])
        states.append(last)
    n._nodes.append(helper.make_node("Concat", states, ["after"], axis=0))
    n._nodes.append(helper.make_node("MatMul", [x, n.const(n.weight(HIDDEN, 4))], ["y"]))
    state = (2, n.B, HIDDEN)
    return model_of(n, {"y": (n.H, n.B, 4), "after": state}, {"x": (n.H, n.B, 3), "before": state})


@pytest.mark.parametrize("kind", GATES)
def test_a_state_of_the_caller_stays_whole(kind: str) -> None:
    surgery = operate(streaming(Net(kind), kind))
    assert [g.size for g in surgery.analysis.groups] == [PRIMES.C]
    reasons = {b.cause.reason for b in surgery.analysis.blocked if b.cause.by >= 0}
    assert reasons == {"starts from the graph's input 'before', a state that the caller keeps"}
    assert list(surgery.pruned.model.graph.input) == list(surgery.original.model.graph.input)


@pytest.mark.parametrize("dims", [PRIMES, SQUARE], ids=["primes", "square"])
@pytest.mark.parametrize("kind", GATES)
def test_a_state_becomes_narrower_if_the_caller_follows(kind: str, dims: Dims) -> None:
    n = Net(kind, dims)
    graph = Graph(streaming(n, kind))
    facts = infer(graph)
    analysis = analyze(graph, facts, states={"before": "after"})
    assert sorted(g.size for g in analysis.groups) == sorted([n.C, HIDDEN])
    kept = np.ones(analysis.count, bool)
    for group in analysis.groups:
        kept[group.units] = keep_best(group, n.random.random(group.size), group.size // 2)
    pruned, record = recorded(graph, facts, analysis, kept)
    onnx.checker.check_model(pruned.model, full_check=True)
    labels = record.labels
    rest = {name: locate(labels[name][-1].old, labels[name][-1].new) for name in ("before", "after")}
    np.testing.assert_array_equal(rest["before"], rest["after"])
    shapes = {
        v.name: v.type.tensor_type.shape.dim[2].dim_value
        for v in [*pruned.model.graph.input, *pruned.model.graph.output]
    }
    assert (shapes["before"], shapes["after"]) == (HIDDEN // 2, HIDDEN // 2)

    x = n.random.standard_normal((n.H, n.B, 3)).astype(np.float32)
    state = n.random.standard_normal((2, n.B, HIDDEN)).astype(np.float32)
    whole, small = masked(Surgery(graph, analysis, kept, pruned)), state[..., rest["before"]]
    for _ in range(2):
        y, state = run(whole, {"x": x, "before": state})
        again, small = run(pruned.model, {"x": x, "before": small})
        np.testing.assert_allclose(again, y, atol=1e-5)
        np.testing.assert_allclose(small, state[..., rest["after"]], atol=1e-5)


def test_a_state_of_zeros_is_left_out_where_the_layer_becomes_narrower() -> None:
    n = Net("zeros")
    state = n.Expand(
        np.zeros((1, 1, 1), np.float32), n.Concat([1], n.Slice(n.Shape("x"), [1], [2]), [HIDDEN], axis=0)
    )
    weights = [n.weight(1, 4 * HIDDEN, w) for w in (3, HIDDEN)]
    y = n.node("LSTM", "x", *weights, None, None, state, state, hidden_size=HIDDEN)
    n._nodes.append(helper.make_node("MatMul", [y, n.const(n.weight(HIDDEN, 4))], ["y"]))
    surgery = operate(model_of(n, {"y": (n.H, 1, "batch", 4)}, {"x": (n.H, "batch", 3)}))
    assert [g.size for g in surgery.analysis.groups] == [HIDDEN]
    (layer,) = [node for node in surgery.pruned.nodes if node.op == "LSTM"]
    assert not any(layer.inputs[3:])
    assert {node.op for node in surgery.pruned.nodes} == {"LSTM", "MatMul"}
