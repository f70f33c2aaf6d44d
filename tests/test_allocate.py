"""Widths by what is lost for each saved unit of cost."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import pytest
from calibration import build, residual_net
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.helper import make_node

from onnxprune.contracts.analysis import ChannelGroup
from onnxprune.cost.macs import macs as count_macs
from onnxprune.cost.model import macs_model, parameters_model
from onnxprune.errors import Infeasible
from onnxprune.graph import infer
from onnxprune.reductions.channels.cut import rewrite
from onnxprune.reductions.channels.find import analyze
from onnxprune.strategies.descent import Descent
from onnxprune.strategies.ladder import Ladder, corrected
from onnxprune.strategies.uniform import by_ratio


def group(size: int) -> ChannelGroup:
    return ChannelGroup("g", "g", "channel", size, units=np.arange(size), nodes=(0,))


scores = st.lists(st.floats(0, 1e3, width=32), min_size=4, max_size=40).map(np.asarray)


class TestLadder:
    @given(scores)
    def test_losses_rise_from_zero(self, values):
        ladder = Ladder(group(len(values)), values)
        assert ladder.curve[0] == 0
        assert (np.diff(ladder.curve) >= 0).all()
        assert (ladder.prices() >= -1e-9).all()

    def test_little_gone_counts_as_its_scores(self):
        values = np.asarray([1e-6, 2e-6, *np.ones(1000)])
        np.testing.assert_allclose(Ladder(group(1002), values).curve[:3], [0, 1e-6, 3e-6], rtol=1e-5)

    def test_an_emptied_group_is_dear(self):
        ladder = Ladder(group(100), np.ones(100))
        assert ladder.curve[50] == pytest.approx(100)
        assert ladder.curve[99] == pytest.approx(100 * 99)

    @given(scores, st.floats(1e-3, 1e3), st.data())
    def test_corrected_curves_go_through_what_was_measured(self, values, factor, data):
        ladder = Ladder(group(len(values)), 0.1 + values)
        rungs = data.draw(st.sets(st.integers(1, len(ladder) - 1), min_size=1, max_size=3))
        # Losses that rise faster than the scores: then nothing needs to be evened out.
        measured = {r: factor * (1 + r) * ladder.loss(r) for r in rungs}
        bent = corrected(ladder, measured)
        assert bent[0] == 0
        assert (np.diff(bent) >= 0).all()
        for rung, loss in measured.items():
            assert bent[ladder.group.size - ladder.counts[rung]] == pytest.approx(loss)

    def test_a_broken_network_is_dear_and_no_more(self):
        ladder = Ladder(group(16), np.arange(1.0, 17))
        bent = corrected(ladder, {4: ladder.loss(4), 8: np.inf})
        assert np.isfinite(bent).all()
        assert bent[4] == pytest.approx(ladder.curve[4])
        assert bent[8] > 100

    def test_a_curve_is_scaled_where_all_is_as_measured(self):
        ladder = Ladder(group(16), np.arange(1.0, 17))
        np.testing.assert_allclose(corrected(ladder, {8: 3 * ladder.loss(8)}), 3 * ladder.curve)


@lru_cache(maxsize=1)
def prepared():
    graph = residual_net()
    facts = infer(graph)
    return graph, facts, analyze(graph, facts)


def descent(values, kind="macs"):
    graph, facts, analysis = prepared()
    cost = macs_model(graph, facts, analysis) if kind == "macs" else parameters_model(graph, analysis)
    return Descent(analysis, [Ladder(g, v) for g, v in zip(analysis.groups, values, strict=True)], cost)


class TestBudget:
    @settings(max_examples=10, deadline=None)
    @given(st.sampled_from(["macs", "params"]), st.floats(0.3, 0.95), st.integers(0, 1000))
    def test_it_is_met_and_used(self, kind, share, seed):
        graph, facts, analysis = prepared()
        random = np.random.default_rng(seed)
        values = tuple(random.random(g.size) for g in analysis.groups)
        kept = descent(values, kind).kept(share)
        narrow = rewrite(graph, facts, analysis, kept)
        if kind == "macs":
            before, after = (sum(count_macs(g, infer(g)).values()) for g in (graph, narrow))
        else:
            before, after = graph.parameters(), narrow.parameters()
        assert after <= share * before
        # Nothing that was taken could be given back.
        model = macs_model(graph, facts, analysis) if kind == "macs" else parameters_model(graph, analysis)
        assert model(kept) == after
        for g in analysis.groups:
            gone = g.units[~kept[g.units]]
            for unit in gone:
                more = kept.copy()
                more[unit] = True
                assert model(more) > share * before or len(g.lanes)

    def test_what_is_worth_least_goes(self):
        _, _, analysis = prepared()
        values = tuple(np.arange(g.size, dtype=float)[::-1] + 1 for g in analysis.groups)
        kept = descent(values).kept(0.5)
        for g in analysis.groups:
            stays = kept[g.units]
            assert (np.diff(stays.astype(int)) <= 0).all()

    def test_best_of_all_widths_of_two_layers(self):
        """Greedy is as good as trying all, where losses are convex and costs don't multiply."""
        nodes = [
            make_node("Conv", ["x", "a"], ["p"], "first"),
            make_node("Relu", ["p"], ["pr"]),
            make_node("Conv", ["pr", "b"], ["y"], "last"),
            make_node("Conv", ["x", "c"], ["q"], "other"),
            make_node("Relu", ["q"], ["qr"]),
            make_node("Conv", ["qr", "d"], ["z"], "end"),
        ]
        r = np.random.default_rng(0)
        shapes = {"a": (6, 3, 1, 1), "b": (2, 6, 1, 1), "c": (6, 3, 3, 3), "d": (2, 6, 1, 1)}
        weights = {n: r.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        graph = build(nodes, {"x": (1, 3, 5, 5)}, {"y": (1, 2, 5, 5), "z": (1, 2, 3, 3)}, weights)
        facts = infer(graph)
        analysis = analyze(graph, facts)
        values = tuple(np.sort(r.random(6)) for _ in analysis.groups)
        cost = macs_model(graph, facts, analysis)
        ladders = [Ladder(g, v) for g, v in zip(analysis.groups, values, strict=True)]
        kept = Descent(analysis, ladders, cost).kept(0.6)

        def loss(counts):
            return sum(x.curve[6 - n] for x, n in zip(ladders, counts, strict=True))

        def fits(counts):
            mask = np.ones(analysis.count, bool)
            for g, n in zip(analysis.groups, counts, strict=True):
                mask[g.units[: 6 - n]] = False
            return cost(mask) <= 0.6 * cost.total

        found = [int(kept[g.units].sum()) for g in analysis.groups]
        best = min((c for c in itertools.product(range(1, 7), repeat=2) if fits(c)), key=loss)
        assert fits(found)
        assert loss(found) <= 1.5 * loss(best) + 1e-9

    def test_what_cannot_be_met_says_the_floor(self):
        _, _, analysis = prepared()
        values = tuple(np.ones(g.size) for g in analysis.groups)
        with pytest.raises(Infeasible, match=r"at least 0\.\d+ stay .*most in 'stem'"):
            descent(values).kept(0.001)


class TestRatio:
    @pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
    def test_every_group_loses_its_share(self, ratio):
        _, _, analysis = prepared()
        values = tuple(np.random.default_rng(0).random(g.size) for g in analysis.groups)
        kept = by_ratio(analysis, values, ratio)
        for g in analysis.groups:
            assert int((~kept[g.units]).sum()) == int(ratio * g.size + 1e-9)

    def test_multiples_and_least(self):
        _, _, analysis = prepared()
        values = tuple(np.ones(g.size) for g in analysis.groups)
        assert {
            int(by_ratio(analysis, values, 0.5, round_to=4)[g.units].sum()) % 4 for g in analysis.groups
        } == {0}
        assert all(
            by_ratio(analysis, values, 0.9, min_channels=3)[g.units].sum() >= 3 for g in analysis.groups
        )
