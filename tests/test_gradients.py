"""Gradients of whole graphs: right, with and without what makes them fast, and refused where they must be."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
from nets import Net, run
from onnx import TensorProto, helper, numpy_helper
from slopes import compare

from onnxprune.errors import Infeasible, InputError, UsageError
from onnxprune.gradients import (
    Gate,
    Runner,
    backward,
    before_squashing,
    cross_entropy,
    custom,
    differentiable,
    divergence,
    hessian_product,
    linear,
    squared_error,
    weighted,
    weights_of,
    with_weights,
)
from onnxprune.gradients.lengths import fixed_lengths
from onnxprune.gradients.rules import RULES
from onnxprune.graph import Graph, infer, load
from onnxprune.runtime import ExecutionOptions, Session

MODELS = sorted(Path(__file__).parents[1].glob("models/*.onnx"))
IMAGES = np.load(Path(__file__).parents[1] / "models" / "digits-calib.npz")["image"]


def network(net: Net) -> tuple[Graph, object]:
    graph = Graph(net.finished())
    return graph, infer(graph, net.symbols)


def small(opset: int = 17) -> Net:
    """A convolutional classifier of an open batch, without kinks."""
    n = Net("small", opset=opset)
    x = n.input("batch", 3, 6, 5)
    y = n.Tanh(n.Conv(x, n.weight(8, 3, 3, 3), n.weight(8), pads=[1, 1, 1, 1]))
    y = n.Sigmoid(n.Conv(y, n.weight(8, 1, 3, 3), n.weight(8), group=8, strides=[2, 2]))
    z = n.Gemm(n.Flatten(n.AveragePool(y, kernel_shape=[2, 2])), n.weight(8, 4), n.weight(4))
    n.output(z)
    return n


def steps_of(graph, facts, loss, feeds, **more):
    names = list(more.pop("wrt", weights_of(graph)))
    return Runner(backward(graph, facts, loss, names, **more)).step(feeds)


def by_formula(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    return p - target


# ---------------------------------------------------------------- whole networks


@pytest.mark.parametrize("path", MODELS, ids=[p.stem for p in MODELS])
def test_networks_against_central_differences(path):
    graph = load(path)
    facts = infer(graph)
    wrt = weights_of(graph)
    assert differentiable(graph, facts, wrt).differentiable == wrt
    output = graph.outputs[0]
    runner = Runner(
        backward(graph, facts, cross_entropy(graph, facts, output), wrt), ExecutionOptions(threads=1)
    )
    feeds = {"image": IMAGES[:6], f"{output}.labels": np.arange(6) % 10}
    found = {n: g.astype(np.float64) for n, g in runner.step(feeds).gradients.items()}
    start = {n: w.copy() for n, w in runner.weights.items()}
    rng = np.random.default_rng(1)
    for _ in range(3):
        # Of the size of each weight; half along its gradient, so that there is something to see.
        ways = {n: rng.standard_normal(w.shape) * np.abs(w).mean() for n, w in start.items()}
        ways = {n: w + found[n] / np.linalg.norm(found[n]) * np.linalg.norm(w) for n, w in ways.items()}
        told = sum(float(np.vdot(found[n], w)) for n, w in ways.items())
        seen = [_slope(runner, feeds, start, ways, step) for step in (1e-3, 1e-4, 3e-5, 1e-5)]
        assert min(abs(s - told) for s in seen) < 0.01 * abs(told), (told, seen)


def _slope(runner, feeds, start, ways, step):
    losses = []
    for sign in (1, -1):
        for n, w in runner.weights.items():
            w[...] = start[n] + sign * step * ways[n]
        losses.append(runner.step(feeds).losses.astype(np.float64).mean())
    for n, w in runner.weights.items():
        w[...] = start[n]
    return (losses[0] - losses[1]) / (2 * step)


def test_the_reference_evaluator_gives_the_same():
    net = small()
    graph, facts = network(net)
    gradient = backward(graph, facts, squared_error(graph, facts, graph.outputs[0]), weights_of(graph))
    target = np.ones((2, 4), np.float32)
    feeds = {**net.feeds()[0], f"{graph.outputs[0]}.target": target}
    step = Runner(gradient).step(feeds)
    model = gradient.graph.model
    evaluator = onnx.reference.ReferenceEvaluator(model)
    outputs = evaluator.run(None, {**feeds, **gradient.weights})
    by_name = dict(zip([o.name for o in model.graph.output], outputs, strict=True))
    for name, output in gradient.gradients.items():
        np.testing.assert_allclose(by_name[output], step.gradients[name], rtol=1e-3, atol=1e-6)


def test_only_operators_of_the_standard_are_emitted():
    for path in MODELS:
        graph = load(path)
        facts = infer(graph)
        gradient = backward(graph, facts, cross_entropy(graph, facts, "logits"), weights_of(graph))
        assert not [op for op in gradient.graph.operators() if ":" in op]


@pytest.mark.parametrize("opset", [11, 12, 13, 16, 18, 21, 23])
def test_operator_sets(opset):
    net = small(opset)
    for feeds in net.feeds():
        compare(net.finished(), feeds, net.symbols)


def test_a_graph_of_an_open_batch_runs_at_any():
    net = small()
    graph, facts = network(net)
    output = graph.outputs[0]
    runner = Runner(
        backward(graph, facts, squared_error(graph, facts, output), weights_of(graph), reduction="sum")
    )
    (name,) = graph.inputs
    x = np.random.default_rng(0).standard_normal((5, 3, 6, 5)).astype(np.float32)
    target = np.zeros((5, 4), np.float32)
    whole = {n: g.copy() for n, g in runner.step({name: x, f"{output}.target": target}).gradients.items()}
    parts = [
        {n: g.copy() for n, g in runner.step({name: x[s], f"{output}.target": target[s]}).gradients.items()}
        for s in (slice(0, 1), slice(1, 5))
    ]
    for n, g in whole.items():
        np.testing.assert_allclose(parts[0][n] + parts[1][n], g, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- what is asked for


def test_inputs_and_tensors_between_have_gradients_too():
    net = small()
    graph, facts = network(net)
    middle = next(n.outputs[0] for n in graph.nodes if n.op == "Tanh")
    output, (name,) = graph.outputs[0], graph.inputs
    feeds = {**net.feeds()[0], f"{output}.target": np.zeros((2, 4), np.float32)}
    found = steps_of(graph, facts, squared_error(graph, facts, output), feeds, wrt=[name, middle]).gradients
    assert found[name].shape == (2, 3, 6, 5)
    assert found[middle].shape == (2, 8, 6, 5)
    compare(net.finished(), net.feeds()[0], net.symbols, wrt=[name])


def test_what_the_loss_does_not_depend_on_has_zeros():
    n = Net("two")
    x = n.input(2, 3)
    n.output(n.Gemm(x, n.weight(3, 4)))
    n.output(n.Gemm(x, n.const(n.weight(3, 4), "other")))
    graph, facts = network(n)
    feeds = {**n.feeds()[0], f"{graph.outputs[0]}.target": np.zeros((2, 4), np.float32)}
    found = steps_of(graph, facts, linear(graph, facts, graph.outputs[0]), feeds, wrt=["other"]).gradients
    assert found["other"].shape == (3, 4)
    assert not found["other"].any()


def test_frozen_weights_have_the_same_gradients():
    net = small()
    graph, facts = network(net)
    output = graph.outputs[0]
    feeds = {**net.feeds()[0], f"{output}.target": np.ones((2, 4), np.float32)}
    loss = squared_error(graph, facts, output)
    moving, frozen = (steps_of(graph, facts, loss, feeds, frozen=f).gradients for f in (False, True))
    for name, gradient in moving.items():
        np.testing.assert_allclose(frozen[name], gradient, rtol=1e-4, atol=1e-6)
    gradient = backward(graph, facts, loss, weights_of(graph), frozen=True)
    assert not gradient.weights
    assert set(gradient.inputs) == {*graph.inputs, f"{output}.target"}


def test_two_gradients_that_are_one_tensor_are_two_outputs():
    n = Net("twins")
    a, b = n.const(n.weight(2, 3), "a"), n.const(n.weight(2, 3), "b")
    n.output(n.Add(n.Add(a, b), n.input(2, 3)))
    compare(n.finished(), n.feeds()[0], {})


def test_weights_that_are_read_twice_add_up():
    n = Net("shared")
    w = n.const(n.weight(4, 4), "w")
    n.output(n.MatMul(n.Tanh(n.MatMul(n.input(2, 4), w)), n.Transpose(w)))
    compare(n.finished(), n.feeds()[0], {})


def test_a_constant_node_is_a_weight_like_others():
    net = small()
    model = net.finished()
    tensor = model.graph.initializer[0]
    node = helper.make_node(
        "Constant", [], [tensor.name], value=numpy_helper.from_array(numpy_helper.to_array(tensor))
    )
    model.graph.node.insert(0, node)
    model.graph.initializer.remove(tensor)
    graph = Graph(model)
    facts = infer(graph, net.symbols)
    assert tensor.name in weights_of(graph)
    feeds = {**net.feeds()[0], f"{graph.outputs[0]}.target": np.ones((2, 4), np.float32)}
    loss = squared_error(graph, facts, graph.outputs[0])
    (other, other_facts) = network(net)
    np.testing.assert_allclose(
        steps_of(graph, facts, loss, feeds).gradients[tensor.name],
        steps_of(other, other_facts, loss, feeds).gradients[tensor.name],
        rtol=1e-5,
    )


# ---------------------------------------------------------------- losses


def logits_of(count: int = 6, classes: int = 4):
    n = Net("classes")
    z = n.Gemm(n.input("batch", 3), n.weight(3, classes), n.weight(classes))
    n.output(z)
    return n, z


def test_squared_error_is_relative_to_its_scale():
    n, z = logits_of()
    graph, facts = network(n)
    rng = np.random.default_rng(0)
    target, scale = rng.standard_normal((2, 4)).astype(np.float32), np.asarray([1.0, 2.0, 0.5, 4.0])
    feeds = {**n.feeds()[0], f"{z}.target": target}
    step = steps_of(graph, facts, squared_error(graph, facts, z, scale), feeds, wrt=[z], keep=[z])
    difference = step.kept[z] - target
    np.testing.assert_allclose(step.losses, (difference**2 * scale).mean(1), rtol=1e-5)
    np.testing.assert_allclose(step.loss, step.losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(step.gradients[z], 2 * difference * scale / 4 / 2, rtol=1e-4)


@pytest.mark.parametrize("given", ["logits", "probabilities"])
def test_divergence_of_a_softmax(given):
    n, z = logits_of()
    graph, facts = network(n)
    target = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    p = np.exp(target) / np.exp(target).sum(1, keepdims=True)
    feeds = {**n.feeds()[0], f"{z}.target": target if given == "logits" else p}
    loss = divergence(graph, facts, z, given=given)
    step = steps_of(graph, facts, loss, feeds, wrt=[z], keep=[z])
    q = by_formula(step.kept[z], np.zeros(4))
    np.testing.assert_allclose(step.losses, (p * np.log(p / q)).sum(1), rtol=1e-4)
    np.testing.assert_allclose(step.gradients[z], (q - p) / 2, rtol=1e-4, atol=1e-7)
    same = steps_of(
        graph, facts, divergence(graph, facts, z), {**n.feeds()[0], f"{z}.target": step.kept[z]}, wrt=[z]
    )
    assert abs(same.loss) < 1e-6
    assert np.abs(same.gradients[z]).max() < 1e-6


@pytest.mark.parametrize("given", ["logits", "probabilities"])
def test_divergence_of_sigmoids(given):
    n, z = logits_of()
    graph, facts = network(n)
    target = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    p = 1 / (1 + np.exp(-target))
    feeds = {**n.feeds()[0], f"{z}.target": target if given == "logits" else p}
    step = steps_of(
        graph, facts, divergence(graph, facts, z, "sigmoid", given=given), feeds, wrt=[z], keep=[z]
    )
    q = 1 / (1 + np.exp(-step.kept[z]))
    expected = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    np.testing.assert_allclose(step.losses, expected.mean(1), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(step.gradients[z], (q - p) / 8, rtol=1e-3, atol=1e-6)


def test_cross_entropy_over_positions_leaves_out_negative_labels():
    n = Net("positions")
    z = n.Conv(n.input("batch", 3, 2, 2), n.weight(4, 3, 1, 1))
    n.output(z)
    graph, facts = network(n)
    labels = np.asarray([[[0, 1], [2, 3]], [[3, -1], [-1, 0]]])
    step = steps_of(
        graph,
        facts,
        cross_entropy(graph, facts, z),
        {**n.feeds()[0], f"{z}.labels": labels},
        wrt=[z],
        keep=[z],
    )
    rows = np.moveaxis(step.kept[z], 1, -1)
    hot = (labels[..., None] == np.arange(4)).astype(float)
    shifted = rows - rows.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    np.testing.assert_allclose(step.losses, -(hot * log_p).sum(-1).mean((1, 2)), rtol=1e-4)
    expected = np.moveaxis(by_formula(rows, 0) * (labels >= 0)[..., None] - hot, -1, 1) / 8
    np.testing.assert_allclose(step.gradients[z], expected, rtol=1e-3, atol=1e-6)


def own_loss(z: str, opset: int = 17) -> Graph:
    """A squared error, as a user would write it."""
    nodes = [
        helper.make_node("Sub", [z, "wanted"], ["d"]),
        helper.make_node("Mul", ["d", "d"], ["square"]),
        helper.make_node("Split", ["square"], ["left", "right"], axis=1),
        helper.make_node("Add", ["left", "right"], ["sum"]),
        helper.make_node("ReduceMean", ["sum"], ["loss"], axes=[1], keepdims=0),
        helper.make_node("Mul", ["loss", "half"], ["halved"]),
    ]
    values = [helper.make_tensor_value_info(i, TensorProto.FLOAT, ["n", 4]) for i in (z, "wanted")]
    half = numpy_helper.from_array(np.float32(0.5), "half")
    graph = helper.make_graph(nodes, "loss", values, [onnx.ValueInfoProto(name="halved")], [half])
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def test_a_loss_of_ones_own_is_a_graph():
    n, z = logits_of()
    graph, facts = network(n)
    target = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    built = steps_of(graph, facts, squared_error(graph, facts, z), {**n.feeds()[0], f"{z}.target": target})
    for loss in (custom(graph, facts, own_loss(z)), custom(graph, facts, own_loss("scores"), {"scores": z})):
        assert loss.targets == ("wanted",)
        step = steps_of(graph, facts, loss, {**n.feeds()[0], "wanted": target})
        np.testing.assert_allclose(step.losses, built.losses, rtol=1e-5)
        for name, gradient in built.gradients.items():
            np.testing.assert_allclose(step.gradients[name], gradient, rtol=1e-4, atol=1e-7)


def test_a_loss_that_nothing_enters_is_refused():
    n, _ = logits_of()
    graph, facts = network(n)
    with pytest.raises(UsageError, match="no tensor of the network enters the loss"):
        custom(graph, facts, own_loss("scores"))


def test_a_loss_of_another_operator_set_is_refused():
    """Softmax, for one, means something else before opset 13."""
    n, z = logits_of()
    graph, facts = network(n)
    with pytest.raises(UsageError, match="is of opset 12, and the network of opset 17"):
        custom(graph, facts, own_loss(z, opset=12))


def test_a_loss_with_branches_is_refused():
    n, z = logits_of()
    graph, facts = network(n)
    loss = own_loss(z)
    empty = helper.make_graph([], "empty", [], [])
    loss.model.graph.node.append(
        helper.make_node("If", ["flag"], ["never"], then_branch=empty, else_branch=empty)
    )
    with pytest.raises(UsageError, match="has loops or branches"):
        custom(graph, facts, Graph(loss.model))


def test_losses_add_up_with_weights():
    n, z = logits_of()
    graph, facts = network(n)
    parts = [squared_error(graph, facts, z), cross_entropy(graph, facts, z)]
    feeds = {**n.feeds()[0], f"{z}.target": np.ones((2, 4), np.float32), f"{z}.labels": np.asarray([1, 3])}
    first, second = (steps_of(graph, facts, part, feeds) for part in parts)
    both = steps_of(graph, facts, weighted([(0.25, parts[0]), (2.0, parts[1])]), feeds)
    np.testing.assert_allclose(both.losses, 0.25 * first.losses + 2 * second.losses, rtol=1e-5)
    for name, gradient in both.gradients.items():
        expected = 0.25 * first.gradients[name] + 2 * second.gradients[name]
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("op", "squash"), [("Softmax", "softmax"), ("Sigmoid", "sigmoid"), ("Tanh", None)])
def test_logits_are_found_before_what_squashes_them(op, squash):
    n, z = logits_of()
    y = n.Identity(n.node(op, z))
    graph = Graph(n.model([y]))
    found = before_squashing(graph, y)
    assert (found and (found.tensor, found.squash)) == (squash and (z, squash))


# ---------------------------------------------------------------- gates


def test_gates_are_gradients_of_each_sample():
    net = small()
    graph, facts = network(net)
    output, (name,) = graph.outputs[0], graph.inputs
    middle = next(n.outputs[0] for n in graph.nodes if n.op == "Tanh")
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 5)).astype(np.float32)
    target = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    loss = squared_error(graph, facts, output)
    gradient = backward(graph, facts, loss, [], gates=[Gate(middle, (1,))], reduction="sum")
    (found,) = Runner(gradient).step({name: x, f"{output}.target": target}).gates
    assert found.shape == (4, 8)
    for k in range(4):
        feeds = {name: x[k : k + 1], f"{output}.target": target[k : k + 1]}
        one = steps_of(graph, facts, loss, feeds, wrt=[middle], keep=[middle])
        expected = (one.gradients[middle] * one.kept[middle]).sum((0, 2, 3))
        np.testing.assert_allclose(found[k], expected, rtol=1e-3, atol=1e-6)


def test_gates_of_readers_add_up_to_that_of_the_tensor():
    n = Net("branches")
    x = n.Tanh(n.Conv(n.input("batch", 3, 4, 4), n.weight(6, 3, 1, 1)))
    left, right = n.Conv(x, n.weight(5, 6, 3, 3)), n.Conv(x, n.weight(5, 6, 3, 3))
    z = n.Mul(left, n.Sigmoid(right))
    n.output(z)
    graph, facts = network(n)
    gates = [Gate(x, (1,)), Gate(x, (1,), (left, 0)), Gate(x, (1,), (right, 0))]
    loss = squared_error(graph, facts, z)
    feeds = {**n.feeds()[0], f"{z}.target": np.zeros(n.shape(z), np.float32)}
    whole, one, other = steps_of(graph, facts, loss, feeds, wrt=[], gates=gates, reduction="sum").gates
    np.testing.assert_allclose(one + other, whole, rtol=1e-4, atol=1e-6)
    assert np.abs(one).max() > 1e-3
    assert np.abs(one - other).max() > 1e-3


def test_gates_within_a_swish_are_those_of_its_parts():
    """Its gradient is taken at once, unless something between is asked for."""
    n = Net("swish")
    x = n.Gemm(n.input("batch", 3), n.weight(3, 4))
    s = n.Sigmoid(x)
    y = n.Mul(x, s)
    n.output(y)
    graph, facts = network(n)
    feeds = {**n.feeds()[0], f"{y}.target": np.ones((2, 4), np.float32)}
    gates = [Gate(x, (1,), (s, 0)), Gate(x, (1,), (y, 0)), Gate(s, (1,)), Gate(x, (1,))]
    loss = linear(graph, facts, y)
    inner, outer, gate, whole = steps_of(graph, facts, loss, feeds, wrt=[], gates=gates).gates
    x_value, s_value = n.value(x), n.value(s)
    np.testing.assert_allclose(outer, x_value * s_value, rtol=1e-4)
    np.testing.assert_allclose(gate, x_value * s_value, rtol=1e-4)
    np.testing.assert_allclose(inner, x_value * x_value * s_value * (1 - s_value), rtol=1e-3)
    np.testing.assert_allclose(whole, inner + outer, rtol=1e-4)
    plain = backward(graph, facts, loss, weights_of(graph)).graph
    assert [node.op for node, _ in plain.readers[x]] == ["Sigmoid", "Mul"]  # not kept for the way back


def test_gates_at_a_reader_that_does_not_read_are_refused():
    net = small()
    graph, facts = network(net)
    middle = next(n.outputs[0] for n in graph.nodes if n.op == "Tanh")
    loss = squared_error(graph, facts, graph.outputs[0])
    with pytest.raises(UsageError, match="does not read"):
        backward(graph, facts, loss, [], gates=[Gate(middle, (1,), (graph.outputs[0], 0))])


def test_gates_at_convolutions_that_would_be_rewritten_stay_where_they_are():
    """A BatchNormalization that folds, and a depthwise convolution that becomes a product."""
    n = Net("rewritten")
    x = n.Tanh(n.input("batch", 6, 5, 5))
    y = n.Conv(x, n.weight(6, 1, 3, 3), group=6)
    z = n.BatchNormalization(y, n.positive(6), n.weight(6), n.weight(6), n.positive(6))
    n.output(z)
    graph, facts = network(n)
    loss = squared_error(graph, facts, z)
    feeds = {**n.feeds()[0], f"{z}.target": np.ones(n.shape(z), np.float32)}
    gates = [Gate(x, (1,)), Gate(x, (1,), (y, 0)), Gate(y, (1,))]
    whole, reader, inner = steps_of(graph, facts, loss, feeds, gates=gates, reduction="sum").gates
    np.testing.assert_allclose(reader, whole, rtol=1e-4)
    np.testing.assert_allclose(inner, whole, rtol=1e-3)  # no bias between: a gate of x is one of y


# ---------------------------------------------------------------- what makes it fast, and exact


@pytest.mark.parametrize("group", [1, 8])
def test_folding_and_products_change_nothing(group):
    n = Net(f"bn {group}")
    x = n.input("batch", 8, 6, 6)
    y = n.Conv(x, n.weight(8, 8 // group, 3, 3), n.weight(8), group=group, pads=[1, 1, 1, 1])
    y = n.Relu(n.BatchNormalization(y, n.positive(8), n.weight(8), n.weight(8), n.positive(8), epsilon=0.01))
    n.output(y)
    graph, facts = network(n)
    target = np.ones(n.shape(y), np.float32)
    feeds = {**n.feeds()[0], f"{y}.target": target}
    loss = squared_error(graph, facts, y)
    conv = graph.nodes[0].outputs[0]
    fast = steps_of(graph, facts, loss, feeds, keep=[y])
    plain = steps_of(graph, facts, loss, feeds, keep=[y, conv])  # what is asked for stays as it is
    operators = backward(graph, facts, loss, weights_of(graph)).graph.operators()
    assert "BatchNormalization" not in operators
    assert ("Conv" in operators) == (group == 1)
    assert conv in plain.kept
    np.testing.assert_allclose(fast.kept[y], run(n.model([y]), n.feeds()[0])[0], rtol=1e-4, atol=1e-5)
    for name, gradient in plain.gradients.items():
        np.testing.assert_allclose(fast.gradients[name], gradient, rtol=1e-3, atol=1e-6)
    compare(n.finished(), n.feeds()[0], n.symbols)


def test_what_backward_does_not_need_is_not_held():
    """Behind the node that makes it, and what is made of it in place, nothing reads it."""
    n = Net("kept")
    x = n.input("batch", 3, 6, 6)
    first = n.Conv(x, n.weight(8, 3, 3, 3), n.weight(8))
    second = n.Conv(n.Clip(first, np.float32(0), np.float32(6)), n.weight(8, 8, 3, 3), n.weight(8))
    third = n.Relu(second)
    n.output(third)
    graph, facts = network(n)
    gradient = backward(graph, facts, squared_error(graph, facts, third), weights_of(graph)).graph
    assert [node.op for node, _ in gradient.readers[first]] == ["Clip"]
    assert [node.op for node, _ in gradient.readers[second]] == ["Relu"]


def test_layers_before_the_first_weight_have_no_backward_pass():
    net = small()
    graph, facts = network(net)
    last = [w for w in weights_of(graph) if graph.shape_of_constant(w) == (8, 4)]
    gradient = backward(graph, facts, squared_error(graph, facts, graph.outputs[0]), last).graph
    assert gradient.operators()["Conv"] == 2
    assert "ConvTranspose" not in gradient.operators()


def test_ties_of_a_maximum_share_its_gradient():
    n = Net("ties")
    x = n.input(1, 1, 4, 4, feed=np.ones((1, 1, 4, 4), np.float32))
    for attributes in ({"strides": [2, 2]}, {"strides": [1, 1]}):
        y = n.MaxPool(x, kernel_shape=[2, 2], **attributes)
        graph = Graph(n.model([y]))
        facts = infer(graph)
        feeds = {**n.feeds()[0], f"{y}.target": np.ones(n.shape(y), np.float32)}
        gradient = steps_of(graph, facts, linear(graph, facts, y), feeds, wrt=[x]).gradients[x]
        assert gradient.sum() == pytest.approx(n.value(y).size)  # not once for each of four


def test_a_row_that_is_masked_whole_has_no_gradient_instead_of_nan():
    n = Net("masked")
    x = n.input(2, 3)
    mask = np.asarray([[0, 0, 0], [-np.inf] * 3], np.float32)
    p = n.Softmax(n.Add(x, mask), axis=-1)
    y = n.Where(n.IsNaN(p), np.float32(0), p)
    n.output(y)
    graph, facts = network(n)
    feeds = {**n.feeds()[0], f"{y}.target": np.asarray([[1, 2, 3], [4, 5, 6]], np.float32)}
    gradient = steps_of(graph, facts, linear(graph, facts, y), feeds, wrt=[x]).gradients[x]
    assert np.abs(gradient[0]).max() > 1e-3
    assert not gradient[1].any()


def test_an_exponent_that_moves_is_read_as_it_is():
    n = Net("exponent")
    x, p = n.input(2, 3, feed=n.positive(2, 3)), n.const(np.float32(2), "p")
    y = n.Pow(x, p)
    n.output(y)
    graph, facts = network(n)
    runner = Runner(backward(graph, facts, linear(graph, facts, y), ["p", x]))
    runner.weights["p"][...] = 3
    feeds = {**n.feeds()[0], f"{y}.target": np.ones((2, 3), np.float32)}
    found = runner.step(feeds).gradients
    np.testing.assert_allclose(found[x], 3 * feeds[x] ** 2, rtol=1e-5)
    np.testing.assert_allclose(found["p"], (feeds[x] ** 3 * np.log(feeds[x])).sum(), rtol=1e-4)


def test_double_precision():
    n = Net("double")
    x = n.input("batch", 3, feed=n.random.standard_normal((2, 3)))
    w = n.const(n.random.standard_normal((3, 4)))
    n.output(n.Softmax(n.Tanh(n.MatMul(x, w))))
    compare(n.finished(), n.feeds()[0], n.symbols, tolerance=1e-5)


# ---------------------------------------------------------------- float16


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_sixteen_bits_are_differentiated_in_thirty_two(kind):
    """The gradient is that of the function which the network rounds."""
    net = small()
    model = net.finished()
    narrow = onnx.ModelProto.FromString(model.SerializeToString())
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in narrow.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(value.astype(dtype), tensor.name))
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            rounded = value.astype(dtype).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    for value in [*narrow.graph.input, *narrow.graph.output, *narrow.graph.value_info]:
        value.type.tensor_type.elem_type = kind
    wide, other = Graph(model), Graph(narrow)
    facts, other_facts = infer(wide, net.symbols), infer(other, net.symbols)
    output, (name,) = wide.outputs[0], wide.inputs
    x = net.feeds()[0][name].astype(dtype)
    target = np.ones((2, 4), np.float32)
    wrt = weights_of(wide)
    assert weights_of(other) == wrt
    loss, other_loss = squared_error(wide, facts, output), squared_error(other, other_facts, output)
    expected = steps_of(wide, facts, loss, {name: x.astype(np.float32), f"{output}.target": target})
    gradient = backward(other, other_facts, other_loss, wrt)
    assert {w.dtype for w in gradient.weights.values()} == {np.dtype(np.float32)}
    found = Runner(gradient).step({name: x, f"{output}.target": target})
    for weight, value in expected.gradients.items():
        np.testing.assert_allclose(found.gradients[weight], value, rtol=1e-4, atol=1e-7)
    again = with_weights(other, {n: 2 * w for n, w in gradient.weights.items()})
    assert all(again.dtype(n) == dtype for n in gradient.weights)


# ---------------------------------------------------------------- what can't be said


def blocked_net() -> Net:
    """A Det, which has no rule, in one of two branches."""
    n = Net("blocked")
    x = n.input(2, 3, 3)
    inner = n.MatMul(x, n.const(n.weight(3, 3), "before"))
    det = n.Unsqueeze(n.Det(inner), [1])
    other = n.ReduceMean(n.MatMul(x, n.const(n.weight(3, 3), "beside")), axes=[1, 2], keepdims=0)
    n.output(n.Add(n.MatMul(det, n.const(n.weight(1, 1 + 1), "behind")), n.Unsqueeze(other, [1])))
    n.const(n.weight(3, 3), "unread")
    return n


def test_coverage_names_the_node_in_the_way():
    graph, facts = network(blocked_net())
    coverage = differentiable(graph, facts, ["before", "beside", "behind", "unread"])
    assert coverage.differentiable == ("beside", "behind")
    assert coverage.unused == ("unread",)
    ((obstacle, behind),) = coverage.obstacles.items()
    assert behind == ("before",)
    assert obstacle.op == "Det"
    assert "there is no rule for Det" in str(obstacle)
    assert graph.nodes[obstacle.node].op == "Det"


def test_what_is_blocked_is_refused_and_the_rest_is_not():
    net = blocked_net()
    graph, facts = network(net)
    loss = linear(graph, facts, graph.outputs[0])
    with pytest.raises(
        Infeasible, match=r"Det '.*': 'before' has no gradient: there is no rule for Det; leave"
    ):
        backward(graph, facts, loss, ["before", "beside"])
    compare(net.finished(), net.feeds()[0], {}, wrt=["beside", "behind"])


def test_all_obstacles_on_the_way_are_told():
    n = Net("two obstacles")
    some = n.Compress(n.Tanh(n.const(n.weight(3, 4, 4), "w")), np.asarray([True, False, True]), axis=0)
    n.output(n.Det(some))
    graph, facts = network(n)
    assert [o.op for o in differentiable(graph, facts, ["w"]).obstacles] == ["Compress", "Det"]


def test_bodies_are_named():
    then, other = (
        helper.make_graph(
            [helper.make_node(op, ["w"], [f"{op}.out"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}.out", 1, [2, 2])],
        )
        for op in ("Abs", "Neg")
    )
    nodes = [helper.make_node("If", ["flag"], ["y"], name="choice", then_branch=then, else_branch=other)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("flag", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", 1, [2, 2])],
        [numpy_helper.from_array(np.ones((2, 2), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = differentiable(Graph(model), infer(Graph(model)), ["w"])
    ((obstacle, _),) = found.obstacles.items()
    assert str(obstacle) == "If 'choice': If has a body"


def test_a_branch_that_is_known_is_taken():
    then, other = (
        helper.make_graph(
            [helper.make_node(op, ["w"], [f"{op}.out"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}.out", 1, [2, 2])],
        )
        for op in ("Tanh", "Neg")
    )
    nodes = [
        helper.make_node("If", ["flag"], ["z"], then_branch=then, else_branch=other),
        helper.make_node("Add", ["z", "x"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 2])],
        [helper.make_tensor_value_info("y", 1, [2, 2])],
        [
            numpy_helper.from_array(np.full((2, 2), 0.5, np.float32), "w"),
            numpy_helper.from_array(np.asarray(True), "flag"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    known = Graph(model)
    facts = infer(known)
    feeds = {"x": np.zeros((2, 2), np.float32), "y.target": np.ones((2, 2), np.float32)}
    found = steps_of(known, facts, linear(known, facts, "y"), feeds, wrt=["w"]).gradients["w"]
    np.testing.assert_allclose(found, 1 - np.tanh(0.5) ** 2, rtol=1e-5)


def test_sixteen_bits_around_a_body_are_refused_with_a_reason():
    body = helper.make_graph(
        [helper.make_node("Neg", ["w"], ["out"])],
        "body",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT16, [2])],
    )
    nodes = [helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("flag", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [2])],
        [numpy_helper.from_array(np.ones(2, np.float16), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = differentiable(Graph(model), infer(Graph(model)), ["w"])
    assert [o.reason for o in found.obstacles] == ["computes with 16 bits around loops or branches"]


def test_an_old_operator_set_is_refused_with_a_reason():
    n = Net("old", opset=9)
    n.output(n.Tanh(n.Mul(n.input(2, 3), n.const(n.weight(3), "w"))))
    graph, facts = network(n)
    coverage = differentiable(graph, facts, ["w"])
    assert [o.reason for o in coverage.obstacles] == ["gradients need opset 11 or newer, and this is 9"]
    with pytest.raises(Infeasible, match="opset 11"):
        backward(graph, facts, linear(graph, facts, graph.outputs[0]), ["w"])


@pytest.mark.parametrize(
    ("wrt", "words"), [("nothing", "there is no such tensor"), ("ids", "has no gradient, as it is int64")]
)
def test_what_can_have_no_gradient_is_refused(wrt, words):
    n = Net("ids")
    n.output(n.Gather(n.weight(5, 3), n.const(np.asarray([1, 2]), "ids")))
    graph, facts = network(n)
    with pytest.raises(UsageError, match=words):
        backward(graph, facts, linear(graph, facts, graph.outputs[0]), [wrt])


def test_a_gate_of_a_constant_is_refused():
    net = small()
    graph, facts = network(net)
    weight = weights_of(graph)[0]
    with pytest.raises(UsageError, match="a constant has no gradients by sample"):
        backward(graph, facts, squared_error(graph, facts, graph.outputs[0]), [], gates=[Gate(weight, (0,))])


def test_settings_are_no_weights():
    n = Net("settings")
    scales = n.Concat(np.asarray([1, 1], np.float32), np.asarray([2, 2], np.float32), axis=0)
    n.output(n.Resize(n.Conv(n.input(1, 2, 3, 3), n.const(n.weight(2, 2, 1, 1), "w")), None, scales))
    graph, facts = network(n)
    assert weights_of(graph) == ("w",)
    assert differentiable(graph, facts, ["w"]).differentiable == ("w",)


# ---------------------------------------------------------------- running


def test_weights_are_changed_in_place():
    net = small()
    graph, facts = network(net)
    output = graph.outputs[0]
    runner = Runner(backward(graph, facts, squared_error(graph, facts, output), weights_of(graph)))
    feeds = {**net.feeds()[0], f"{output}.target": np.full((2, 4), 0.3, np.float32)}
    first = runner.step(feeds)
    start = first.loss
    buffers = {n: id(g) for n, g in first.gradients.items()}
    for _ in range(60):
        step = runner.step(feeds)
        assert {n: id(g) for n, g in step.gradients.items()} == buffers
        for name, weight in runner.weights.items():
            np.subtract(weight, 0.3 * step.gradients[name], out=weight)
    assert runner.step(feeds).loss < 0.05 * start
    trained = with_weights(graph, runner.weights)
    outputs = Session(trained.serialized()).run(net.feeds()[0])[output]
    assert np.abs(outputs - 0.3).max() < np.abs(run(net.model(), net.feeds()[0])[0] - 0.3).max()


def test_feeds_that_do_not_fit_are_told():
    net = small()
    graph, facts = network(net)
    output = graph.outputs[0]
    runner = Runner(backward(graph, facts, squared_error(graph, facts, output), weights_of(graph)))
    with pytest.raises(InputError, match=f"input '{output}.target': no array is given for it"):
        runner.step(net.feeds()[0])
    with pytest.raises(InputError, match="float64"):
        runner.step({**net.feeds()[0], f"{output}.target": np.zeros((2, 4))})


def test_the_same_graph_comes_out_twice():
    net = small()
    graph, facts = network(net)
    made = [
        backward(
            graph, facts, squared_error(graph, facts, graph.outputs[0]), weights_of(graph)
        ).graph.serialized()
        for _ in range(2)
    ]
    assert made[0] == made[1]


# ---------------------------------------------------------------- second order


def test_hessian_products_are_differences_of_gradients():
    net = small()
    graph, facts = network(net)
    output, wrt = graph.outputs[0], weights_of(graph)
    loss = squared_error(graph, facts, output)
    rng = np.random.default_rng(0)
    feeds = {**net.feeds()[0], f"{output}.target": rng.standard_normal((2, 4)).astype(np.float32)}
    product = hessian_product(graph, facts, loss, wrt)
    runner = Runner(backward(graph, facts, loss, wrt))
    ways = {n: rng.standard_normal(w.shape).astype(np.float32) for n, w in runner.weights.items()}
    found = Runner(product.gradient).step({**feeds, **{product.directions[n]: ways[n] for n in wrt}})
    sides = []
    start = {n: w.copy() for n, w in runner.weights.items()}
    for sign in (1, -1):
        for n, w in runner.weights.items():
            w[...] = start[n] + sign * 1e-2 * ways[n]
        sides.append({n: g.astype(np.float64) for n, g in runner.step(feeds).gradients.items()})
    for n in wrt:
        seen = (sides[0][n] - sides[1][n]) / 2e-2
        assert np.linalg.norm(found.gradients[n] - seen) < 0.01 * np.linalg.norm(seen) + 1e-4, n


# ---------------------------------------------------------------- documents


def test_the_example_of_the_page_runs(monkeypatch):
    root = MODELS[0].parents[1]
    monkeypatch.chdir(root)
    page = (root / "docs" / "gradients.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(code, {})
    assert int(re.search(r"(\d+) operators have rules", page)[1]) == len(RULES)


# ---------------------------------------------------------------- lengths


def test_lengths_that_follow_the_batch_are_open():
    net = small()
    graph, facts = network(net)
    lengths = fixed_lengths(graph, facts)
    assert lengths[graph.outputs[0]] == (None, 4)
    assert lengths[graph.inputs[0]] == (None, 3, 6, 5)
