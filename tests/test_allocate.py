"""Widths by what is lost for each saved unit of cost."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import pytest
from calibration import build, channels, residual_net
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.helper import make_node

from onnxprune.contracts.budget import Uniform
from onnxprune.contracts.groups import Choice, Group
from onnxprune.cost.macs import macs as count_macs
from onnxprune.cost.model import macs_model, parameters_model
from onnxprune.errors import Infeasible
from onnxprune.graph import infer
from onnxprune.strategies.allocation import Allocation
from onnxprune.strategies.ladder import Ladder, corrected
from onnxprune.strategies.uniform import by_rank, by_rule, chosen
from onnxprune.strategies.widths import Widths


def group(size: int, name: str = "g", **about) -> Group:
    return Group(name, name, "channel", size, **about)


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

    def test_what_was_measured_to_fall_does_not(self):
        """By chance more gone may lose less: then it loses as much."""
        ladder = Ladder(group(16), np.arange(1.0, 17))
        bent = corrected(ladder, {4: 9 * ladder.loss(4), 8: 0.1 * ladder.loss(8)})
        assert bent[4] == pytest.approx(9 * ladder.loss(4))
        assert (np.diff(bent) >= 0).all()
        assert bent[8] >= bent[4]

    def test_between_measured_rungs_ratios_go_from_one_to_the_other(self):
        """In logarithms: in the middle of 1 and 4 times is 2 times; beyond them it stays."""
        ladder = Ladder(group(16), np.ones(16))
        bent = corrected(ladder, {4: ladder.loss(4), 8: 4 * ladder.loss(8)})
        np.testing.assert_allclose(bent[[2, 6, 12]], ladder.curve[[2, 6, 12]] * [1, 2, 4])

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
def space():
    return channels(residual_net())


def cost_of(kind="macs"):
    network = space().network
    if kind == "macs":
        return macs_model(network.graph, network.facts, space().effect)
    return parameters_model(network.graph, space().effect)


def allocation(values, kind="macs"):
    ladders = [Ladder(g, v) for g, v in zip(space().groups, values, strict=True)]
    return Allocation(ladders, cost_of(kind))


class TestBudget:
    @settings(max_examples=10, deadline=None)
    @given(st.sampled_from(["macs", "params"]), st.floats(0.3, 0.95), st.integers(0, 1000))
    def test_it_is_met_and_used(self, kind, share, seed):
        network, groups = space().network, space().groups
        random = np.random.default_rng(seed)
        values = tuple(random.random(g.size) for g in groups)
        found = allocation(values, kind)
        choice = found.choice(share)
        narrow = space().cut(network, choice)[0].graph
        if kind == "macs":
            before, after = (sum(count_macs(g, infer(g)).values()) for g in (network.graph, narrow))
        else:
            before, after = network.graph.parameters(), narrow.parameters()
        assert after <= share * before
        # Nothing that was taken could be given back.
        model = cost_of(kind)
        assert model(choice) == after
        assert found.share(choice) == after / before
        for g in groups:
            for unit in np.flatnonzero(~choice.of(g)):
                more = choice.of(g).copy()
                more[unit] = True
                assert model(choice.with_group(g, more)) > share * before or len(g.lanes)

    def test_what_is_worth_least_goes(self):
        groups = space().groups
        values = tuple(np.arange(g.size, dtype=float)[::-1] + 1 for g in groups)
        choice = allocation(values).choice(0.5)
        for g in groups:
            assert (np.diff(choice.of(g).astype(int)) <= 0).all()

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
        found = channels(build(nodes, {"x": (1, 3, 5, 5)}, {"y": (1, 2, 5, 5), "z": (1, 2, 3, 3)}, weights))
        values = tuple(np.sort(r.random(6)) for _ in found.groups)
        cost = macs_model(found.network.graph, found.network.facts, found.effect)
        ladders = [Ladder(g, v) for g, v in zip(found.groups, values, strict=True)]
        choice = Allocation(ladders, cost).choice(0.6)

        def loss(counts):
            return sum(x.curve[6 - n] for x, n in zip(ladders, counts, strict=True))

        def fits(counts):
            pairs = zip(found.groups, counts, strict=True)
            return cost(Choice({g.id: np.arange(6) >= 6 - n for g, n in pairs})) <= 0.6 * cost.total

        widths = [int(choice.of(g).sum()) for g in found.groups]
        best = min((c for c in itertools.product(range(1, 7), repeat=2) if fits(c)), key=loss)
        assert fits(widths)
        assert loss(widths) <= 1.5 * loss(best) + 1e-9

    def test_what_cannot_be_met_says_the_floor(self):
        values = tuple(np.ones(g.size) for g in space().groups)
        with pytest.raises(Infeasible, match=r"at least 0\.\d+ stay .*most in 'stem'"):
            allocation(values).choice(0.001)

    def test_the_floor_is_what_is_left_with_one_unit_of_each(self):
        found = allocation(tuple(np.ones(g.size) for g in space().groups))
        assert [int(found.narrowest.of(g).sum()) for g in space().groups] == [1] * len(space().groups)
        assert found.floor == found.cost(found.narrowest) / found.cost.total
        assert found.choice(found.floor).digest == found.narrowest.digest


WIDTHS = Widths()


def at_ratio(values, ratio, widths=WIDTHS):
    return chosen(space().groups, values, Uniform("--ratio"), 1 - ratio, widths)


class TestRatio:
    @pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
    def test_every_group_loses_its_share(self, ratio):
        groups = space().groups
        values = tuple(np.random.default_rng(0).random(g.size) for g in groups)
        choice = at_ratio(values, ratio)
        for g in groups:
            assert int((~choice.of(g)).sum()) == int(ratio * g.size + 1e-9)

    def test_multiples_and_least(self):
        groups = space().groups
        values = tuple(np.ones(g.size) for g in groups)
        multiples = at_ratio(values, 0.5, Widths(4))
        assert {int(multiples.of(g).sum()) % 4 for g in groups} == {0}
        least = at_ratio(values, 0.9, Widths(least=3))
        assert all(least.of(g).sum() >= 3 for g in groups)


class TestUniform:
    """Each option rounds as its source does; runs keep equally many each."""

    @pytest.mark.parametrize(
        ("option", "keep", "stay"),
        [("--ratio", 0.5, 4), ("--inbound", 0.5, 4), ("--sparsity", 0.5, 3), ("--inbound", 0.01, 1)],
    )
    def test_of_seven(self, option, keep, stay):
        """7 x 0.5 = 3.5: of channels no more than 3 go, of kernels 4 stay (to even), of weights 4 go."""
        choice = chosen([group(7)], (np.arange(7.0),), Uniform(option), keep, Widths())
        np.testing.assert_array_equal(choice.of(group(7)), np.arange(7) >= 7 - stay)

    def test_runs_keep_equally_many(self):
        runs = group(12, runs=3)
        scores = np.arange(12.0)
        choice = chosen([runs], (scores,), Uniform("--inbound"), 0.5, Widths())
        np.testing.assert_array_equal(choice.of(runs).reshape(3, 4), [[False, False, True, True]] * 3)

    def test_a_rule_says_how_many_of_each_group(self):
        groups = [group(6, "a"), group(3, "b")]
        scores = (np.arange(6.0), np.arange(3.0))
        choice = by_rule(groups, scores, lambda g, score: int((score >= g.size // 2).sum()), Widths())
        assert [int(choice.of(g).sum()) for g in groups] == [3, 2]

    def test_units_of_all_groups_compete(self):
        groups = [group(4, "a"), group(4, "b")]
        choice = by_rank(groups, (np.arange(4.0), np.arange(4.0) + 2), 0.5)
        np.testing.assert_array_equal(choice.of(groups[0]), [False, False, False, True])
        np.testing.assert_array_equal(choice.of(groups[1]), [False, True, True, True])

    def test_of_equal_ones_the_first_stay_and_a_group_may_be_emptied(self):
        groups = [group(2, "a"), group(2, "b")]
        choice = by_rank(groups, (np.ones(2), np.ones(2)), 0.5)
        assert [choice.of(g).tolist() for g in groups] == [[True, True], [False, False]]
