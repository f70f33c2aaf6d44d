"""Sizes of symbolic dimensions that weights, or other nodes, demand: none of these is guessed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from nets import Net
from onnx import TensorProto, helper
from surgery import check, operate

from onnxprune.graph import Graph, infer, input_specs
from onnxprune.graph.demands import unmet

Shapes = dict[str, list[Any]]
CASES: list[tuple[str, Callable[[Net], Any], Shapes, dict[str, int]]] = []


def case(inputs: Shapes, **sizes: int) -> Callable[[Callable[[Net], Any]], Callable[[Net], Any]]:
    """A network that reads `inputs`, and the sizes that it demands of their symbols."""

    def register(build: Callable[[Net], Any]) -> Callable[[Net], Any]:
        CASES.append((build.__name__, build, inputs, sizes))
        return build

    return register


def stem(n: Net, width: int = 8) -> str:
    """Two convolutions, each with a halving behind it."""
    x = "x"
    for channels in (3, width):
        y = n.Conv(x, n.weight(width, channels, 3, 3), pads=[1] * 4)
        x = n.MaxPool(y, kernel_shape=[2, 2], strides=[2, 2])
    return x


@case({"x": ["N", "T", "F"]}, F=1575)
def matmul(n: Net) -> Any:
    return n.MatMul("x", n.weight(1575, 8))


@case({"x": ["F", "N"]}, F=21)
def weight_first(n: Net) -> Any:
    return n.MatMul(n.weight(4, 21), "x")


@case({"x": ["F", "N"]}, F=21)
def transposed_gemm(n: Net) -> Any:
    return n.Gemm("x", n.weight(8, 21), transA=1, transB=1)


@case({"x": ["N", "C", "T"]}, C=40)
def conv(n: Net) -> Any:
    return n.Conv("x", n.weight(8, 20, 3), group=2)


@case({"x": ["N", "C", "T"]}, C=20)
def transposed_conv(n: Net) -> Any:
    return n.ConvTranspose("x", n.weight(20, 4, 3))


@case({"x": ["N", "C", "T"]}, C=21)
def batch_norm(n: Net) -> Any:
    return n.BatchNormalization("x", n.positive(21), n.weight(21), n.weight(21), n.positive(21))


@case({"x": ["N", "F"]}, F=21)
def layer_norm(n: Net) -> Any:
    return n.LayerNormalization("x", n.positive(21), n.weight(21))


@case({"x": ["T", "N", "F"]}, F=13)
def lstm(n: Net) -> Any:
    return n.LSTM("x", n.weight(1, 24, 13), n.weight(1, 24, 6), hidden_size=6)


@case({"x": ["T", "N", "F"]}, F=13, N=4)
def lstm_of_a_fixed_batch(n: Net) -> Any:
    weights = [n.weight(1, 24, 13), n.weight(1, 24, 6)]
    return n.LSTM("x", *weights, None, None, n.weight(1, 4, 6), hidden_size=6)


@case({"x": ["N", "F"]}, F=21)
def scaled(n: Net) -> Any:
    return n.Mul("x", n.weight(21))


@case({"x": ["N", "T", "C"]}, T=77, C=8)
def positions_added(n: Net) -> Any:
    return n.Add("x", n.weight(1, 77, 8))


@case({"x": ["N", "T", 5]}, N=6, T=9)
def token_in_front(n: Net) -> Any:
    return n.MatMul(n.weight(6, 4, 10), n.Concat("x", n.weight(6, 1, 5), axis=1))


@case({"x": ["N", "F"]}, F=7)
def split(n: Net) -> Any:
    return n.Split("x", [3, 4], outputs=2, axis=1)


@case({"x": ["N", "T", "F"]}, F=21)
def einsum(n: Net) -> Any:
    return n.Einsum("x", n.weight(21, 4), equation="ntf,fd->ntd")


@case({"x": ["N", 3, "H", "W"]}, H=28, W=28)
def image_flattened(n: Net) -> Any:
    return n.Gemm(n.Flatten(stem(n)), n.weight(8 * 7 * 7, 10))


@case({"x": ["N", 3, "H", "W"]}, H=224, W=224)
def image_viewed(n: Net) -> Any:
    return n.Gemm(n.Reshape(stem(n), [-1, 8 * 56 * 56]), n.weight(8 * 56 * 56, 2))


@case({"x": ["N", 3, "H", 32]}, H=20)
def image_of_one_open_side(n: Net) -> Any:
    return n.Gemm(n.Flatten(stem(n)), n.weight(8 * 5 * 8, 10))


@case({"x": ["N", "T", 5]}, N=1, T=40)
def batch_of_one_in_a_reshape(n: Net) -> Any:
    return n.Reshape(n.MatMul("x", n.weight(5, 8)), [1, 320])


@case({"x": ["N", "T"]}, T=128)
def reflected(n: Net) -> Any:
    x = n.Pad(n.Unsqueeze("x", [1]), [0, 0, 64, 0, 0, 64], mode="reflect")
    return n.Conv(x, n.weight(4, 1, 256), strides=[128])


@case({"x": ["N", 2, "T"]}, T=512)
def dilated(n: Net) -> Any:
    return n.MaxPool(n.Conv("x", n.weight(4, 2, 100), dilations=[3], pads=[2, 2]), kernel_shape=[20])


@case({"x": ["N", "T", 8], "y": ["T", "M", 8]}, M=3)
def the_batch_in_another_place(n: Net) -> Any:
    return n.Concat("x", n.Transpose("y", perm=[1, 0, 2]), axis=2)


@case({"past": ["N", "P", 8], "x": ["N", "T", 8], "mask": ["N", 1, "all"]}, all=32)
def mask_over_a_cache(n: Net) -> Any:
    keys = n.Concat("past", "x", axis=1)
    return n.Add(n.MatMul("x", n.Transpose(keys, perm=[0, 2, 1])), "mask")


def graph_of(n: Net, made: Any, inputs: Shapes) -> Graph:
    """The graph that makes these tensors of its inputs."""
    outputs = [onnx.ValueInfoProto(name=name) for name in ([made] if isinstance(made, str) else made)]
    values = [helper.make_tensor_value_info(k, TensorProto.FLOAT, shape) for k, shape in inputs.items()]
    graph = helper.make_graph(n._nodes, "net", values, outputs, n._initializers)
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.mark.parametrize(("build", "inputs", "sizes"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_sizes_are_what_is_demanded(
    build: Callable[[Net], Any], inputs: Shapes, sizes: dict[str, int]
) -> None:
    n = Net(build.__name__, opset=17)
    facts = infer(graph_of(n, build(n), inputs))
    symbols = {d for shape in inputs.values() for d in shape if isinstance(d, str)}
    assert {s: facts.dims[s] for s in sizes} == sizes
    larger = {"T"} if build.__name__ in ("reflected", "dilated") else set()
    assert facts.guessed == symbols - sizes.keys() | larger
    assert None not in facts.shapes.values()


def test_a_size_that_is_given_stays() -> None:
    n = Net("given", opset=17)
    facts = infer(graph_of(n, matmul(n), {"x": ["N", "T", "F"]}), {"F": 16, "T": 5})
    assert (facts.dims["F"], facts.dims["T"]) == (16, 5)
    assert facts.guessed == {"N"}


def test_what_may_be_broadcast_still_depends_on_its_size() -> None:
    """A sequence of one position fits as well: its length must stay computed."""
    n = Net("loose", opset=17)
    length = n.Gather(n.Shape("x"), [1])
    made = [n.Add("x", n.weight(1, 77, 8)), n.Concat(length, [8], axis=0)]
    facts = infer(graph_of(n, made, {"x": ["N", "T", 8]}))
    assert facts.dims["T"] == 77
    assert facts.dynamic[made[1]].tolist() == [True, False]


def test_what_weights_demand_does_not_depend_on_a_symbol() -> None:
    n = Net("exact", opset=17)
    made = [n.MatMul("x", n.weight(21, 8)), n.Shape("x")]
    facts = infer(graph_of(n, made, {"x": ["N", "F"]}))
    assert facts.dynamic[made[1]].tolist() == [True, False]


def test_a_model_whose_width_is_symbolic_is_pruned() -> None:
    n = Net("wide", opset=17)
    x = n.input("batch", 35)
    n.output(n.gemm(n.Relu(n.gemm(x, 16)), 5))
    model = n.finished()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "features"
    surgery = operate(model)
    assert [g.size for g in surgery.analysis.groups] == [16]
    check(surgery, n.feeds()[0], all_read=True)


def test_demands_that_contradict_leave_the_guess() -> None:
    n = Net("both", opset=17)
    made = [n.MatMul("x", n.weight(21, 8)), n.MatMul("x", n.weight(22, 8))]
    facts = infer(graph_of(n, made, {"x": ["N", "F"]}))
    assert facts.dims["F"] == 21
    assert facts.shapes[made[1]] is None


def test_nothing_is_demanded_of_a_graph_whose_shapes_are_right() -> None:
    n = Net("right", opset=17)
    n.output(n.gemm(n.Flatten(n.Relu(n.conv(n.input(2, 3, 5, 4), 6))), 4))
    graph = Graph(n.finished())
    facts = infer(graph)
    assert [d for node in graph.nodes for d in unmet(node, facts.shapes, facts.values)] == []


def test_an_input_without_a_rank_has_that_of_its_reader() -> None:
    n = Net("unranked", opset=17)
    made = n.Gemm(n.Flatten(stem(n)), n.weight(8 * 7 * 7, 10))
    graph = graph_of(n, made, {"x": []})
    graph.model.graph.input[0].type.tensor_type.ClearField("shape")
    graph = Graph(graph.model)
    facts = infer(graph)
    assert facts.shapes["x"] == (3, 3, 28, 28)
    assert facts.guessed == {"x[0]"}
    assert [spec.shape for spec in input_specs(graph)] == [(None,) * 4]


def test_an_input_without_a_rank_is_no_number() -> None:
    n = Net("unranked", opset=17)
    graph = graph_of(n, n.Relu("x"), {"x": []})
    assert infer(graph).shapes["x"] == ()
    graph.model.graph.input[0].type.tensor_type.ClearField("shape")
    assert infer(Graph(graph.model)).shapes["x"] is None


def test_a_sequence_is_long_enough_for_its_kernels() -> None:
    n = Net("sound", opset=17)
    graph = graph_of(n, n.Conv("x", n.weight(8, 1, 400), strides=[160]), {"x": ["N", 1, "T"]})
    facts = infer(graph)
    assert None not in facts.shapes.values()
    assert facts.dims["T"] >= 400
