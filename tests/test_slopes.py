"""What a loss feels of units: gradients at gates against differences, and the criteria made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from calibration import build, channels, dumped, gathered, images, in_batches, residual_net, smooth_net
from differences import Gated, slopes
from nets import PRIMES
from onnx import helper, numpy_helper
from onnx.helper import make_node
from scipy.stats import spearmanr
from test_ops import ROWS
from test_ops import build as built

from onnxprune import calibration, prune
from onnxprune.calibration.slopes import GateRunner, sloped
from onnxprune.contracts.gates import WantedGates
from onnxprune.contracts.groups import Choice
from onnxprune.contracts.lesson import Lesson
from onnxprune.contracts.stats import Stats, total
from onnxprune.criteria import Context, get
from onnxprune.errors import Infeasible, InputError, UsageError
from onnxprune.execution.sessions import open_session
from onnxprune.gradients import Runner, divergence, hessian_product, linear
from onnxprune.graph import Graph, Network, infer, load
from onnxprune.pipeline import labelled as read_labelled
from onnxprune.pipeline import loaded
from onnxprune.reductions.channels import Channels

BOTH = frozenset({"slopes", "curvature"})


def felt(space, feeds, labels=None, loss=None, size=16):
    """What a loss feels of all groups."""
    starts = range(0, len(next(iter(feeds.values()))), size)
    pairs = [
        (batch, None if labels is None else labels[start : start + size])
        for start, batch in zip(starts, in_batches(feeds, size), strict=True)
    ]
    return sloped(space.network, space.wanted(BOTH).gates, Lesson(pairs, loss))


def log_softmax(z):
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def classes(count=40):
    return np.random.default_rng(7).integers(0, 5, count)


# ---------------------------------------------------------------- at every kind of reader

OPS = ("Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Einsum", "MatMul", "Gemm", "Attention")
WORDS = ("attention", "heads", "shuffle", "branch", "squeeze")


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in ROWS
        if (row.op in OPS or any(word in row.variant for word in WORDS))
        and not any(word in row.variant for word in ("empty", "lengths", "peepholes", "blocks"))
        and not row.op.startswith("com.microsoft")
    ],
    ids=lambda r: f"{r.op} {r.variant}",
)
def test_gates_say_what_differences_say(row):
    """Also at weights (states of recurrent layers), at grids of groups and heads, and at products of data."""
    n = built(row, PRIMES, max(row.opsets))
    graph = Graph(n.finished())
    network = Network(graph, n.symbols)
    space = Channels().find(network)
    feeds = n.feeds()[0]
    gates = list(space.wanted(frozenset({"slopes"})).gates.groups.values())
    runner = GateRunner(network, linear(graph, network.facts, *graph.outputs), gates)
    r = np.random.default_rng(0)
    ways = [r.standard_normal(y.shape) for y in dumped(graph, feeds, *graph.outputs)]
    found = runner.run({**feeds, **{f"{o}.target": w for o, w in zip(graph.outputs, ways, strict=True)}})

    def loss(*ys):
        return sum((y * way).sum() for y, way in zip(ys, ways, strict=True))

    for group, value in zip(space.groups, found, strict=True):
        if not group.approximate:
            # Of three steps the best: a ReLU may switch within one of them.
            measured = [slopes(space, group, feeds, loss, step=h) for h in (2**-4, 2**-7, 2**-11)]
            errors = [np.abs(way - value.sum(0)).max() / max(np.abs(way).max(), 1e-3) for way in measured]
            assert min(errors) < 1e-2, group.name


def halved(graph):
    """The same network in float16."""
    model = onnx.ModelProto.FromString(graph.serialized())
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = 10
    return Graph(model)


def quantised(graph):
    """The same network, weights as integers, and what layers read rounded to small steps."""
    model = onnx.ModelProto.FromString(graph.serialized())
    nodes = []
    for tensor in list(model.graph.initializer):
        weight = numpy_helper.to_array(tensor)
        scale = np.float32(np.abs(weight).max() / 127)
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(np.round(weight / scale).astype(np.int8), f"{name}.q"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.s"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.s"], [name]))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1 / 127), "step"))
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    for node in model.graph.node:
        if node.op_type == "Gemm" and node.input[0] != "x":
            x = node.input[0]
            nodes.append(helper.make_node("QuantizeLinear", [x, "step", "zero"], [f"{x}.q"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"{x}.q", "step", "zero"], [f"{x}.d"]))
            node.input[0] = f"{x}.d"
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return Graph(model)


@pytest.mark.parametrize("change", [halved, quantised])
def test_other_numbers_feel_the_same(change):
    """Rounding counts as the identity: what differs is what is rounded."""
    graph, x = smooth()
    other = change(graph)
    y = x.astype(np.float16) if change is halved else x
    one, two = felt(channels(graph), {"x": x}), felt(channels(other), {"x": y})
    for a, b in zip(one.values(), two.values(), strict=True):
        np.testing.assert_allclose(b.squares, a.squares, rtol=0.1)
        np.testing.assert_allclose(b.curvature, a.curvature, rtol=0.1)


def test_a_group_that_cannot_be_differentiated_is_named():
    row = next(r for r in ROWS if r.op == "LSTM" and r.variant == "peepholes")
    n = built(row, PRIMES, max(row.opsets))
    space = Channels().find(Network(Graph(n.finished()), n.symbols))
    with pytest.raises(Infeasible, match=r"LSTM with peepholes.*--keep"):
        felt(space, n.feeds()[0])


# ---------------------------------------------------------------- samples


def same(one, other, rtol=1e-4):
    assert one.keys() == other.keys()
    for key, found in one.items():
        assert found.samples == other[key].samples
        for name in ("sum", "magnitude", "squares", "curvature"):
            a, b = getattr(found, name), getattr(other[key], name)
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6 * np.abs(b).max())


def test_batches_are_told_apart_into_samples():
    space, x = channels(residual_net()), images()
    whole = felt(space, {"image": x})
    same(felt(space, {"image": x}, size=1), whole)
    order = np.random.default_rng(0).permutation(len(x))
    same(felt(space, {"image": x[order]}, size=7), whole)


def test_where_they_cannot_be_told_apart_samples_run_alone():
    """As if a site were at a weight."""
    space, x = channels(residual_net()), images(6)
    gates = space.wanted(BOTH).gates
    alone = {
        key: replace(group, sites=tuple(replace(site, by_sample=False) for site in group.sites))
        for key, group in gates.groups.items()
    }
    lesson = Lesson([({"image": x}, None)])
    found = sloped(space.network, WantedGates(alone, gates.orders), lesson)
    same(found, sloped(space.network, gates, lesson))


def test_parts_add_up():
    space, x = channels(residual_net()), images()
    parts = [Stats("", len(p), "", {}, slopes=felt(space, {"image": p})) for p in (x[:16], x[16:])]
    same(total(parts).slopes, felt(space, {"image": x}))


def test_files_keep_them(tmp_path):
    space = channels(residual_net())
    stats = gathered(space, BOTH | {"consumers"}, [{"image": images()}])
    calibration.save(stats, tmp_path / "s.npz")
    same(calibration.load(tmp_path / "s.npz").slopes, stats.slopes, rtol=0)
    key = next(iter(stats.slopes))
    broken = {**stats.slopes, key: replace(stats.slopes[key], squares=-stats.slopes[key].squares)}
    calibration.save(replace(stats, slopes=broken), tmp_path / "s.npz")
    with pytest.raises(InputError, match="squares holds numbers below zero"):
        calibration.load(tmp_path / "s.npz")


# ---------------------------------------------------------------- curvature


def rising(space, group, feeds, loss, step):
    """(units,): second differences of a loss that is 0 where nothing is gated, summed over samples."""
    found = Gated(space, group)
    both = [[loss(*found.run(feeds, j, 1 + s * step)) for s in (1, -1)] for j in range(group.size)]
    return np.asarray([(a + b).sum() for a, b in both]) / step**2


def smooth(last=None, width=5):
    """A net whose losses have two derivatives: x (4) -> 6 -> 7 -> z (width)."""
    r = np.random.default_rng(0)
    weights = {
        "a.w": r.standard_normal((6, 4)).astype(np.float32),
        "b.w": r.standard_normal((7, 6)).astype(np.float32),
        "c.w": r.standard_normal((width, 7)).astype(np.float32),
    }
    nodes = [
        make_node("Gemm", ["x", "a.w"], ["a"], "first", transB=1),
        make_node("Tanh", ["a"], ["s"]),
        make_node("Gemm", ["s", "b.w"], ["b"], "second", transB=1),
        make_node("Tanh", ["b"], ["t"]),
        make_node("Gemm", ["t", "c.w"], ["z"], "third", transB=1),
    ]
    if last is not None:
        nodes.append(make_node(last, ["z"], ["p"]))
    graph = build(nodes, {"x": ["N", 4]}, {"p" if last else "z": ["N", width]}, weights)
    return graph, r.standard_normal((24, 4)).astype(np.float32)


def divergence_of_classes(z):
    p = np.exp(log_softmax(z))
    return lambda logits: (p * (log_softmax(z) - log_softmax(logits))).sum(1)


def divergence_of_answers(p):
    def entropy(q):
        return -(p * np.log(q) + (1 - p) * np.log(1 - q)).mean(1)

    return lambda q: entropy(q) - entropy(p)


@pytest.mark.parametrize(
    ("last", "width", "loss", "rtol"),
    [
        (None, 5, divergence_of_classes, 2e-2),
        (None, 40, divergence_of_classes, 0.4),  # directions are drawn
        ("Sigmoid", 5, divergence_of_answers, 0.4),
    ],
)
def test_curvature_is_that_of_the_divergence(last, width, loss, rtol):
    graph, x = smooth(last, width)
    space = channels(graph)
    found = felt(space, {"x": x})
    (y,) = dumped(graph, {"x": x}, *graph.outputs)
    for group in space.groups:
        measured = rising(space, group, {"x": x}, loss(y), 2**-5)
        np.testing.assert_allclose(found[group.id].curvature, measured, rtol=rtol)


def test_curvature_is_the_diagonal_of_the_hessian():
    """By Hessian-vector products, reverse over reverse, with the gates as a weight."""
    graph, x = smooth()
    space = channels(graph)
    model = onnx.ModelProto.FromString(graph.serialized())
    model.graph.initializer.append(numpy_helper.from_array(np.ones(7, np.float32), "gate"))
    model.graph.node[4].input[0] = "gated"
    model.graph.node.insert(4, helper.make_node("Mul", ["t", "gate"], ["gated"]))
    with_gate = Graph(model)
    facts = infer(with_gate)
    (z,) = dumped(graph, {"x": x}, "z")
    loss = divergence(with_gate, facts, "z")
    product = hessian_product(with_gate, facts, loss, ["gate"], reduction="sum")
    runner = Runner(product.gradient)
    exact = np.zeros(7)
    for j in range(7):
        way = np.eye(7, dtype=np.float32)[j]
        feeds = {"x": x, "z.target": z.astype(np.float32), product.directions["gate"]: way}
        exact[j] = runner.step(feeds).gradients["gate"][j]
    found = felt(space, {"x": x})[space.groups[1].id]
    np.testing.assert_allclose(found.curvature, exact, rtol=1e-3)


def test_without_labels_fisher_is_the_hessian_of_the_loss():
    space = channels(residual_net())
    context = Context(space, gathered(space, BOTH, [{"image": images()}]))
    for one, other in zip(get("fisher").scores(context), get("hessian-loss").scores(context), strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- labels, and losses from files


def of_labels(x, labels, *, loss=None):
    space = channels(residual_net())
    return space, felt(space, {"image": x}, labels, loss)


def test_labels_say_the_cross_entropy():
    x, labels = images(), classes()
    space, found = of_labels(x, labels)

    def loss(logits):
        return -log_softmax(logits)[np.arange(len(labels)), labels]

    for group in space.groups:
        measured = slopes(space, group, {"image": x}, loss, step=2**-9)
        exact = found[group.id]
        assert exact.labelled
        size = np.abs(measured).max()
        np.testing.assert_allclose(exact.magnitude / 40, np.abs(measured).mean(0), atol=3e-3 * size)
        np.testing.assert_allclose(exact.sum / 40, measured.mean(0), atol=3e-3 * size)


def square_loss():
    """Of outputs alone, a single number."""
    nodes = [
        helper.make_node("Mul", ["logits", "logits"], ["squares"]),
        helper.make_node("ReduceSum", ["squares"], ["loss"], keepdims=0),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "loss", [value("logits", 1, ["N", 5])], [value("loss", 1, [])])
    return Graph(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))


def chosen_loss():
    """Minus the logit of the label, for each sample."""
    nodes = [
        helper.make_node("OneHot", ["labels", "depth", "values"], ["hot"]),
        helper.make_node("Mul", ["logits", "hot"], ["own"]),
        helper.make_node("ReduceSum", ["own", "axis"], ["sum"], keepdims=0),
        helper.make_node("Neg", ["sum"], ["loss"]),
    ]
    constants = {"depth": np.int64(5), "values": np.asarray([0, 1], np.float32), "axis": np.asarray([1])}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "loss",
        [value("logits", 1, ["N", 5]), value("labels", 7, ["N"])],
        [value("loss", 1, ["N"])],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    return Graph(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))


def test_a_loss_from_a_file():
    x = images(12)
    space, found = of_labels(x, None, loss=square_loss())
    for group in space.groups:
        measured = slopes(space, group, {"image": x}, lambda z: np.square(z).sum(1), step=2**-9)
        exact = found[group.id]
        assert exact.labelled
        assert exact.curvature is None
        np.testing.assert_allclose(exact.sum, measured.sum(0), atol=1e-2 * np.abs(measured.sum(0)).max())
    context = Context(space, Stats("", 12, "", {}, slopes=found))
    get("fisher").scores(context)
    with pytest.raises(UsageError, match="curvature"):
        get("hessian-loss").scores(context)


def test_a_loss_from_a_file_of_labels():
    x, labels = images(12), classes(12)
    space, found = of_labels(x, labels.astype(np.int32), loss=chosen_loss())
    for group in space.groups:
        measured = slopes(space, group, {"image": x}, lambda z: -z[np.arange(12), labels], step=2**-9)
        size = np.abs(measured.sum(0)).max()
        np.testing.assert_allclose(found[group.id].sum, measured.sum(0), atol=1e-2 * size)
    with pytest.raises(UsageError, match="reads 'labels', and there are no labels"):
        of_labels(x, None, loss=chosen_loss())


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="class 7 is none of 5"):
        of_labels(images(4), np.asarray([0, 1, 7, 2]))
    with pytest.raises(UsageError, match="float64 of shape"):
        of_labels(images(4), np.zeros((4, 2)))


def test_values_count_by_their_squared_error():
    r = np.random.default_rng(0)
    graph = smooth_net(r)
    x = r.standard_normal((16, 4, 3, 3)).astype(np.float32)
    space, target = channels(graph), r.standard_normal((16, 5, 3, 3))
    (y,) = dumped(graph, {"x": x}, "y")
    found = felt(space, {"x": x}, target)

    def loss(values):
        return np.square(values - target).sum((1, 2, 3)) / np.square(y).sum((1, 2, 3)).mean() / 2

    for group in space.groups:
        measured = slopes(space, group, {"x": x}, loss)
        np.testing.assert_allclose(found[group.id].squares, np.square(measured).sum(0), rtol=1e-2)


# ---------------------------------------------------------------- in prune


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "hessian-loss"])
def test_prunes_by_labels_and_judges_on_others(criterion, tmp_path):
    x, labels = images(64), classes(64)
    np.savez(tmp_path / "labels.npz", image=x, labels=labels)
    how = {"macs": 0.6, "evaluations": 0, "repair": "none", "force": True, "measure_latency": False}
    result = prune(
        residual_net(),
        criterion=criterion,
        calib={"image": x},
        labels=tmp_path / "labels.npz",
        **how,
    )
    assert result.verdict.exact
    assert result.verdict.accuracy[0].total == 32
    assert any("32 labelled samples" in note for note in result.verdict.warnings)


def test_prunes_by_a_loss_from_a_file(tmp_path):
    onnx.save(square_loss().model, tmp_path / "loss.onnx")
    result = prune(
        residual_net(),
        macs=0.6,
        criterion="taylor",
        loss=str(tmp_path / "loss.onnx"),
        calib={"image": images()},
        evaluations=0,
        repair="none",
        force=True,
    )
    assert result.verdict.exact
    assert result.plan.options["loss"].endswith("loss.onnx")


def test_labels_are_parted_with_their_samples(tmp_path):
    x = images(9)
    np.savez(tmp_path / "l.npz", image=x, labels=np.arange(9))
    learned, judge = read_labelled(tmp_path / "l.npz", residual_net()).split(0)
    seen = []
    for part in (learned, judge):
        for feeds, labels in part.batches(2):
            np.testing.assert_array_equal(feeds["image"], x[labels])
            seen += labels.tolist()
    assert sorted(seen) == list(range(9))
    assert (learned.samples.count, judge.samples.count) == (4, 5)


# ---------------------------------------------------------------- what they are worth


def test_fisher_orders_channels_as_their_removal_does():
    """Within a layer, on a trained network: the same divergence with each channel removed alone."""
    network = loaded(load("models/digits-plain.onnx")).network
    space = Channels().find(network)
    feeds = {"image": np.load("models/digits-calib.npz")["image"][:64]}
    context = Context(space, gathered(space, BOTH, in_batches(feeds, 32)))
    scores = get("fisher").scores(context)
    output = network.graph.outputs[0]
    base = log_softmax(open_session(network.graph).run(feeds)[output].astype(float))
    group, rises = space.groups[1], []
    for unit in range(group.size):
        masked = space.mask(network, Choice({group.id: np.arange(group.size) != unit})).graph
        other = log_softmax(open_session(masked).run(feeds)[output].astype(float))
        rises.append((np.exp(base) * (base - other)).sum(1).mean())
    assert spearmanr(scores[1], rises)[0] > 0.9
