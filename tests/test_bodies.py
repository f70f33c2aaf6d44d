"""What is in the bodies of If, Loop and Scan counts: parameters, multiplications, memory, dead channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from branches import branch, detector, layers, networks
from nets import Net
from onnx import TensorProto, helper, numpy_helper

from onnxprune.check.dead import dead_channels
from onnxprune.check.diff import diff
from onnxprune.check.layers import layers as layers_of
from onnxprune.check.measure import open_model
from onnxprune.check.same import different_weights, structure
from onnxprune.cost.macs import macs, uncounted
from onnxprune.cost.memory import peak
from onnxprune.graph import Graph, flattened, infer

STEPS, B, WIDTH = 5, 2, 8


def values(shape: dict[str, Any]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in shape.items()]


def turning(kind: str, *, known: bool = True, seed: int = 0, zeros: int = 0) -> Graph:
    """A state (B, WIDTH) that a Loop or Scan multiplies by a weight in each of STEPS turns."""
    weight = np.random.default_rng(seed).standard_normal((WIDTH, WIDTH)).astype(np.float32)
    weight[:, :zeros] = 0
    inner = [numpy_helper.from_array(weight, "w")]
    nodes = [helper.make_node("MatMul", ["now", "w"], ["next"], name="inside")]
    inputs = values({"x": [B, WIDTH], "parts": [STEPS if known else "steps", B, WIDTH]})
    if kind == "Scan":
        nodes.append(helper.make_node("Add", ["next", "part"], ["seen"]))
        body = helper.make_graph(
            nodes, "body", values({"now": None, "part": None}), values({"next": None, "seen": None}), inner
        )
        node = helper.make_node("Scan", ["x", "parts"], ["y", "all"], body=body, num_scan_inputs=1)
    else:
        scalars = [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
        ]
        nodes.append(helper.make_node("Identity", ["goes"], ["going"]))
        going = helper.make_tensor_value_info("going", TensorProto.BOOL, [])
        body = helper.make_graph(
            nodes, "body", [*scalars, *values({"now": None})], [going, *values({"next": None})], inner
        )
        node = helper.make_node("Loop", ["count", "yes", "x"], ["y"], body=body)
        inputs.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
    constants = [numpy_helper.from_array(np.asarray(STEPS), "count")] if known else []
    if kind == "Loop" and not known:
        inputs.append(helper.make_tensor_value_info("count", TensorProto.INT64, []))
    graph = helper.make_graph([node], "net", inputs, values({"y": [B, WIDTH]}), constants)
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


# ---------------------------------------------------------------- counting


def test_the_dearest_branch_counts() -> None:
    n = networks()
    graph = Graph(n.finished())
    facts = infer(graph)
    positions = int(np.prod(n.shape(graph.outputs[0]))) // 5
    larger = positions * (n.C * 16 + 16 * 6)
    (chooser,) = [node for node in graph.nodes if node.op == "If"]
    found = macs(graph, facts)
    assert found[chooser.index] == larger
    assert sum(found.values()) == larger + positions * (3 * n.C + 6 * 5)
    assert uncounted(graph, facts) == ()
    assert graph.parameters() == flattened(graph).parameters()


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_all_turns_count(kind: str) -> None:
    graph = turning(kind)
    assert graph.parameters() == WIDTH * WIDTH
    assert sum(macs(graph, infer(graph)).values()) == STEPS * B * WIDTH * WIDTH
    assert uncounted(graph, infer(graph)) == ()


def test_turns_that_nothing_tells_count_once_and_that_is_said() -> None:
    graph = turning("Loop", known=False)
    assert sum(macs(graph, infer(graph)).values()) == B * WIDTH * WIDTH
    (told,) = uncounted(graph, infer(graph))
    assert str(told) == "Loop (its number of iterations is not known: one is counted)"


def test_turns_are_those_of_a_chosen_size() -> None:
    graph = turning("Scan", known=False)
    assert sum(macs(graph, infer(graph, {"steps": 7})).values()) == 7 * B * WIDTH * WIDTH


def test_what_a_body_leaves_out_is_told() -> None:
    n = Net("foreign", opset=17)
    x = n.conv()
    inner = [helper.make_node("Layer", [x], ["made"], domain="somebody.else")]
    body = helper.make_graph(inner, "then", [], values({"made": None}))
    other = helper.make_graph([helper.make_node("Relu", [x], ["kept"])], "else", [], values({"kept": None}))
    n.output(n.If(n.input(1, feed=np.asarray([True])), then_branch=body, else_branch=other))
    graph = Graph(n.model())
    assert [str(found) for found in uncounted(graph, infer(graph))] == ["somebody.else:Layer (no rule)"]


def test_memory_of_the_larger_branch_counts() -> None:
    def needs(width: int) -> int:
        n = Net("memory", opset=17)
        x = n.Relu(n.conv())
        n.output(branch(n, lambda m: layers(m, x, width, 6), lambda m: layers(m, x, 8, 6)))
        graph = Graph(n.finished())
        found = peak(graph, infer(graph))
        assert found.unknown == 0
        assert found.weights == sum(4 * int(np.prod(t.dims)) for t in graph.tensors())
        return found.activations

    n = Net("memory")
    positions = n.B * n.H * 3
    assert needs(4) == needs(8)
    assert needs(40) - needs(8) == 4 * 2 * 32 * positions  # of the layer, and of its ReLU


def test_memory_of_a_turn_counts() -> None:
    graph = turning("Loop")
    found = peak(graph, infer(graph))
    assert found.weights == 4 * WIDTH * WIDTH + 8
    assert found.activations > 2 * 4 * B * WIDTH


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_dead_channels_of_bodies_count(kind: str) -> None:
    assert dead_channels(turning(kind)) == 0
    assert dead_channels(turning(kind, zeros=3)) == 3


def test_a_weight_that_both_branches_read_counts_once() -> None:
    n = Net("shared", opset=17)
    weight = n.weight(6, 7, 1, 1)
    weight[:2] = 0
    x, w = n.conv(), n.const(weight)
    n.output(branch(n, lambda m: m.Relu(m.Conv(x, w)), lambda m: m.Neg(m.Conv(x, w))))
    assert dead_channels(Graph(n.finished())) == 2


# ---------------------------------------------------------------- comparing


def test_a_fingerprint_sees_bodies() -> None:
    same, wider = Graph(networks().finished()), Graph(networks(width=13).finished())
    assert same.fingerprint() == Graph(networks().finished()).fingerprint()
    assert same.fingerprint() != wider.fingerprint()


def test_weights_in_bodies_are_compared() -> None:
    a, b = turning("Loop"), turning("Loop", seed=1)
    assert structure(a) == structure(b)
    assert different_weights(a, a) == (0, 2)
    assert different_weights(a, b) == (1, 2)
    assert structure(a) != structure(turning("Scan"))


def test_layers_in_bodies_are_told(tmp_path: Any) -> None:
    for name, width in (("old", 12), ("new", 20)):
        onnx.save(networks(width=width).finished(), tmp_path / f"{name}.onnx")
    old, new = (open_model(tmp_path / f"{name}.onnx", {}) for name in ("old", "new"))
    named = [layer.name for layer in layers_of(old)]
    assert len(named) == len(set(named)) == 6
    assert sum("/then_branch/" in name for name in named) == 2
    found = diff(old, new)
    assert found.relation == "different graph"
    assert {change.kind for change in found.layers} == {"changed"}
    assert len(found.layers) == 4
    assert found.dtypes["float32"][0] < found.dtypes["float32"][1]


def test_a_detector_is_counted() -> None:
    graph = Graph(detector().finished())
    facts = infer(graph)
    assert uncounted(graph, facts) == ()
    found = macs(graph, facts)
    flat = flattened(graph)
    assert 0.5 <= sum(found.values()) / sum(macs(flat, infer(flat)).values()) < 0.7
    assert {node.op for node in graph.nodes if node.index in found} == {"If"}
