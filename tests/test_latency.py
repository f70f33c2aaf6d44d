"""Timing, on a clock that only the timed functions move, and its statistics, on synthetic numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from onnxprune.runtime import Ratio, latency, ratio


class Clock:
    """A clock that stands still unless somebody works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakeSession:
    """A session whose n-th run takes `cost(n)` seconds, and that writes its name into a log."""

    def __init__(self, name, clock, cost, log=None):
        self.name, self.clock, self.cost = name, clock, cost
        self.log = [] if log is None else log
        self.runs = 0

    def bind(self, feeds):
        def run():
            self.clock.now += self.cost(self.runs)
            self.runs += 1
            self.log.append((self.name, feeds))

        return run


def test_seconds_per_run():
    clock = Clock()
    sessions = [FakeSession("a", clock, lambda n: 2.0), FakeSession("b", clock, lambda n: 3e-6)]
    timings = latency(sessions, [{}, {}], rounds=7, clock=clock)
    np.testing.assert_allclose(timings.seconds, np.array([[2.0], [3e-6]]).repeat(7, axis=1))
    assert timings.medians == pytest.approx((2.0, 3e-6))


def test_short_runs_are_repeated_until_a_timing_takes_a_millisecond():
    clock = Clock()
    session = FakeSession("a", clock, lambda n: 1e-4)
    latency([session], [{}], rounds=1, warmup=0, clock=clock)
    assert session.runs == (1 + 2 + 4 + 8 + 16) + 16


def test_warm_up_is_not_counted():
    clock = Clock()
    session = FakeSession("a", clock, lambda n: 100.0 if n < 3 else 1.0)
    assert latency([session], [{}], rounds=5, warmup=3, clock=clock).seconds.tolist() == [[1.0] * 5]


def test_each_session_gets_its_own_feeds_and_turn():
    clock, log = Clock(), []
    names = "abc"
    sessions = [FakeSession(name, clock, lambda n: 1.0, log) for name in names]
    latency(sessions, [{"x": name} for name in names], rounds=12, warmup=0, clock=clock)
    assert all(feeds == {"x": name} for name, feeds in log)

    turns = [name for name, _ in log[3:]]  # after the runs that fix the repeats
    rounds = ["".join(turns[i : i + 3]) for i in range(0, len(turns), 3)]
    assert rounds == 2 * ["abc", "bca", "cab", "cba", "bac", "acb"]
    assert all(first != second for first, second in pairwise(rounds))


def test_a_time_budget_ends_the_measurement_but_not_before_six_rounds():
    clock = Clock()
    one = FakeSession("a", clock, lambda n: 1.0)
    assert latency([one], [{}], seconds=20, clock=clock).seconds.shape == (1, 20)
    assert latency([one], [{}], seconds=2, clock=clock).seconds.shape == (1, 6)


def test_a_disturbance_that_hits_a_whole_round_cancels():
    clock = Clock()
    load = iter(np.exp(np.random.default_rng(0).normal(0, 1, 1000)).repeat(2))  # one value per round
    fast = FakeSession("fast", clock, lambda n: 1.0 * next(load))
    slow = FakeSession("slow", clock, lambda n: 2.0 * next(load))
    timings = latency([fast, slow], [{}, {}], rounds=400, warmup=0, clock=clock)
    assert timings.seconds.std() > 1
    result = ratio(*timings.seconds)
    assert (result.value, result.low, result.high) == pytest.approx((0.5, 0.5, 0.5))


def test_nothing_to_time():
    session = FakeSession("a", Clock(), lambda n: 1.0)
    with pytest.raises(ValueError, match="nothing to time"):
        latency([], [])
    with pytest.raises(ValueError, match="nothing to time"):
        latency([session], [{}], rounds=0)
    with pytest.raises(ValueError, match="zip"):
        latency([session], [])


class TestRatio:
    def test_the_order_of_the_arguments(self):
        result = ratio([1.0] * 8, [2.0] * 8)
        assert (result.value, result.low, result.high) == (0.5, 0.5, 0.5)

    @pytest.mark.parametrize(("pairs", "outside"), [(6, 1), (8, 1), (9, 2), (30, 10), (59, 22)])
    def test_the_interval_is_made_of_order_statistics(self, pairs, outside):
        values = np.random.default_rng(0).permutation(np.arange(1.0, pairs + 1))
        result = ratio(values, np.ones(pairs))
        assert (result.low, result.high) == (outside, pairs + 1 - outside)

    def test_too_few_pairs_give_no_interval(self):
        result = ratio([1.0] * 5, [1.0] * 5)
        assert result == Ratio(1.0, 0.0, math.inf)
        assert result.noisy

    @pytest.mark.parametrize("pairs", [10, 59, 75, 600])
    def test_coverage(self, pairs):
        rng = np.random.default_rng(0)
        noise = rng.lognormal(0, 0.3, (2, 1000, pairs))
        results = [ratio(0.8 * a, b) for a, b in zip(*noise, strict=True)]
        coverage = np.mean([result.low <= 0.8 <= result.high for result in results])
        assert 0.94 < coverage < 0.99

    def test_coverage_where_a_disturbance_lasts(self):
        """Each timing is like the one before: an interval of single pairs would hold half of the time."""
        rng = np.random.default_rng(0)
        noise = rng.normal(0, 0.1, (2, 500, 600))
        for k in range(1, 600):
            noise[..., k] += 0.8 * noise[..., k - 1]
        results = [ratio(0.8 * a, b) for a, b in zip(*np.exp(noise), strict=True)]
        assert np.mean([result.low <= 0.8 <= result.high for result in results]) > 0.9

    def test_waiting_for_a_core_does_not_count(self):
        """Most timings of both models wait for 3 ms, and what they take is less than that."""
        rng = np.random.default_rng(0)
        waits = 3e-3 * (rng.random((2, 400)) < 0.6)
        fast, slow = 4e-4 + waits[0], 1e-3 + waits[1]
        assert np.median(fast) / np.median(slow) > 0.8
        found = ratio(fast, slow)
        assert found.low <= found.value <= found.high
        assert found.value == pytest.approx(0.4, rel=0.05)

    @pytest.mark.parametrize(
        ("low", "high", "noisy"),
        [
            (0.5, 0.7, False),  # wide, but faster beyond doubt
            (1.2, 3.0, False),
            (0.98, 1.03, False),  # the same
            (0.8, 1.2, True),
            (0.5, 1.01, True),
        ],
    )
    def test_noise_forbids_a_verdict(self, low, high, noisy):
        assert Ratio((low + high) / 2, low, high).noisy is noisy

    @pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]])])
    def test_not_pairs(self, a, b):
        with pytest.raises(ValueError, match="not two series of pairs"):
            ratio(a, b)
