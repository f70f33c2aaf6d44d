"""Kernels that go: which, that channels nobody reads go with them, and groups that compute the same."""

from __future__ import annotations

import numpy as np
import pytest
from calibration import build, dumped, images, in_batches, residual_net
from onnx.helper import make_node

import onnxprune
from onnxprune import calibration
from onnxprune.contracts.budget import Uniform
from onnxprune.contracts.cut import without
from onnxprune.contracts.groups import Choice, Group
from onnxprune.contracts.rewrite import NotApplied
from onnxprune.criteria import Context, get
from onnxprune.graph import Edits, Network
from onnxprune.proof import prove
from onnxprune.reductions.channels import Channels
from onnxprune.reductions.weights import Kernels
from onnxprune.repair import Task, from_statistics
from onnxprune.rewrites import grouped
from onnxprune.strategies.uniform import chosen
from onnxprune.strategies.unread import without_unread
from onnxprune.strategies.widths import Widths

V = np.array([[9.0, 1, 5, 0], [0, 8, 2, 6], [1, 2, 3, 4], [5, 5, 6, 5]])


def keep_kernels(scores: np.ndarray, share: float) -> np.ndarray:
    """(runs, channels), which kernels stay of a layer whose runs of filters have such scores."""
    group = Group(id="k", name="k", kind="kernel", size=scores.size, runs=len(scores))
    uniform = Uniform("--inbound", keep=share)
    return chosen([group], (scores.ravel(),), uniform, share, Widths()).of(group).reshape(scores.shape)


def test_each_filter_keeps_its_own():
    kept = keep_kernels(V, 0.5)
    assert kept.astype(int).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 1, 0]]
    assert keep_kernels(V, 0.01).sum(axis=1).tolist() == [1, 1, 1, 1], "at least one"
    assert keep_kernels(10 * V[:1], 0.5).tolist() == keep_kernels(V[:1], 0.5).tolist()


def wide(taps=3, seed=0):
    """x -> a (12 channels) -> b (8 filters) -> y; filters of b read different channels of a."""
    r = np.random.default_rng(seed)
    w = {
        "a.w": r.standard_normal((12, 3, 3, 3)).astype(np.float32),
        "b.w": r.standard_normal((8, 12, taps, taps)).astype(np.float32),
        "c.w": r.standard_normal((4, 8, 1, 1)).astype(np.float32),
    }
    w["b.w"][:4, 6:] *= 1e-3
    w["b.w"][4:, :6] *= 1e-3
    w["b.w"][:, 5] *= 1e-4  # no filter wants this one
    same = {"pads": [taps // 2] * 4}
    nodes = [
        make_node("Conv", ["x", "a.w"], ["a0"], "a", pads=[1, 1, 1, 1]),
        make_node("Relu", ["a0"], ["a1"]),
        make_node("Conv", ["a1", "b.w"], ["b0"], "b", **same),
        make_node("Relu", ["b0"], ["b1"]),
        make_node("Conv", ["b1", "c.w"], ["y"], "c"),
    ]
    return build(nodes, {"x": ["N", 3, 9, 7]}, {"y": ["N", 4, 9, 7]}, w)


def space_of(graph, groups=0):
    return Kernels(groups).find(Network(graph))


def scored(space, name="x"):
    wanted = calibration.requests(space.network, space.wanted(frozenset({"kernels"})))
    stats = calibration.measure(space.network.graph, wanted, in_batches({name: images()}, 16))
    return get("inbound-variance").scores(Context(space, stats)), stats


def choice_of(space, share, name="x"):
    return chosen(space.groups, scored(space, name)[0], Uniform("--inbound", keep=share), share, Widths())


def kernels_of(space, choice, weight) -> np.ndarray:
    """(filters, channels), whether each kernel stays."""
    group = next(g for g in space.groups if g.id.startswith(weight))
    return space.planned(group, choice.of(group))


def test_scores_are_shares_of_each_filters_variance():
    """v_ts / mean_s v_ts, with v the variance over samples of the norm of a kernel's output."""
    graph = wide()
    space = space_of(graph)
    scores, _ = scored(space)
    w = graph.array("b.w").astype(float)
    (a,) = dumped(graph, {"x": images()}, "a1")
    padded = np.pad(a.astype(float), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    norms = np.linalg.norm(np.einsum("nshwij,tsij->tsnhw", windows, w), axis=(3, 4))
    variance = norms.var(axis=2)
    expected = variance / variance.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(scores[0].reshape(8, 12), expected, rtol=1e-3)


def test_a_loud_filter_does_not_outvote_a_quiet_one():
    """Runs of filters share their channels: those of the highest mean share."""
    graph = wide()
    w = graph.array("b.w").copy()
    w[0] *= 1000
    loud = graph.edited(Edits(constants={"b.w": w}))
    (each, *_), _ = scored(space_of(loud))
    (runs, *_), _ = scored(space_of(loud, 2))
    np.testing.assert_allclose(runs.reshape(2, 12), each.reshape(2, 4, 12).mean(axis=1), rtol=1e-6)


def test_channels_that_no_filter_keeps_are_removed():
    graph = wide()
    kernels, channels = space_of(graph), Channels().find(Network(graph))
    choice = choice_of(kernels, 5 / 12)
    kept = kernels_of(kernels, choice, "b.w")
    assert kept[:4, :5].all()
    assert not kept[:, 5].any()
    group = next(g for g in kernels.groups if g.id.startswith("c.w"))
    choice = without_unread(kernels, choice.with_group(group, np.ones(group.size, bool)), channels)
    first, *others = channels.groups
    assert (~choice.of(first)).sum() == 12 - kept.any(axis=0).sum() >= 1
    assert all(choice.of(g).all() for g in others)
    network = kernels.network
    cut = without(network, [kernels, channels], choice)
    assert cut.network.graph.shape_of_constant("b.w")[:2] == (8, choice.of(first).sum())
    left = cut.trace.support("b0", 1)
    np.testing.assert_array_equal(left.any(axis=(2, 3)), kept[:, choice.of(first)])
    x = {"x": images()}
    assert prove(cut, x).exact
    zeroed = without(network, [kernels], choice).network.graph
    (before,), (after,) = dumped(zeroed, x, "y"), dumped(cut.network.graph, x, "y")
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_what_others_read_stays():
    graph = residual_net()
    kernels, channels = space_of(graph), Channels().find(Network(graph))

    def gone(*weights):
        kept = {}
        for group in kernels.groups:
            mask = np.ones((group.runs, group.size // group.runs), bool)
            if group.id.split(":")[0] in weights:
                mask[:, 3] = False
            kept[group.id] = mask.ravel()
        found = without_unread(kernels, Choice(kept), channels)
        return [int((~found.of(g)).sum()) for g in channels.groups]

    assert not any(gone("body.w")), "wide.w still reads the sum"
    assert gone("body.w", "wide.w") == [1] + [0] * (len(channels.groups) - 1)


@pytest.mark.parametrize("taps", [1, 3])
def test_groups_compute_what_zeroed_kernels_do(taps):
    graph = wide(taps)
    space = space_of(graph, 2)
    choice = choice_of(space, 0.5)
    kept = {w: kernels_of(space, choice, w) for w in ("b.w", "c.w")}
    assert (kept["b.w"][:4] != kept["b.w"][4:]).any()
    zero = without(space.network, [space], choice).network
    made = grouped(grouped(zero, "b0", kept["b.w"], 2), "y", kept["c.w"], 2)
    assert [n.op for n in made.graph.nodes].count("Gather") == 2
    assert made.graph.shape_of_constant("b.w") == (8, 6, taps, taps)
    x = {"x": images()}
    (expected,), (actual,) = dumped(zero.graph, x, "y"), dumped(made.graph, x, "y")
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    (dense,) = dumped(graph, x, "y")
    assert np.abs(actual - dense).max() > 1e-3, "the test would see if nothing had gone"


def test_filters_that_do_not_divide_have_no_groups():
    space = space_of(wide(), 3)
    kept = kernels_of(space, choice_of(space, 0.5), "b.w")
    with pytest.raises(NotApplied, match="filters don't divide into 3 groups"):
        grouped(space.network, "b0", kept, 3)


class TestRepairFromStatistics:
    """Of kernels of one tap, where statistics say everything."""

    def fitted(self, graph, kept, x):
        space = space_of(graph)
        group = next(g for g in space.groups if g.id.startswith("b.w"))
        wanted = calibration.requests(space.network, space.wanted(frozenset({"consumers"})), positions=0)
        stats = calibration.measure(graph, wanted, in_batches({"x": x}, 16))
        cut = without(space.network, [space], Choice({group.id: kept.ravel()}))
        return from_statistics(Task.of(cut), "auto", stats, lambda n: n).graph, cut.network.graph

    def test_exact_where_a_channel_is_a_mixture_of_kept_ones(self):
        graph = wide(taps=1)
        w = graph.array("a.w").copy()
        w[1] = w[0]
        graph, x = graph.edited(Edits(constants={"a.w": w})), images(200)
        kept = np.ones((8, 12), bool)
        kept[:5, 1] = False  # the others read it still
        result, zero = self.fitted(graph, kept, x)
        assert (result.array("b.w")[:5, 1] == 0).all()
        dense, made, none = (dumped(g, {"x": x}, "y")[0] for g in (graph, result, zero))
        energy = np.linalg.norm(dense)
        assert np.linalg.norm(made - dense) < 0.01 * energy
        assert np.linalg.norm(none - dense) > 0.1 * energy

    def test_it_is_what_least_squares_says(self):
        graph, x = wide(taps=1), images(200)
        kept = keep_kernels(np.random.default_rng(0).random((8, 12)), 0.5)
        result, _ = self.fitted(graph, kept, x)
        (a,) = dumped(graph, {"x": x}, "a1")
        rows = np.moveaxis(a, 1, -1).reshape(-1, 12)
        w, new = (g.array("b.w").reshape(8, 12).astype(float) for g in (graph, result))
        bias = result.array(result.nodes[2].inputs[2])
        for t in range(8):
            k = kept[t]
            inputs = np.c_[rows[:, k], np.ones(len(rows))]
            best = np.linalg.lstsq(inputs, rows @ w[t], rcond=None)[0]
            lost, least = (rows @ (w[t] - new[t]) - bias[t]).std(), (rows @ w[t] - inputs @ best).std()
            assert lost <= 1.001 * least
            assert abs((rows @ (w[t] - new[t])).mean() - bias[t]) < 1e-4 * np.abs(rows @ w[t]).max()


class TestRuns:
    def prune(self, **options):
        options = {"inbound": 0.5, "force": True, "measure_latency": False, **options}
        return onnxprune.prune(wide(), calib=[{"x": images(1, k)} for k in range(48)], **options)

    def test_kernels_that_are_left_make_up_for_the_others(self):
        none, fitted = self.prune(repair="none"), self.prune()
        before, after = (next(iter(r.verdict.drift.relative.values())) for r in (none, fitted))
        assert after < 0.9 * before
        assert fitted.verdict.exact
        assert any("kernels are gone" in note for note in fitted.verdict.warnings)

    def test_groups_are_said_to_be_no_faster_or_made(self):
        said = " ".join(self.prune(inbound_groups=2).verdict.warnings)
        assert "groups are not faster" in said or "read their own channels in 2 groups" in said

    def test_step_by_step(self):
        once, often = self.prune(), self.prune(steps=3)
        layers = [{x.weight: x.mask for x in r.plan.layers} for r in (once, often)]
        assert layers[0].keys() == layers[1].keys()
        assert layers[0] != layers[1]

    def test_replay(self):
        result = self.prune()
        calib = [{"x": images(1, k)} for k in range(48)]
        again = onnxprune.apply(wide(), result.plan, calib=calib, measure_latency=False)
        assert again.model == result.model
