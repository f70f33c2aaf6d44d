"""The way down, step by step: what a step costs, what it saves now, and how far groups go."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from calibration import channels, residual_net

from onnxprune.contracts.groups import Choice, Group, Lanes
from onnxprune.contracts.selection import keep_best
from onnxprune.cost.model import Cost, macs_model, parameters_model
from onnxprune.strategies.allocation import assembled, descend
from onnxprune.strategies.ladder import Ladder


def group(size: int, **about) -> Group:
    return Group("g", "g", "channel", size, **about)


@cache
def space():
    return channels(residual_net())


@cache
def cost_of(kind: str) -> Cost:
    network = space().network
    if kind == "macs":
        return macs_model(network.graph, network.facts, space().effect)
    return parameters_model(network.graph, space().effect)


def ladders(seed: int, kind: str = "macs") -> list[Ladder]:
    """Steps of all groups cost about the same for what they save, so that it matters how much that is."""
    random = np.random.default_rng(seed)
    found = []
    for g, held in zip(space().groups, cost_of(kind).held(Choice()), strict=True):
        scores = random.uniform(0.7, 1.4, g.size) * held / g.size
        found.append(Ladder(g, scores, np.r_[0, np.cumsum(np.sort(scores))]))
    return found


def slowly(ladders: list[Ladder], cost: Cost, target: float) -> list[int]:
    """As `descend`, but all that a step could save is counted on the whole network, before each step."""
    rungs, taken = [0] * len(ladders), []

    def counted(g: int, by: int) -> int:
        return cost(assembled(ladders, [r + by * (k == g) for k, r in enumerate(rungs)]))

    while (now := counted(0, 0)) > target:
        price, g = min(
            (ladders[g].prices()[rungs[g]] / saved if (saved := now - counted(g, 1)) > 0 else np.inf, g)
            for g in range(len(ladders))
            if rungs[g] + 1 < len(ladders[g])
        )
        rungs[g] += 1
        taken.append((price, g))
    for _, g in sorted(taken, reverse=True):
        if rungs[g] and counted(g, -1) <= target:
            rungs[g] -= 1
    return rungs


@pytest.mark.parametrize("kind", ["macs", "params"])
@pytest.mark.parametrize("share", [0.7, 0.4, 0.15])
def test_each_step_is_the_cheapest_for_what_it_saves_then(kind, share):
    """A neighbour that has moved changes what a step saves: prices of before would lead elsewhere."""
    cost = cost_of(kind)
    for seed in range(3):
        steps = ladders(seed, kind)
        assert descend(steps, cost, share * cost.total) == slowly(steps, cost, share * cost.total)


def test_a_cheap_rung_behind_a_dear_one_is_had_together_with_it():
    """Losses 0, 10, 11, 12: three steps at 4 each, as no one stops behind the first."""
    ladder = Ladder(group(4), np.ones(4), curve=[0, 10, 11, 12, 99])
    np.testing.assert_allclose(ladder.prices(), [4, 4, 4])
    convex = Ladder(group(4), np.ones(4), curve=[0, 1, 3, 7, 99])
    np.testing.assert_allclose(convex.prices(), [1, 2, 4])
    both = Ladder(group(5), np.ones(5), curve=[0, 1, 11, 12, 13, 99])
    np.testing.assert_allclose(both.prices(), [1, 4, 4, 4])


@pytest.mark.parametrize("seed", range(5))
def test_prices_are_those_of_the_lower_convex_hull(seed):
    """They never fall, add up to what is lost in the end, and never say more than is lost on the way."""
    curve = np.r_[0, np.cumsum(np.random.default_rng(seed).random(20) ** 4)]
    for round_to in (1, 3):
        ladder = Ladder(group(20), np.ones(20), curve=curve, round_to=round_to)
        prices, losses = ladder.prices(), [ladder.loss(r) for r in range(len(ladder))]
        widths = -np.diff(ladder.counts)
        assert (np.diff(prices / widths) >= -1e-9).all()
        reached = np.r_[0, np.cumsum(prices)]
        assert reached[-1] == pytest.approx(losses[-1])
        assert (reached <= np.asarray(losses) + 1e-9).all()
        assert (reached < np.asarray(losses) - 1e-3).any(), "else there is no hull to speak of"


@pytest.mark.parametrize(
    ("size", "options", "counts"),
    [
        (6, {}, (6, 5, 4, 3, 2, 1)),
        (6, {"min_channels": 4}, (6, 5, 4)),
        (10, {"round_to": 4}, (10, 8, 4)),
        (10, {"round_to": 4, "min_channels": 5}, (10, 8)),
        (8, {"round_to": 4}, (8, 4)),
        (3, {"round_to": 4}, (3,)),
        (3, {"min_channels": 3}, (3,)),
        (100, {"rungs": 10}, (100, 90, 80, 70, 60, 50, 40, 30, 20, 10)),
        (100, {"rungs": 10, "min_channels": 25}, (100, 90, 80, 70, 60, 50, 40, 30)),
        (9, {"rungs": 4}, (9, 6, 3)),
    ],
)
def test_widths_go_down_to_the_least_and_no_further(size, options, counts):
    ladder = Ladder(group(size), np.arange(float(size)), **options)
    assert ladder.counts == counts
    assert [int(ladder.stays(r).sum()) for r in range(len(ladder))] == list(counts)
    assert not ladder.stays(len(ladder) - 1).flags.writeable, "it is handed out again"


def test_no_group_ends_below_its_least():
    least = 3
    steps = [Ladder(x.group, x.scores, min_channels=least) for x in ladders(0)]
    cost = cost_of("macs")
    ends = assembled(steps, [len(x) - 1 for x in steps])
    assert descend(steps, cost, cost(ends)) == [len(x) - 1 for x in steps]
    assert {int(ends.of(x.group).sum()) for x in steps} == {least}


def test_nothing_is_taken_where_nothing_has_to_go():
    cost = cost_of("macs")
    assert descend(ladders(0), cost, cost.total) == [0] * len(space().groups)
    assert assembled(ladders(0), [0] * len(space().groups)).digest == Choice().digest


def crossing(n: int) -> Group:
    """n x n units; each row and each column keeps as many as the others."""
    cells = np.arange(n * n).reshape(n, n)
    return group(n * n, lanes=(Lanes(tuple(cells), (1,) * n), Lanes(tuple(cells.T), (1,) * n)))


@pytest.mark.parametrize("keep", [4, 7, 8, 12, 15, 16])
def test_rows_that_cross_keep_no_more_than_was_asked(keep):
    """The share, floored to whole entries of every row: 7 of 16 is 1 of 4."""
    scores = np.random.default_rng(1).random(16)
    stays = keep_best(crossing(4), scores, keep).reshape(4, 4)
    assert set(stays.sum(0)) == set(stays.sum(1)) == {max(1, keep // 4)}


@pytest.mark.parametrize("worth", [0.0, 3.0])
def test_rows_that_cross_and_are_all_alike_keep_as_many_as_they_may(worth):
    stays = keep_best(crossing(4), np.full(16, worth), 8).reshape(4, 4)
    assert set(stays.sum(0)) == set(stays.sum(1)) == {2}


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_of_rows_that_cross_the_best_stay(scale):
    """Of a Latin square of scores, the cells of one letter; how large scores are says nothing."""
    letters = (np.arange(4)[:, None] + np.arange(4)) % 4
    stays = keep_best(crossing(4), scale * (letters == 2).astype(float).ravel(), 4)
    np.testing.assert_array_equal(stays.reshape(4, 4), letters == 2)


def test_rows_that_cross_keep_what_must_not_be_empty():
    cells = np.arange(16).reshape(4, 4)
    lanes = (Lanes(tuple(cells), (1,) * 4), Lanes(tuple(cells.T), (1,) * 4))
    scores = np.where(np.eye(4, dtype=bool), 1.0, 0.0).ravel()
    needed = np.array([1, 2])  # off the diagonal, which is worth most
    stays = keep_best(group(16, lanes=lanes, floors=(needed,)), scores, 4)
    assert stays[needed].any()
    assert set(stays.reshape(4, 4).sum(1)) == {1}
