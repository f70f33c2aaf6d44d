"""Shapes that the file declares, with symbols in them: used where inference does not reach."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import Net
from onnx import TensorProto, helper
from surgery import check, operate

from onnxprune.graph import Graph, infer

Dim = int | str | None


def declare(model: onnx.ModelProto, name: str, *shape: Dim) -> onnx.ModelProto:
    model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return model


def behind_an_unknown_operator(n: Net, batch: Dim = "batch") -> tuple[onnx.ModelProto, str]:
    """Layers behind com.microsoft:Inverse, for which there is neither a rule nor inference."""
    square = n.conv(n.input(batch, 3, 8, 8), 4)
    inverse = n.microsoft("Inverse", n.Add(square, np.eye(8, dtype=np.float32) * 9))
    n.output(n.conv(n.Relu(n.conv(inverse, 16, (3, 3))), 5))
    model = n.model()
    (output,) = model.graph.output
    output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, [batch, 5, 6, 6]))
    return model, inverse


@pytest.mark.parametrize("batch", ["batch", 2])
def test_layers_behind_an_unknown_operator_are_pruned(batch: Dim) -> None:
    n = Net("unknown", opset=17)
    model, name = behind_an_unknown_operator(n, batch)
    surgery = operate(declare(model, name, batch, 4, 8, 8), dims=n.symbols)
    assert [g.size for g in surgery.analysis.groups] == [16]
    for feeds in n.feeds():
        check(surgery, feeds, all_read=True)


@pytest.mark.parametrize("shape", [(None, 4, 8, 8), ("other", 4, 8, 8)], ids=["unnamed", "not of an input"])
def test_a_size_that_nothing_tells_stays_unknown(shape: tuple[Dim, ...]) -> None:
    model, name = behind_an_unknown_operator(Net("unknown", opset=17))
    assert infer(Graph(declare(model, name, *shape))).shapes[name] is None


def test_sizes_are_those_that_were_chosen() -> None:
    model, name = behind_an_unknown_operator(Net("unknown", opset=17))
    graph = Graph(declare(model, name, "batch", 4, 8, 8))
    assert infer(graph, {"batch": 7}).shapes[name] == (7, 4, 8, 8)
    facts = infer(graph)
    assert facts.shapes[name] == (facts.dims["batch"], 4, 8, 8)


def declared_twice(second: int) -> tuple[Graph, str]:
    """`side` is 8 where inference reaches, and `second` in another place where it does."""
    n = Net("learned", opset=17)
    x = n.input("batch", 3, 8, 8)
    a, b = n.Relu(x), n.Slice(x, [0], [second], [2])
    inverse = n.microsoft("Inverse", a)
    n.output(inverse)
    n.output(b)
    model = declare(n.model(), a, "batch", 3, "side", "side")
    declare(model, b, "batch", 3, "side", 8)
    return Graph(declare(model, inverse, "batch", 3, "side", "side")), inverse


def test_a_symbol_is_learned_where_inference_reaches() -> None:
    graph, name = declared_twice(8)
    assert infer(graph, {"batch": 2}).shapes[name] == (2, 3, 8, 8)


def test_a_symbol_of_two_sizes_is_not_believed() -> None:
    graph, name = declared_twice(4)
    assert infer(graph, {"batch": 2}).shapes[name] is None


def test_layers_behind_an_if_are_pruned() -> None:
    n = Net("if", opset=17)
    x = n.input("batch", 3, 8, 8)
    bodies = []
    for k, op in enumerate(("Relu", "Neg")):
        inner = [helper.make_node(op, [x], [f"made{k}"])]
        made = helper.make_tensor_value_info(f"made{k}", TensorProto.FLOAT, None)
        bodies.append(helper.make_graph(inner, f"body{k}", [], [made]))
    flag = n.input(feed=np.asarray(True))
    y = n.If(flag, then_branch=bodies[0], else_branch=bodies[1])
    n._nodes[-1].attribute[0].g.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    n.output(n.Conv(n.Relu(n.Conv(y, n.weight(16, 3, 3, 3))), n.weight(5, 16, 1, 1)))
    model = n.model()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    surgery = operate(declare(model, y, "batch", 3, 8, 8))
    assert [g.size for g in surgery.analysis.groups] == [16]
    check(surgery, n._feeds, all_read=True)
