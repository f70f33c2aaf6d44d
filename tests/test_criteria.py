"""Every criterion against its formula in NumPy, and all of them against one battery."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest
from calibration import build, channels, dumped, gathered, images, in_batches, residual_net, rows_of
from nets import Net
from onnx.helper import make_node

from onnxprune import samples
from onnxprune.contracts import rules
from onnxprune.contracts.reduction import CannotRate
from onnxprune.criteria import CRITERIA, Context, Criterion, get, names
from onnxprune.criteria.lasso import minimised
from onnxprune.criteria.obs import Elimination, Obs
from onnxprune.errors import UsageError
from onnxprune.graph import Edits, Graph, Network
from onnxprune.pipeline import prune
from onnxprune.reductions.weights import Kernels, Weights

EVERYTHING = frozenset({"consumers", "norms", "pooled", "zeros", "kernels", "slopes", "curvature"})


def context(graph, x, *sizes, positions=0, name="image", seed=0):
    """A context with all statistics over samples `x`, and these."""
    space = channels(graph)
    batches = in_batches({name: x}, *(sizes or (16,)))
    stats = gathered(space, EVERYTHING, batches, positions=positions, source="test")
    return Context(space, stats, seed, samples.load({name: x}, graph))


@pytest.fixture(scope="module")
def residual():
    return context(residual_net(), images())


def group_of(context, node):
    """The index of the group that a node makes."""
    (index,) = [i for i, g in enumerate(context.groups) if g.name == node]
    return index


def test_the_network_has_the_groups_these_tests_are_about(residual):
    assert [(g.name, g.size) for g in residual.groups] == [("stem", 8), ("wide", 12), ("thin", 6)]


# ---------------------------------------------------------------- where they look


def test_sites(residual):
    graph, space = residual.graph, residual.channels
    stem, wide, thin = space.groups
    assert [graph.nodes[f.node].name for f in space.makers(stem)] == ["stem", "body"]
    assert [f.rows.shape for f in space.makers(wide)] == [(12, 8), (12, 9)]
    assert [k for k, _ in space.outputs(stem)] == [("norm", 1), ("body", 1)]
    assert [k for k, _ in space.activations(stem)] == [("a", 1), ("b", 1)]
    assert [k for k, _ in space.activations(wide)] == [("c", 1), ("d", 1)]
    assert [k for k, _ in space.activations(thin)] == [("e", 1)]
    assert [(graph.nodes[c.node].name, c.activation) for c in space.consumers] == [
        ("body", ("a", 1)),
        ("wide", ("b", 1)),
        ("thin", ("d", 1)),
        ("head", ("flat", 1)),
    ], "a depthwise convolution consumes nothing"


# ---------------------------------------------------------------- formulas


def relative(values):
    return values / values.mean()


def test_l1(residual):
    scores = get("l1").scores(residual)
    w = {n: np.abs(residual.graph.array(n)).sum((1, 2, 3)) for n in ("stem.w", "body.w", "wide.w", "deep.w")}
    np.testing.assert_allclose(scores[0], (relative(w["stem.w"]) + relative(w["body.w"])) / 2, rtol=1e-6)
    np.testing.assert_allclose(scores[1], (relative(w["wide.w"]) + relative(w["deep.w"])) / 2, rtol=1e-6)


def test_l2(residual):
    w = residual.graph.array("thin.w").astype(float).reshape(6, -1)
    np.testing.assert_allclose(get("l2").scores(residual)[2], relative(np.sqrt((w**2).sum(1))), rtol=1e-6)


def test_geometric_median(residual):
    w = residual.graph.array("thin.w").astype(float).reshape(6, -1)
    distances = np.array([sum(np.linalg.norm(a - b) for b in w) for a in w])
    np.testing.assert_allclose(get("geometric-median").scores(residual)[2], relative(distances), rtol=1e-6)


def test_bn_scale(residual):
    scores = get("bn-scale").scores(residual)
    np.testing.assert_allclose(scores[0], relative(np.abs(residual.graph.array("stem.scale"))), rtol=1e-6)
    np.testing.assert_array_equal(scores[2], get("l2").scores(residual)[2])


def test_bn_scale_refuses_a_network_without():
    with pytest.raises(UsageError, match=r"no BatchNormalization.*l1"):
        get("bn-scale").scores(context(chain(), pixels(), name="x"))


def test_random_depends_on_seed_and_group_alone(residual):
    one, again = get("random").scores(residual), get("random").scores(residual)
    other = get("random").scores(replace(residual, seed=1))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_output_variance(residual):
    norm, body = dumped(residual.graph, {"image": images()}, "norm", "body")
    parts = [np.sqrt((y**2).sum((2, 3))).var(0) for y in (norm, body)]
    expected = (relative(parts[0]) + relative(parts[1])) / 2
    np.testing.assert_allclose(get("output-variance").scores(residual)[0], expected, rtol=1e-3)


def test_entropy(residual):
    (e,) = dumped(residual.graph, {"image": images()}, "e")
    expected = []
    for values in e.mean((2, 3)).astype(np.float32).astype(float).T:
        counts, _ = np.histogram(values, 100)
        p = counts[counts > 0] / len(values)
        expected.append(-(p * np.log(p)).sum())
    # A value on the edge of a bin may fall to either side.
    np.testing.assert_allclose(get("entropy").scores(residual)[2], relative(np.array(expected)), rtol=0.03)


def test_apoz(residual):
    c, d = dumped(residual.graph, {"image": images()}, "c", "d")
    parts = [(y != 0).mean((0, 2, 3)) for y in (c, d)]
    expected = (relative(parts[0]) + relative(parts[1])) / 2
    np.testing.assert_allclose(get("apoz").scores(residual)[1], expected, rtol=1e-6)


def test_apoz_refuses_a_group_without_relu():
    found = context(chain(act="Sigmoid"), pixels(), name="x")
    with pytest.raises(CannotRate, match=r"no ReLU follows 'first'; use another criterion") as refused:
        get("apoz").scores(found)
    assert refused.value.groups == {group.id for group in found.groups}


def behind(between) -> Net:
    n = Net("relu behind")
    x = between(n, n.conv(n.input("batch", 3, 8, 8), 12))
    n.output(n.Flatten(x) if len(n.shape(x)) > 2 else x)
    return n


BETWEEN = {
    "MaxPool": lambda n, x: n.conv(n.Relu(n.MaxPool(x, kernel_shape=[2, 2])), 4),
    "GlobalAveragePool": lambda n, x: n.conv(n.Relu(n.GlobalAveragePool(x)), 4),
    "Transpose": lambda n, x: n.MatMul(n.Relu(n.Transpose(x, perm=[0, 2, 3, 1])), n.weight(12, 4)),
    "Flatten": lambda n, x: n.gemm(n.Relu(n.Flatten(n.GlobalAveragePool(x))), 4),
    "Max": lambda n, x: n.conv(n.Max(x, np.float32(0)), 4),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_apoz_finds_the_relu_behind(between):
    n = behind(BETWEEN[between])
    model = n.finished()
    data = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    found = prune(
        Graph(model),
        ratio=0.5,
        criterion="apoz",
        calib={model.graph.input[0].name: data},
        repair="none",
        measure_latency=False,
        force=True,
    )
    assert found.verdict.exact
    assert not found.verdict.warnings or not any("no ReLU" in w for w in found.verdict.warnings)


@pytest.mark.parametrize("options", [{"ratio": 0.5}, {"macs": 0.7}, {"macs": 0.7, "steps": 3}])
def test_groups_that_a_criterion_says_nothing_of_stay_whole(options):
    n = Net("one without")
    x = n.Relu(n.conv(n.input("batch", 3, 8, 8), 12))
    x = n.Sigmoid(n.conv(x, 16))
    n.output(n.conv(x, 4))
    model = n.finished()
    data = np.random.default_rng(0).standard_normal((80, 3, 8, 8)).astype(np.float32)
    found = prune(
        Graph(model),
        criterion="apoz",
        calib={model.graph.input[0].name: data},
        measure_latency=False,
        force=True,
        **options,
    )
    (group,) = found.solved[-1].search.rated.groups
    assert group.size == 12
    assert found.choice.cuts(group)
    assert any("--criterion apoz: no ReLU follows '" in w for w in found.verdict.warnings)
    assert found.verdict.exact


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_clip_from_zero_is_a_relu_and_no_other(low):
    graph = chain(act="Clip", limits={"low": np.float32(low), "high": np.float32(6)})
    found = context(graph, pixels(), name="x")
    if low == 0:
        get("apoz").scores(found)
    else:
        with pytest.raises(UsageError, match="no ReLU"):
            get("apoz").scores(found)


def test_activation(residual):
    """Of what consumers read, where they do."""
    a, b, d = dumped(residual.graph, {"image": images()}, "a", "b", "d")
    loud = [np.sqrt((x**2).mean((0, 2, 3))) for x in (a, b, d)]
    scores = get("activation").scores(residual)
    np.testing.assert_allclose(scores[0], (relative(loud[0]) + relative(loud[1])) / 2, rtol=1e-5)
    np.testing.assert_allclose(scores[1], relative(loud[2]), rtol=1e-5)


def test_wanda(residual):
    (d,) = dumped(residual.graph, {"image": images()}, "d")
    w = residual.graph.array("thin.w").astype(float).reshape(6, 12)
    expected = relative(np.linalg.norm(w, axis=0) * np.sqrt((rows_of(d) ** 2).mean(0)))
    np.testing.assert_allclose(get("wanda").scores(residual)[1], expected, rtol=1e-5)


def test_wanda_sums_over_consumers(residual):
    a, b = dumped(residual.graph, {"image": images()}, "a", "b")
    weights = [residual.graph.array(n).astype(float) for n in ("body.w", "wide.w")]
    parts = [
        relative(np.sqrt((w**2).sum((0, 2, 3))) * np.sqrt((rows_of(x) ** 2).mean(0)))
        for w, x in zip(weights, (a, b), strict=True)
    ]
    np.testing.assert_allclose(get("wanda").scores(residual)[0], sum(parts) / 2, rtol=1e-5)


def layer(context, tensor="d", weight="thin.w"):
    """Rows and weights (inputs, outputs) of the 1x1 convolution at the end."""
    (x,) = dumped(context.graph, {"image": images()}, tensor)
    w = context.graph.array(weight).astype(float)
    return rows_of(x), w.reshape(w.shape[0], -1).T


def test_hessian_is_the_error_of_leaving_one_out(residual):
    x, w = layer(residual)
    energy = ((x @ w) ** 2).sum()
    expected = [((x[:, [j]] @ w[[j]]) ** 2).sum() / energy for j in range(12)]
    np.testing.assert_allclose(get("hessian").scores(residual)[1], expected, rtol=1e-4)


def test_greedy_goes_as_thinet_does(residual):
    x, w = layer(residual)
    gone: list[int] = []
    while len(gone) < 12:
        left = [j for j in range(12) if j not in gone]
        gone.append(min(left, key=lambda j: ((x[:, [*gone, j]] @ w[[*gone, j]]) ** 2).sum()))
    assert np.argsort(get("greedy").scores(residual)[1]).tolist() == gone


def test_lasso_minimises_its_objective(residual):
    """At the solution no direction goes down: the conditions of Karush, Kuhn and Tucker."""
    x, w = layer(residual)
    parts = x[:, :, None] * w  # (rows, channels, outputs)
    y = parts.sum(1)
    q = np.einsum("njo,nko->jk", parts, parts) / (y**2).sum()
    penalty = 0.2 * np.abs(q.sum(1)).max()
    beta = minimised(q, q.sum(1), penalty, np.zeros(12), float(np.linalg.eigvalsh(q)[-1]), 5000)
    slope = np.array([-((y - np.einsum("njo,j->no", parts, beta)) * parts[:, j]).sum() for j in range(12)])
    slope /= (y**2).sum()
    assert 0 < (beta != 0).sum() < 12
    np.testing.assert_allclose(slope[beta != 0], -penalty * np.sign(beta[beta != 0]), atol=1e-6)
    assert (np.abs(slope[beta == 0]) <= penalty + 1e-6).all()


def test_lasso_scores_are_where_channels_enter(residual):
    x, w = layer(residual)
    parts = x[:, :, None] * w
    y = parts.sum(1)
    q = np.einsum("njo,nko->jk", parts, parts) / (y**2).sum()
    scores = get("lasso").scores(residual)[1]
    first = int(np.argmax(scores))
    assert first == int(np.argmax(q.sum(1))), "the first to enter is the one most correlated with the output"
    middle = float(np.median(scores))
    curvature = float(np.linalg.eigvalsh(q)[-1])
    beta = minimised(q, q.sum(1), middle, np.zeros(12), curvature, 5000)
    assert (beta[scores > 1.5 * middle] != 0).all()
    assert (beta[scores < middle / 1.5] == 0).all()


def solved_again(x, w, gone):
    """Relative error of a layer without some inputs, its other weights solved again by least squares."""
    left = [j for j in range(len(w)) if j not in gone]
    energy = ((x @ w) ** 2).sum() / len(x)
    x = x - x.mean(0)  # means go into the bias
    g = x.T @ x / len(x)
    g += len(w) / len(x) * np.trace(g) / len(w) * np.eye(len(w))
    rest = w.copy()
    rest[left] -= np.linalg.solve(g[np.ix_(left, left)], g[left] @ w)
    return np.trace(rest.T @ g @ rest) / energy


def eliminations(obs: Obs, found: Context) -> list[Elimination]:
    space = found.channels
    return [obs.eliminated(g.size, list(space.readings(g, found.stats))) for g in space.groups]


def test_obs_is_the_error_of_leaving_one_out_and_solving_the_rest(residual):
    x, w = layer(residual)
    (_, found, _) = eliminations(Obs(damping=0, batch=0), residual)
    gone: list[int] = []
    for step in range(12):
        left = [j for j in range(12) if j not in gone]
        gone.append(min(left, key=lambda j: solved_again(x, w, [*gone, j])))
        np.testing.assert_allclose(found.loss[step + 1], solved_again(x, w, gone), rtol=1e-3)
    assert found.order.tolist() == gone
    assert found.kept(12) == 0
    assert found.kept(4) == found.loss[8]


def test_obs_in_batches_says_the_exact_loss_of_each_batch(residual):
    x, w = layer(residual)
    (_, found, _) = eliminations(Obs(damping=0, batch=0.4), residual)
    for size in (4, 4 + 3, 12):  # 0.4 of 12, of 8, ...
        np.testing.assert_allclose(found.loss[size], solved_again(x, w, found.order[:size]), rtol=1e-3)
    assert (np.diff(found.loss) >= 0).all()


def test_inbound_variance(residual):
    (d,) = dumped(residual.graph, {"image": images()}, "d")
    w = residual.graph.array("thin.w").astype(float).reshape(6, 12)
    norms = np.sqrt((d**2).sum((2, 3)))
    v = np.array([[np.var(abs(w[t, s]) * norms[:, s]) for s in range(12)] for t in range(6)])
    expected = (v / v.mean(1, keepdims=True)).max(0)
    np.testing.assert_allclose(get("inbound-variance").scores(residual)[1], relative(expected), rtol=1e-3)


def test_inbound_variance_of_single_kernels(residual):
    """Those of a 3x3 convolution, against T x S convolutions."""
    (a,) = dumped(residual.graph, {"image": images()}, "a")
    w = residual.graph.array("body.w")
    node = next(n for n in residual.graph.nodes if n.name == "body")
    found = get("inbound-variance").kernels(residual)[node.index]
    for t, s in [(0, 0), (3, 5), (7, 2)]:
        single = build(
            [make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
            {"x": ["N", 1, 9, 7]},
            {"y": ["N", 1, 9, 7]},
            {"w": w[t : t + 1, s : s + 1]},
        )
        (y,) = dumped(single, {"x": a[:, s : s + 1].astype(np.float32)}, "y")
        expected = np.sqrt((y**2).sum((1, 2, 3))).var()
        np.testing.assert_allclose(found[t, s], expected, rtol=1e-3, atol=1e-7)


# ---------------------------------------------------------------- the battery

WEIGHTS_ONLY = {"l1", "l2", "geometric-median", "bn-scale", "random"}
every = pytest.mark.parametrize("name", sorted(CRITERIA))
data_driven = pytest.mark.parametrize("name", sorted(set(CRITERIA) - WEIGHTS_ONLY))


def same(a, b, rtol=1e-6):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-9)


@every
def test_one_finite_score_for_each_unit(residual, name):
    scores = get(name).scores(residual)
    assert [s.shape for s in scores] == [(g.size,) for g in residual.groups]
    assert all(s.dtype == np.float64 and np.isfinite(s).all() and (s >= 0).all() for s in scores)
    assert all(len(np.unique(s)) > 1 for s in scores), "a criterion tells units apart"


@every
def test_is_deterministic_and_changes_nothing(residual, name):
    before = residual.graph.serialized()
    arrays = copy.deepcopy([m.gram for m in residual.stats.moments.values()])
    same(get(name).scores(residual), get(name).scores(residual), rtol=0)
    assert residual.graph.serialized() == before
    for old, new in zip(arrays, residual.stats.moments.values(), strict=True):
        np.testing.assert_array_equal(old, new.gram)


@every
def test_batches_and_order_of_samples_do_not_matter(name):
    graph, x = residual_net(), images()
    reference = get(name).scores(context(graph, x, 16, positions=20))
    mixed = x[np.random.default_rng(0).permutation(len(x))]
    rtol = 0.02 if name in ("entropy", "lasso") else 1e-3  # these have bins and steps, with edges
    same(reference, get(name).scores(context(graph, mixed, 1, 7, 32, positions=20)), rtol)


def permuted(graph, effect, group, order):
    """The same function with the units of a group in another order."""
    edits = Edits()
    for member in effect.members:
        array = edits.constants.get(member.constant, graph.array(member.constant)).reshape(member.view)
        for axis in {p.axes[0] for p in member.places if np.isin(p.units, group.units).all()}:
            array = np.take(array, order, axis)
        shape = graph.shape_of_constant(member.constant)
        edits.constants[member.constant] = np.ascontiguousarray(array.reshape(shape))
    return graph.edited(edits)


@pytest.mark.parametrize("name", sorted(set(CRITERIA) - {"random"}))
def test_permuted_channels_have_permuted_scores(residual, name):
    graph, effect, x = residual.graph, residual.space.effect, images()
    for index, group in enumerate(residual.groups):
        order = np.random.default_rng(index).permutation(group.size)
        moved = permuted(graph, effect, group, order)
        (before,), (after,) = dumped(graph, {"image": x}, "logits"), dumped(moved, {"image": x}, "logits")
        np.testing.assert_allclose(before, after, rtol=1e-3, atol=1e-4)  # the test itself: the same function
        expected = get(name).scores(residual)[index][order]
        rtol = 0.02 if name in ("entropy", "lasso") else 1e-3
        atol = 1e-6 * expected.max() if name == "taylor" else 0  # rounding of a difference of losses
        np.testing.assert_allclose(get(name).scores(context(moved, x))[index], expected, rtol, atol)


def chain(edit=None, act="Relu", limits=None):
    """x -> first (10) -> activation -> second -> y, 1x1 throughout; `edit` changes the weights."""
    r = np.random.default_rng(3)
    weights = {
        "first.w": r.standard_normal((10, 6, 1, 1)).astype(np.float32),
        "first.b": (r.standard_normal(10) / 9).astype(np.float32),
        "second.w": r.standard_normal((7, 10, 1, 1)).astype(np.float32),
    }
    if edit is not None:
        edit(weights)
    nodes = [
        make_node("Conv", ["x", "first.w", "first.b"], ["f"], "first"),
        make_node(act, ["f", *(limits or ())], ["a"], "act"),
        make_node("Conv", ["a", "second.w"], ["y"], "second"),
    ]
    return build(nodes, {"x": ["N", 6, 5, 5]}, {"y": ["N", 7, 5, 5]}, weights | (limits or {}))


def pixels(count=64, seed=5):
    r = np.random.default_rng(seed)
    scale = r.uniform(0.2, 2, (count, 1, 1, 1))
    return (scale * r.standard_normal((count, 6, 5, 5))).astype(np.float32)


def kill(weights):
    weights["first.w"][4] = 0
    weights["first.b"][4] = 0


@pytest.mark.parametrize("name", sorted(set(CRITERIA) - {"random", "bn-scale", "geometric-median"}))
def test_a_dead_channel_goes_first(name):
    (scores,) = get(name).scores(context(chain(kill), pixels(), name="x"))
    assert np.argmin(scores) == 4
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", ["output-variance", "inbound-variance", "entropy", "obs"])
def test_a_constant_channel_goes_first(name):
    """A large constant, which is loud: what varies is worth more, as the constant fits into a bias."""

    def fix(weights):
        weights["first.w"][4] = 0
        weights["first.b"][4] = 3

    (scores,) = get(name).scores(context(chain(fix), pixels(), name="x"))
    assert np.argmin(scores) == 4


@pytest.mark.parametrize("name", ["obs", "geometric-median"])
def test_one_of_two_equal_channels_goes_early(name):
    def twin(weights):
        weights["first.w"][7] = weights["first.w"][2]
        weights["first.b"][7] = weights["first.b"][2]

    (plain,) = get(name).scores(context(chain(), pixels(), name="x"))
    (scores,) = get(name).scores(context(chain(twin), pixels(), name="x"))
    assert scores[[2, 7]].min() < plain[2]
    if name == "obs":
        assert np.argmin(scores) in (2, 7)
        assert abs(np.diff(np.searchsorted(np.sort(scores), scores[[2, 7]]))[0]) >= 1


@data_driven
def test_samples_are_needed(residual, name):
    with pytest.raises(UsageError, match="samples"):
        get(name).scores(replace(residual, stats=None, samples=None))


@pytest.mark.parametrize("name", ["output-variance", "inbound-variance", "entropy", "obs"])
def test_one_sample_has_no_variance(name):
    with pytest.raises(UsageError, match="needs 2 samples or more, there are 1"):
        get(name).scores(context(residual_net(), images(1)))


@pytest.mark.parametrize("name", sorted(set(CRITERIA) - WEIGHTS_ONLY))
def test_statistics_for_another_criterion_are_refused(residual, name):
    nothing = replace(residual.stats, moments={}, slopes={})
    with pytest.raises(UsageError, match=r"calibrate.*--for"):
        get(name).scores(replace(residual, stats=nothing))


@data_driven
def test_says_what_it_needs(residual, name):
    """With no more than that, it works."""
    stats = gathered(residual.space, get(name).needs, in_batches({"image": images()}, 16), positions=0)
    same(get(name).scores(replace(residual, stats=stats)), get(name).scores(residual), 1e-3)


def test_few_samples_leave_obs_with_what_it_can_know():
    """Behind a global pool, 8 samples span 8 of 12 directions: the other channels are not free."""
    found = context(residual_net(), images(8))
    head = group_of(found, "thin")
    scores = get("obs").scores(found)[head]
    assert scores.min() > 1e-3 * scores.max()


# ---------------------------------------------------------------- other shapes of consumers


def test_several_channels_of_one_unit():
    """Flatten gives each channel 4 features: their loss is that of all four together."""
    r = np.random.default_rng(0)
    weights = {
        "first.w": r.standard_normal((6, 3, 1, 1)).astype(np.float32),
        "head.w": r.standard_normal((5, 24)).astype(np.float32),
    }
    nodes = [
        make_node("Conv", ["x", "first.w"], ["f"], "first"),
        make_node("Relu", ["f"], ["a"]),
        make_node("Flatten", ["a"], ["flat"]),
        make_node("Gemm", ["flat", "head.w"], ["y"], "head", transB=1),
    ]
    graph = build(nodes, {"x": ["N", 3, 2, 2]}, {"y": ["N", 5]}, weights)
    x = r.standard_normal((300, 3, 2, 2)).astype(np.float32)
    found = context(graph, x, 50, name="x")
    (flat,) = dumped(graph, {"x": x}, "flat")
    w = weights["head.w"].astype(float).T
    energy = ((flat @ w) ** 2).sum()
    (scores,) = get("hessian").scores(found)
    blocks = [slice(4 * j, 4 * j + 4) for j in range(6)]
    np.testing.assert_allclose(scores, [((flat[:, b] @ w[b]) ** 2).sum() / energy for b in blocks], rtol=1e-4)

    centred = flat - flat.mean(0)
    g = centred.T @ centred / 300
    inverse = np.linalg.inv(g + (24 / 300 + 1e-3) * np.trace(g) / 24 * np.eye(24))
    costs = [np.trace(w[b].T @ np.linalg.inv(inverse[b, b]) @ w[b]) for b in blocks]
    (elimination,) = eliminations(Obs(), found)
    assert elimination.order[0] == np.argmin(costs)
    np.testing.assert_allclose(elimination.loss[1], min(costs) / (energy / 300), rtol=1e-3)


def test_channels_of_another_group_do_not_stand_in():
    """In a grouped convolution only channels of the same group can make up for one."""
    r = np.random.default_rng(0)
    first = r.standard_normal((8, 4, 1, 1)).astype(np.float32)
    first[4] = first[0]  # equal channels, in different groups
    weights = {"first.w": first, "second.w": r.standard_normal((6, 4, 1, 1)).astype(np.float32)}
    nodes = [
        make_node("Conv", ["x", "first.w"], ["f"], "first"),
        make_node("Conv", ["f", "second.w"], ["y"], "second", group=2),
        make_node("Relu", ["y"], ["z"]),
    ]
    graph = build(nodes, {"x": ["N", 4, 5, 5]}, {"z": ["N", 6, 5, 5]}, weights)
    found = context(graph, r.standard_normal((64, 4, 5, 5)).astype(np.float32), name="x")
    scores = get("obs").scores(found)[0]
    assert scores[[0, 4]].min() > 1e-3 * scores.max()


# ---------------------------------------------------------------- single values, and kernels

VALUES = {"l1", "l2", "random", "wanda"}
"""What rates single values; kernels go by `inbound-variance` as well."""


def of_values(reduction, *needs, graph=None, x=None, name="image"):
    """A context of single values or kernels, with statistics over images."""
    graph = graph or residual_net()
    space = reduction.find(Network(graph))
    if not needs:
        return Context(space)
    return Context(space, gathered(space, needs, [{name: images() if x is None else x}], positions=0))


def score_of(found, name, layer):
    """What a layer's group scores, in the shape that it has."""
    (index,) = [k for k, g in enumerate(found.groups) if g.name == layer]
    return get(name).scores(found)[index]


def test_magnitude_of_single_values():
    found = of_values(Weights())
    for layer in ("stem", "deep", "thin"):
        w = np.abs(residual_net().array(f"{layer}.w").astype(float))
        for name in ("l1", "l2"):
            np.testing.assert_allclose(score_of(found, name, layer), w.ravel(), rtol=1e-6)


@pytest.mark.parametrize("groups", [0, 2])
def test_magnitude_of_kernels(groups):
    """The sum over taps; where runs of filters read the same channels, over the filters of a run, too."""
    w = residual_net().array("body.w").astype(float)
    runs = w.reshape(groups or 8, -1, 8, 9)
    found = of_values(Kernels(groups))
    np.testing.assert_allclose(score_of(found, "l1", "body"), np.abs(runs).sum((1, 3)).ravel(), rtol=1e-6)
    expected = np.sqrt((runs**2).sum((1, 3))).ravel()
    np.testing.assert_allclose(score_of(found, "l2", "body"), expected, rtol=1e-6)


def test_wanda_of_single_values():
    """|w| times the norm of what it meets: of a depthwise filter its own channel's."""
    found = of_values(Weights(), "inputs")
    b, c, image = dumped(residual_net(), {"image": images()}, "b", "c", "image")
    for layer, x in (("wide", b), ("deep", c), ("stem", image)):
        w = np.abs(residual_net().array(f"{layer}.w").astype(float))
        met = np.sqrt((rows_of(x) ** 2).mean(0))
        norms = met[:, None] if layer == "deep" else met[None]
        expected = w * norms[:, :, None, None]
        np.testing.assert_allclose(score_of(found, "wanda", layer), expected.ravel(), rtol=1e-4)


def test_wanda_of_kernels():
    """The sum over its taps."""
    found = of_values(Kernels(), *get("wanda").needs)
    (a,) = dumped(residual_net(), {"image": images()}, "a")
    w = np.abs(residual_net().array("body.w").astype(float)).sum((2, 3))
    expected = w * np.sqrt((rows_of(a) ** 2).mean(0))
    np.testing.assert_allclose(score_of(found, "wanda", "body"), expected.ravel(), rtol=1e-4)


@pytest.mark.parametrize("groups", [0, 3])
def test_inbound_variance_of_kernels_is_their_share(groups):
    """Of their filter's variance; where runs of filters read the same channels, the mean over the run."""
    found = of_values(Kernels(groups), "kernels")
    (d,) = dumped(residual_net(), {"image": images()}, "d")
    w = residual_net().array("thin.w").astype(float).reshape(6, 12)
    norms = np.sqrt((d**2).sum((2, 3)))
    v = np.array([[np.var(abs(w[t, s]) * norms[:, s]) for s in range(12)] for t in range(6)])
    expected = (v / v.mean(1, keepdims=True)).reshape(groups or 6, -1, 12).mean(1)
    np.testing.assert_allclose(score_of(found, "inbound-variance", "thin"), expected.ravel(), rtol=1e-3)


@pytest.mark.parametrize("reduction", [Weights(), Weights("output"), Kernels(), Kernels(2)])
@every
def test_criteria_rate_values_or_say_that_they_rate_channels(name, reduction):
    found = of_values(reduction, *EVERYTHING, "inputs")
    rated = VALUES | ({"inbound-variance"} if reduction.name == "kernels" else set())
    if name not in rated:
        with pytest.raises(UsageError, match=r"rates channels|runs samples|have nothing on"):
            get(name).scores(found)
        return
    scores = get(name).scores(found)
    assert [s.shape for s in scores] == [(g.size,) for g in found.groups]
    assert all(s.dtype == np.float64 and np.isfinite(s).all() and (s >= 0).all() for s in scores)
    same(scores, get(name).scores(found), rtol=0)


# ---------------------------------------------------------------- registry and rules


def test_registry():
    assert set(names()) >= {"l1", "l2", "geometric-median", "bn-scale", "random", "obs", "inbound-variance"}
    assert all(isinstance(c, Criterion) and c.name == name for name, c in CRITERIA.items())
    with pytest.raises(TypeError):
        CRITERIA["mine"] = get("l1")  # type: ignore[index]
    with pytest.raises(UsageError, match="no such criterion; there are: l1, l2"):
        get("nix")


class Loud:
    """A criterion of a user's own."""

    name = "loud"
    needs = frozenset({"consumers"})

    def scores(self, context):
        return tuple(np.arange(g.size, dtype=float) for g in context.groups)


class Point:
    value = "somewhere:Loud"

    def __init__(self, name, found):
        self.name = name
        self._found = found

    def load(self):
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


@pytest.fixture
def installed(monkeypatch):
    points = [
        Point("loud", Loud),
        Point("object", Loud()),
        Point("odd", 7),
        Point("broken", ImportError("no")),
    ]

    def entry_points(group, name=None):
        assert group == "onnxprune.criteria"
        return [p for p in points if name in (None, p.name)]

    monkeypatch.setattr("onnxprune.criteria.entry_points", entry_points)


def test_entry_points(installed, residual):
    assert isinstance(get("loud"), Loud)
    assert len(get("object").scores(residual)) == 3
    assert names()[-4:] == ("broken", "loud", "object", "odd")
    with pytest.raises(UsageError, match="no name, needs and scores"):
        get("odd")
    with pytest.raises(UsageError, match="can't be loaded"):
        get("broken")


def test_an_object_of_the_users_own_is_a_criterion():
    assert isinstance(Loud(), Criterion)
    assert not isinstance(object(), Criterion)


def test_selection_rules_of_papers():
    scores = np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    assert rules.percentile(scores, 40).tolist() == [True, False, False, True, True]
    assert rules.deviations(scores).tolist() == [True, False, True, True, True]
    assert rules.best(scores, 2).tolist() == [False, False, False, True, True]
    assert rules.best(np.zeros(3), 1).tolist() == [True, False, False]
    for wrong in (lambda: rules.percentile(scores, 100), lambda: rules.best(scores, 6)):
        with pytest.raises(UsageError):
            wrong()


def test_rules_by_name():
    scores = np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    for text, expected in {
        "percentile:40": 3,
        "deviations": 4,
        "deviations:0": 3,
        "count:2": 2,
        "count:9": 5,
    }.items():
        assert rules.parsed(text)(scores).sum() == expected, text
    for text in ("percentile", "percentile:100", "count:0", "count:1.5", "best:3", ""):
        with pytest.raises(UsageError, match="--select"):
            rules.parsed(text)


def test_graphs_of_these_tests_are_valid():
    for graph in (residual_net(), chain()):
        assert isinstance(graph, Graph)
        onnx.checker.check_model(graph.model, full_check=True)
