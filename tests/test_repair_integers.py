"""Repair of layers that compute with integers, as dynamic quantisation makes them."""

from __future__ import annotations

import numpy as np
import pytest
from calibration import gathered
from nets import Net
from onnx import TensorProto
from repairs import operated, repaired, samples, values

from onnxprune.calibration import DEFAULT_NEEDS
from onnxprune.conversions import unpacked
from onnxprune.conversions.integers import with_float_layers, with_integer_layers
from onnxprune.criteria import Context, get
from onnxprune.graph import Graph, Network
from onnxprune.pipeline import prepare, prune
from onnxprune.quality.loss import Judge
from onnxprune.repair import predicted


def weight_of(n: Net, *shape: int, axis: int | None, zero: bool):
    """Integers, their scale and zero point: one, or one for each index of an axis; and as floats."""
    count = 1 if axis is None else shape[axis]
    w = n.weight(*shape) + (0.3 if zero else 0)  # not around 0, so that a zero point forgotten shows
    scale = (np.abs(w).max() / 100 * n.positive(count)).astype(np.float32)
    points = n.random.integers(90, 160, count).astype(np.uint8)
    along = [1] * len(shape)
    along[axis or 0] = count
    q = np.clip(np.rint(w / scale.reshape(along) + points.reshape(along)), 0, 255).astype(np.uint8)
    return q, scale, points


def layer(n: Net, x: str, kind: str, out: int, bias: str | None, *, each: bool = False, **attributes) -> str:
    """A layer as quantisers write it: `bias` is added `behind`, or as integers `inside`."""
    inputs = n.shape(x)[1 if kind == "ConvInteger" else -1]
    shape = (out, inputs, 3, 3) if kind == "ConvInteger" else (inputs, out)
    axis = (0 if kind == "ConvInteger" else 1) if each else None
    q, scale, points = weight_of(n, *shape, axis=axis, zero=True)
    ones = [1] * (len(shape) - 2) if kind == "ConvInteger" else []
    if axis is None:
        scale, points = scale.reshape(()), points.reshape(())
    x_q, x_scale, x_zero = n.node("DynamicQuantizeLinear", x, outputs=3)
    y = n.node(kind, x_q, q, x_zero, points, **attributes)
    factor = n.Mul(x_scale, scale.reshape(-1, *ones) if axis is not None else scale)
    b = n.weight(out)
    if bias == "inside":
        steps = n.Cast(n.Floor(n.Div(b, n.Mul(x_scale, scale))), to=TensorProto.INT32)
        y = n.Add(y, n.Reshape(steps, np.array([1, -1, *ones])))
    z = n.Mul(n.Cast(y, to=TensorProto.FLOAT), factor)
    return n.Add(z, b.reshape(-1, *ones)) if bias == "behind" else z


def convs(seed: str, bias: str | None, **options) -> Net:
    n = Net(seed)
    x = n.Relu(layer(n, n.input(n.B, 5, n.H, n.W), "ConvInteger", 12, bias, pads=[1] * 4))
    n.output(layer(n, x, "ConvInteger", 5, bias, pads=[1] * 4, **options))
    return n


def products(seed: str, bias: str | None, **options) -> Net:
    n = Net(seed)
    x = n.Relu(layer(n, n.input(n.B, n.H, 16), "MatMulInteger", 12, bias))
    n.output(layer(n, x, "MatMulInteger", 5, bias, **options))
    return n


CASES = {
    "conv": lambda: convs("conv", None),
    "conv, bias behind": lambda: convs("behind", "behind"),
    "conv, bias inside": lambda: convs("inside", "inside"),
    "product": lambda: products("product", None),
    "product, bias behind": lambda: products("product behind", "behind"),
    "product, a scale for each output": lambda: products("each", "behind", each=True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_float_layer_gives_what_the_integers_give(case):
    n = CASES[case]()
    graph = Graph(n.finished())
    floats, layers = with_float_layers(graph)
    assert [layer.node.op for layer in layers] == [n.op for n in graph.nodes if n.op.endswith("Integer")]
    (feeds,) = samples(n, 1)
    (name,) = graph.outputs
    (exact,), (given,) = values(graph, feeds, name), values(floats, feeds, name)
    assert np.abs(exact - given).max() < 0.03 * np.abs(exact).max()


@pytest.mark.parametrize("case", CASES)
def test_back_again_nothing_has_changed(case):
    n = CASES[case]()
    graph = Graph(n.finished())
    again = with_integer_layers(*with_float_layers(graph))
    (feeds,) = samples(n, 1)
    np.testing.assert_array_equal(values(graph, feeds, *graph.outputs), values(again, feeds, *graph.outputs))
    assert again.operators() == graph.operators()
    assert {k for k in again.constants if again.is_weight(k)} == {
        k for k in graph.constants if graph.is_weight(k)
    }


@pytest.mark.parametrize("case", CASES)
def test_what_is_left_makes_up_for_what_is_gone(case):
    n = CASES[case]()
    cut = operated(n.finished(), share=0.4)
    batches = samples(n, 24)
    made = repaired(cut, "auto", batches[:16], batches[16:])
    assert made.repaired.mode == "fold"
    assert made.repaired.after < 0.7 * made.repaired.before
    assert not made.repaired.notes
    assert not made.omitted
    used = made.graph.operators()
    assert used["ConvInteger"] + used["MatMulInteger"] == 2
    assert not used["Conv"] + used["MatMul"]


def test_a_bias_is_made_where_there_was_none():
    """ReLU's outputs have means, which no other weight can make up for as well."""
    n = convs("none", None)
    cut = operated(n.finished(), share=0.4)
    batches = samples(n, 24)
    before = cut.network.graph.operators()["Add"]
    found = repaired(cut, "bias", batches[:16], batches[16:]).repaired
    assert found.after < found.before
    assert found.graph.operators()["Add"] == before + 1


def test_a_bias_inside_stays_inside():
    n = convs("inside", "inside")
    cut = operated(n.finished(), share=0.4)
    batches = samples(n, 24)
    found = repaired(cut, "bias", batches[:16], batches[16:]).repaired
    assert found.after < found.before
    assert found.graph.operators() == cut.network.graph.operators()


def test_a_weight_that_two_layers_read_stays_as_it_is():
    n = Net("shared")
    x = n.Relu(layer(n, n.input(n.B, n.H, 3), "MatMulInteger", 12, None))
    x_q, x_scale, x_zero = n.node("DynamicQuantizeLinear", x, outputs=3)
    q, scale, points = weight_of(n, 12, 5, axis=None, zero=True)
    weight = n.const(q)
    for data in (x_q, x_q):
        y = n.MatMulInteger(data, weight, x_zero, points.reshape(()))
        n.output(n.Mul(n.Cast(y, to=TensorProto.FLOAT), n.Mul(x_scale, scale.reshape(()))))
    assert len(with_float_layers(Graph(n.finished()))[1]) == 1


@pytest.mark.parametrize("case", [case for case in CASES if "each" not in case])
def test_scores_are_those_of_the_float_layer(case):
    """Where there is one scale; several of one layer don't count."""
    n = CASES[case]()
    graph = Graph(n.finished())
    batches = samples(n, 24)

    def scores(graph: Graph) -> np.ndarray:
        space = prepare(graph, simplify=False).channels
        (found,) = get("wanda").scores(Context(space, gathered(space, DEFAULT_NEEDS, batches)))
        return found

    floats = prepare(with_float_layers(graph)[0]).graph  # without the nodes that give nothing any more
    a, b = scores(graph), scores(floats)
    np.testing.assert_allclose(a, b, rtol=0.1, atol=0.03 * b.max())


@pytest.mark.parametrize("case", CASES)
def test_groups_are_measured_with_their_repair(case):
    n = CASES[case]()
    cut = operated(n.finished(), share=0.4)
    (space,), graph = cut.spaces, cut.base.graph
    stats = gathered(space, DEFAULT_NEEDS, samples(n, 24))
    reference = space.mask(cut.base, cut.choice)
    variant = predicted(reference, cut.lost, graph, stats)
    judge = Judge(graph, samples(n, 4, seed=2))
    assert judge.loss(variant.graph) < 0.7 * judge.loss(reference.graph)


@pytest.mark.parametrize("case", CASES)
def test_statistics_alone_make_up_for_what_is_gone(case):
    n = CASES[case]()
    cut = operated(n.finished(), share=0.4)
    (space,) = cut.spaces
    made = repaired(cut, "auto", stats=gathered(space, DEFAULT_NEEDS, samples(n, 24)))
    assert made.repaired.mode == "stats"
    judge = Judge(cut.base.graph, samples(n, 4, seed=2))
    assert judge.loss(made.graph) < 0.7 * judge.loss(cut.network.graph)
    used = made.graph.operators()
    assert used["ConvInteger"] + used["MatMulInteger"] == 2
    assert not used["Conv"] + used["MatMul"]


@pytest.mark.parametrize("case", CASES)
def test_integers_as_floats_and_back(case):
    """As networks, as repairs have them."""
    n = CASES[case]()
    network = Network(Graph(n.finished()))
    floats, packing = unpacked(network)
    integers = [node.outputs[0] for node in network.graph.nodes if node.op.endswith("Integer")]
    assert packing.outputs == set(integers)
    (feeds,) = samples(n, 1)
    outputs = network.graph.outputs
    again = packing.packed(floats).graph
    np.testing.assert_array_equal(values(network.graph, feeds, *outputs), values(again, feeds, *outputs))


@pytest.mark.parametrize("case", CASES)
def test_surgery_is_exact(case):
    n = CASES[case]()
    batches = samples(n, 40)
    whole = {k: np.concatenate([feeds[k] for feeds in batches]) for k in batches[0]}
    result = prune(Graph(n.finished()), macs=0.7, calib=[whole], simplify=False, round_to=1)
    assert result.verdict.surgery_error < 1e-6
    assert result.repaired.mode == "fold"
