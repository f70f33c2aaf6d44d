"""Repair as a whole: never for the worse, whatever the model looks like."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from calibration import gathered
from nets import Net
from onnx import TensorProto, helper, numpy_helper
from repairs import operated, repaired, samples
from test_ops import dynamic_product, qdq_conv

from onnxprune.conversions.stored import Integers, decoded
from onnxprune.criteria import Context, get
from onnxprune.graph import Graph
from onnxprune.pipeline import prepare
from onnxprune.quality.loss import Judge
from onnxprune.repair import Task, fitted


def predictable(n, x=None):
    """Layers whose channels say something about one another."""
    return n.LeakyRelu(n.conv(x, 4 * n.C, kernel=(3, 3), pads=[1, 1, 1, 1]), alpha=0.3)


def better(cut, batches, mode="auto"):
    """Repaired, valid, and closer to the original on other samples."""
    found = repaired(cut, mode, batches[:-2], batches[-2:])
    onnx.checker.check_model(found.graph.model)
    judge = Judge(cut.base.graph, batches[-2:])
    assert found.repaired.mode != "none"
    assert judge.loss(found.graph) < judge.loss(cut.network.graph)
    return found


@pytest.mark.parametrize("mode", ["bias", "fold", "reuse", "auto"])
def test_every_mode_helps(mode):
    n = Net("modes")
    n.output(n.conv(predictable(n), 5, kernel=(3, 3), pads=[1, 1, 1, 1]))
    better(operated(n.finished()), samples(n, 20), mode)


def cast(model, kind):
    """The model in another floating-point type, fed with float32 through Casts."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for t in model.graph.initializer:
        if t.data_type == TensorProto.FLOAT:
            t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(dtype), t.name))
    (source,), (result,) = model.graph.input, model.graph.output
    for node in model.graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = "narrow" if name == source.name else name
        for k, name in enumerate(node.output):
            node.output[k] = "wide" if name == result.name else name
    model.graph.node.insert(0, helper.make_node("Cast", [source.name], ["narrow"], to=kind))
    model.graph.node.append(helper.make_node("Cast", ["wide"], [result.name], to=TensorProto.FLOAT))
    return model


def narrow(kind):
    n = Net("narrow", opset=22)
    x = n.MatMul(n.input(16, n.H, 3), n.weight(3, 4 * n.C))
    n.output(n.MatMul(n.Relu(x), n.weight(4 * n.C, 5)))
    return operated(cast(n.finished(), kind)), samples(n, 20)


def test_float16_is_fitted_wide_and_stays_narrow():
    found = better(*narrow(TensorProto.FLOAT16))
    for name in found.graph.constants:
        assert found.graph.dtype(name) in (np.float16, np.int64), name


def stored(graph):
    """The weights that DequantizeLinear reads."""
    nodes = [n for n in graph.nodes if n.op == "DequantizeLinear" and n.inputs[0] in graph.constants]
    return {n.name: graph.array(n.inputs[0]) for n in nodes}


def test_stored_weights_are_fitted_and_stored_again():
    n = Net("stored")
    n.output(qdq_conv(n, predictable(n), 6))
    cut = operated(n.finished())
    found = better(cut, samples(n, 20))
    assert not found.repaired.notes
    assert not found.omitted
    before, after = stored(cut.network.graph), stored(found.graph)
    assert before.keys() == after.keys() != set()
    assert all(before[k].dtype == after[k].dtype and before[k].shape == after[k].shape for k in before)
    assert any((before[k] != after[k]).any() for k in before)
    assert {o.op for o in found.graph.nodes} == {o.op for o in cut.network.graph.nodes}


def test_stored_weights_are_repaired_from_statistics_and_stored_again():
    n = Net("stored")
    n.output(qdq_conv(n, predictable(n), 6))
    cut = operated(n.finished())
    (space,) = cut.spaces
    made = repaired(cut, "auto", stats=gathered(space, {"consumers"}, samples(n, 20), positions=0))
    assert made.repaired.mode == "stats"
    before, after = stored(cut.network.graph), stored(made.graph)
    assert before.keys() == after.keys() != set()
    assert any((before[k] != after[k]).any() for k in before)
    assert {o.op for o in made.graph.nodes} == {o.op for o in cut.network.graph.nodes}
    judge = Judge(cut.base.graph, samples(n, 4, seed=3))
    assert judge.loss(made.graph) < judge.loss(cut.network.graph)


@pytest.mark.parametrize("kind", ["floats", "stored once", "stored twice"])
def test_a_weight_that_several_layers_read_is_not_made_two_by_statistics(kind):
    """Neither more weights, nor floats in place of integers; a layer with one of its own is repaired."""
    n = Net("shared", opset=18)
    x = n.Add(predictable(n), predictable(n))
    if kind == "floats":
        shared = [n.const(n.weight(6, 4 * n.C, 3, 3))] * 2
    else:
        q = n.const(n.random.integers(-90, 90, (6, 4 * n.C, 3, 3)).astype(np.int8))
        shared = [
            n.DequantizeLinear(q, np.float32(0.01)) for _ in range(1 if kind == "stored once" else 2)
        ] * 2
    for w in shared[:2]:
        n.output(n.Conv(n.Relu(x), w))
    n.output(n.conv(x, 5))
    cut = operated(n.finished())
    (space,) = cut.spaces
    made = repaired(cut, "auto", stats=gathered(space, {"consumers"}, samples(n, 20), positions=0))
    assert made.graph.parameters() == cut.network.graph.parameters()
    assert {o.op for o in made.graph.nodes} == {o.op for o in cut.network.graph.nodes}
    assert made.graph.size() <= cut.network.graph.size() + 100
    judge = Judge(cut.base.graph, samples(n, 4, seed=3))
    assert judge.loss(made.graph) < judge.loss(cut.network.graph)


def test_channels_before_stored_weights_are_chosen_by_what_their_consumers_lose():
    """As on the same network with these weights as floats."""
    n = Net("chosen")
    n.output(qdq_conv(n, n.Relu(n.conv(out=12)), 6))
    found = []
    for graph in (Graph(n.finished()), decoded(Graph(n.finished()))[0]):
        ready = prepare(graph, simplify=False)
        obs = get("obs")
        stats = gathered(ready.channels, obs.needs, samples(n, 20))
        assert len(ready.channels.consumers) == 1
        found.append(obs.scores(Context(ready.channels, stats)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_what_is_stored_comes_back(dtype):
    values = np.arange(100, 124).reshape(4, 3, 2).astype(dtype)
    for size, axis in ((1, 1), (3, 1), (4, 0), (2, -1)):
        scale, zero = np.linspace(0.1, 0.7, size).astype(np.float32), np.arange(size).astype(dtype)
        code = Integers("q", ("v", "s", "z"), (values, scale, zero), {"axis": axis})
        np.testing.assert_array_equal(code.integers(code.floats()), values)
        far = code.integers(code.floats() + 1e12)
        np.testing.assert_array_equal(far, np.full_like(values, np.iinfo(dtype).max))


def test_layers_of_integers_are_told_of():
    n = Net("integers")
    n.output(n.Cast(dynamic_product(n, n.Relu(n.dense())), to=TensorProto.FLOAT))
    found = repaired(operated(n.finished()), "fold", samples(n, 4))
    (left_out,) = found.omitted
    assert "1 integer layers unchanged" in str(left_out)
    n = Net("floats")
    n.output(n.conv(n.conv(n.conv()), 5))
    found = repaired(operated(n.finished()), "fold", samples(n, 4))
    assert not found.repaired.notes
    assert not found.omitted


def test_what_onnx_runtime_has_no_kernels_for_stays_as_it_is():
    cut, batches = narrow(TensorProto.BFLOAT16)
    judge = Judge(narrow(TensorProto.FLOAT)[0].base.graph, batches)
    attempts = [("fold", Task.of(cut), lambda network: network)]
    index, found = fitted(cut.network, attempts, batches, judge)
    assert index is None
    assert found.mode == "none"
    assert found.network is cut.network
    assert "could be judged" in found.notes[0]


def test_what_a_repair_makes_that_can_not_be_run_is_given_up():
    """The next attempt is made, and it is told why."""
    n = Net("given up")
    n.output(n.conv(predictable(n), 5))
    cut, batches = operated(n.finished()), samples(n, 20)
    other, _ = narrow(TensorProto.BFLOAT16)
    attempts = [("fold", Task.of(cut), lambda _: other.network), ("bias", Task.of(cut), lambda found: found)]
    index, found = fitted(cut.network, attempts, batches, Judge(cut.base.graph, batches))
    assert index == 1
    assert found.mode == "bias"
    assert found.after < found.before
    assert "repair by fold failed" in found.notes[0]


def test_several_inputs_outputs_and_symbolic_shapes():
    n = Net("several")
    x, y = n.input("N", 3, n.H, n.W), n.input("N", 3, n.H, n.W)
    a = n.Add(predictable(n, x), predictable(n, y))
    n.output(n.conv(a, 5))
    n.output(n.gemm(n.Flatten(n.GlobalAveragePool(a)), 3))
    n.output(n.ArgMax(n.conv(a, 4), axis=1))
    better(operated(n.finished()), samples(n, 20))


def test_integer_inputs():
    n = Net("tokens")
    ids = n.input(n.B, n.H, feed=np.arange(n.B * n.H).reshape(n.B, n.H) % 9)
    x = n.Gather(n.weight(9, 3), ids)
    n.output(n.dense(n.LeakyRelu(n.dense(x, 4 * n.C), alpha=0.3), 5))
    random = np.random.default_rng(0)
    batches = [{ids: random.integers(0, 9, (n.B, n.H))} for _ in range(20)]
    better(operated(n.finished()), batches)


def test_a_body_that_reads_what_was_repaired():
    n = Net("body")
    x = predictable(n, n.input("N", 3, n.H, n.W))
    y = n.conv(x, 4, kernel=(3, 3), pads=[1, 1, 1, 1])
    z = n.conv(x, 4)
    test = n.Greater(n.ReduceSum(y, keepdims=0), 0.0)
    bodies = [
        helper.make_graph(
            [helper.make_node(op, [y], [f"{op}_of_y"])], op, [], [onnx.ValueInfoProto(name=f"{op}_of_y")]
        )
        for op in ("Relu", "Neg")
    ]
    n.output(n.If(test, then_branch=bodies[0], else_branch=bodies[1]))
    n.output(z)
    better(operated(n.finished()), samples(n, 20))


def test_one_sample_at_a_time_and_one_sample_at_all():
    n = Net("single")
    n.B = 1
    n.output(n.conv(predictable(n), 5))
    cut = operated(n.finished())
    better(cut, samples(n, 20))
    found = repaired(cut, "auto", samples(n, 1))
    onnx.checker.check_model(found.graph.model)
    assert found.repaired.after <= found.repaired.before


def test_samples_that_mislead_are_not_believed():
    n = Net("misleading")
    n.output(n.conv(predictable(n), 5))
    cut = operated(n.finished())
    constant = [{k: np.full_like(v, 50.0) for k, v in f.items()} for f in samples(n, 4)]
    held = samples(n, 4, seed=3)
    found = repaired(cut, "auto", constant, held)
    judge = Judge(cut.base.graph, held)
    assert judge.loss(found.graph) <= judge.loss(cut.network.graph)


def test_the_same_seed_gives_the_same_bytes():
    n = Net("seeds")
    n.output(n.conv(predictable(n), 5))
    cut, batches = operated(n.finished()), samples(n, 6)
    first, second = (repaired(cut, "auto", batches, seed=4).graph.serialized() for _ in range(2))
    assert first == second


def test_no_samples_left_and_nothing_removed():
    n = Net("nothing")
    n.output(n.conv(predictable(n), 5))
    whole = operated(n.finished(), choose=lambda g: np.ones(g.size, bool))
    assert repaired(whole, "auto", samples(n, 2)).repaired.mode == "none"
    assert repaired(operated(n.finished()), "auto", []).repaired.mode == "merge"
