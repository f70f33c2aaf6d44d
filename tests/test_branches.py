"""Branches of an If: out beside the rest of the graph and back, counted, pruned and proved."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from branches import both, branch, detector, layers, networks
from nets import Net, run
from surgery import check, operate

from onnxprune.graph import (
    Edits,
    Graph,
    flattened,
    holds_weights,
    infer,
    is_flattened,
    make_node,
    unflattened,
)


def canonical(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def nested_ifs() -> Net:
    """An If in the branch of another one, which reads from it and from around it."""
    n = Net("nested", opset=17)
    x = n.Relu(n.conv())
    flag = n.input(1, feed=np.asarray([True]))

    def outer(m: Net) -> str:
        a = m.Relu(m.conv(x, 9))
        y = branch(m, lambda k: layers(k, a, 10, 6), lambda k: k.Add(k.conv(a, 6), k.conv(x, 6)), flag)
        return str(m.Relu(y))

    n.output(n.conv(str(branch(n, outer, lambda m: m.conv(x, 6))), 4))
    return n


NETS = {"networks": networks, "detector": detector, "nested": nested_ifs}


@pytest.mark.parametrize("name", NETS)
def test_there_and_back(name: str) -> None:
    model = NETS[name]().finished()
    graph = Graph(model)
    flat = flattened(graph)
    assert is_flattened(flat)
    assert not is_flattened(graph)
    onnx.checker.check_model(flat.model, full_check=True)
    assert canonical(unflattened(flat).model) == canonical(graph.model)
    assert unflattened(graph) is graph
    assert flat.parameters() == graph.parameters()
    assert sum(n.op_type != "Identity" for n in flat.model.graph.node) == graph.operators().total()


@pytest.mark.parametrize("name", ["networks", "nested"])
def test_flat_graphs_compute_the_same(name: str) -> None:
    n = NETS[name]()
    flat = flattened(Graph(n.finished()))
    for feeds in both(n.model(), n.feeds()[0]):
        expected, found = run(n.model(), feeds), run(flat.model, feeds)
        np.testing.assert_array_equal(found[0], expected[0])


def test_a_graph_without_branches_is_itself() -> None:
    n = Net("plain")
    n.output(n.conv(n.conv(), 6))
    graph = Graph(n.finished())
    assert flattened(graph) is graph
    assert graph.flat is graph


def test_only_ifs_with_weights_are_wanted() -> None:
    n = Net("shapes", opset=17)
    x = n.conv()
    n.output(n.conv(str(branch(n, lambda m: m.Relu(x), lambda m: m.Neg(x))), 6))
    graph = Graph(n.finished())
    assert flattened(graph, holds_weights) is graph
    assert flattened(graph) is not graph


def test_shapes_are_known_in_branches_and_behind_them() -> None:
    n = networks()
    graph = Graph(n.model())
    facts = infer(graph)
    assert None not in facts.shapes.values()
    assert facts.shapes[graph.outputs[0]] == n.shape(graph.outputs[0])


def test_shapes_that_differ_are_not_known() -> None:
    n = Net("differ", opset=17)
    x = n.conv()
    y = str(branch(n, lambda m: m.conv(x, 6), lambda m: m.conv(x, 7)))
    n.output(y)
    assert infer(Graph(n.model())).shapes[y] is None


@pytest.mark.parametrize("name", ["networks", "nested"])
def test_channels_in_branches_go(name: str) -> None:
    n = NETS[name]()
    graph = flattened(Graph(n.finished()), holds_weights)
    surgery = operate(graph.model, seed=3)
    expected = {"networks": [6, 7, 12, 16], "nested": [6, 7, 9, 10]}[name]
    assert sorted(g.size for g in surgery.analysis.groups) == expected
    back = unflattened(surgery.pruned)
    onnx.checker.check_model(back.model, full_check=True)
    assert back.operators() == Graph(n.finished()).operators()
    assert back.parameters() < 0.5 * surgery.original.parameters()
    for feeds in both(n.model(), n.feeds()[0]):
        check(surgery, feeds, all_read=True)
        np.testing.assert_array_equal(run(back.model, feeds)[0], run(surgery.pruned.model, feeds)[0])


def test_what_was_inserted_in_a_branch_goes_back_into_it() -> None:
    n = networks()
    flat = flattened(Graph(n.finished()))
    convs = [node for node in flat.nodes if node.op == "Conv"]
    inside = convs[1]
    edits = Edits()
    edits.added["scale.new"] = np.float32(2)
    edits.before[inside.index] = [make_node("Mul", [convs[0].outputs[0], "scale.new"], ["read.new"], "new")]
    more = make_node("Abs", [inside.outputs[0]], ["abs.new"], "abs")
    reader = flat.readers[inside.outputs[0]][0][0]
    edits.before[reader.index] = [more]
    edits.rewire[reader.index, 0] = "abs.new"
    back = unflattened(flat.edited(edits))
    (chooser,) = [node for node in back.nodes if node.op == "If"]
    assert "Abs" in {m.op_type for m in chooser.attrs["then_branch"].node}
    assert "Abs" not in {node.op for node in back.nodes}
    assert "Mul" in {node.op for node in back.nodes}
    for feeds in both(n.model(), n.feeds()[0]):
        run(back.model, feeds)


def test_a_tensor_that_others_read_stays_outside() -> None:
    n = networks()
    flat = flattened(Graph(n.finished()))
    inside = [node for node in flat.nodes if node.op == "Conv"][1].outputs[0]
    back = unflattened(flat.tapped([inside]))
    feeds = n.feeds()[0]
    assert back.outputs[-1] == inside
    np.testing.assert_array_equal(run(back.model, feeds)[-1], run(flat.tapped([inside]).model, feeds)[-1])


def test_names_of_both_branches_are_told_apart() -> None:
    flat = flattened(Graph(networks().finished()))
    names = [node.name for node in flat.nodes]
    assert len(set(names)) == len(names)
