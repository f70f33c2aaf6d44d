"""Searches, on candidates that are numbers."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import binom

from onnxprune.contracts.point import ParetoPoint
from onnxprune.contracts.verdict import Size, Speed
from onnxprune.errors import UsageError
from onnxprune.quality.interval import drop_interval
from onnxprune.report.pareto import pareto_table, plot
from onnxprune.strategies.bisection import Effort, bisect
from onnxprune.strategies.pareto import curve, shares
from onnxprune.strategies.refusal import drop_refused, no_gain, too_tight
from onnxprune.strategies.schedule import schedule


class TestEdge:
    def test_a_cost_budget_ends_just_within(self):
        found = bisect(lambda t: t**2, lambda v: v / 0.3 - 1, inside=0.05, outside=1.0, effort=Effort(20))
        assert found.best.candidate == pytest.approx(0.3, rel=0.01)
        assert found.best.excess <= 0

    def test_a_drop_runs_the_other_way(self):
        found = bisect(
            lambda t: 0.02 * (1 - t) ** 3, lambda d: d - 0.01, inside=0.99, outside=0.05, effort=Effort(20)
        )
        assert found.best.at == pytest.approx(1 - 0.5 ** (1 / 3), abs=0.01)
        assert all(t.at >= found.best.at for t in found.within)

    def test_good_enough_is_enough(self):
        found = bisect(
            lambda t: t,
            lambda v: v / 0.6 - 1,
            inside=0.1,
            outside=1.06,
            effort=Effort(tolerance=0.1),
        )
        assert [t.at for t in found.trials] == pytest.approx([0.58])

    def test_interpolation_needs_few(self):
        found = bisect(
            lambda t: t + 0.1,
            lambda v: v / 0.6 - 1,
            inside=0.1,
            outside=1.1,
            effort=Effort(tolerance=0.05),
        )
        assert len(found.trials) <= 3
        assert 0.57 <= found.best.candidate <= 0.6

    @pytest.mark.parametrize(("inside", "outside", "at"), [(-1.0, 1e-6, 0.7125), (-1e-6, 1.0, 0.5375)])
    def test_interpolation_keeps_away_from_both_ends(self, inside, outside, at):
        """Of the bracket from 0.5 to 0.75, 15% at either end."""
        found = bisect(
            lambda t: t,
            lambda v: inside if v < 0.6 else outside,
            inside=0.0,
            outside=1.0,
            effort=Effort(3),
        )
        assert [t.at for t in found.trials] == pytest.approx([0.5, 0.75, at])

    def test_a_bracket_that_is_small_enough_ends_the_search(self):
        wide, narrow = (
            bisect(lambda t: t, lambda v: v - 0.30013, inside=0.3 - w, outside=0.3 + w, effort=Effort(9))
            for w in (0.1, 8e-4)
        )
        assert len(narrow.trials) == 1
        assert len(wide.trials) > 1

    def test_nothing_within(self):
        found = bisect(lambda t: t + 1, lambda v: v - 0.5, inside=0.1, outside=1.0, effort=Effort(4))
        assert found.best is None
        assert found.trials[-1].at == 0.1
        assert found.closest.candidate == 1.1
        assert len(found.trials) == 5

    def test_the_safe_end_saves_the_day(self):
        found = bisect(lambda t: t, lambda v: v - 0.1001, inside=0.1, outside=1.0, effort=Effort(3))
        assert found.best.at == 0.1

    def test_an_executor_changes_nothing(self):
        def run(executor):
            return bisect(
                lambda t: t**3,
                lambda v: v - 0.2,
                inside=0.0,
                outside=1.0,
                effort=Effort(21),
                executor=executor,
            )

        with ThreadPoolExecutor(2) as pool:
            assert run(pool) == run(None)
        assert run(None).best.candidate == pytest.approx(0.2, rel=0.1)

    def test_a_bump_doesnt_mislead_beyond_it(self):
        """Where candidates aren't monotone, what is returned is still within bounds."""
        random = np.random.default_rng(0)
        for _ in range(50):
            bumps = random.normal(0, 0.05, 2000)
            found = bisect(
                lambda t, b=bumps: t + b[int(t * 1999)],
                lambda v: v - 0.5,
                inside=0.0,
                outside=1.0,
                effort=Effort(10),
            )
            assert found.best.excess <= 0
            assert 0.3 < found.best.at < 0.7

    def test_confirmation_steps_back(self):
        found = bisect(lambda t: t, lambda v: v - 0.52, inside=0.0, outside=1.0, effort=Effort(10))
        confirmed = found.confirmed(lambda v: v <= 0.51)
        assert confirmed.at <= 0.51
        assert confirmed.at < found.best.at
        assert found.confirmed(lambda v: False) is None


class TestInterval:
    def test_no_difference_seen(self):
        found = drop_interval(0, 0, 1000)
        assert found.value == 0
        assert found.low == -found.high
        assert 0.003 < found.high < 0.006

    def test_direction(self):
        found = drop_interval(30, 5, 1000)
        assert found.value == 0.025
        assert 0 < found.low < 0.025 < found.high < 0.05

    def test_more_samples_say_more(self):
        few, many = drop_interval(3, 1, 100), drop_interval(300, 100, 10000)
        assert few.value == many.value
        assert many.high - many.low < (few.high - few.low) / 5

    def test_everything_lost(self):
        found = drop_interval(50, 0, 50)
        assert found.value == 1
        assert found.high == 1

    @pytest.mark.parametrize(("p", "q"), [(0.02, 0.01), (0.001, 0.0), (0.3, 0.3)])
    def test_coverage_is_exact(self, p, q):
        """By enumeration over all outcomes of a small trinomial, not by chance."""
        n, covered = 60, 0.0
        for lost in range(n + 1):
            chance = binom.pmf(lost, n, p)
            if chance < 1e-12:
                continue
            for gained in range(n - lost + 1):
                found = drop_interval(lost, gained, n)
                if found.low <= p - q <= found.high:
                    covered += chance * binom.pmf(gained, n - lost, q / (1 - p))
        assert covered >= 0.95


class TestSchedule:
    def test_linear(self):
        assert schedule(0.4, 3) == pytest.approx((0.8, 0.6, 0.4))

    def test_cubic_hurries_first(self):
        steps = schedule(0.2, 4, "cubic")
        assert steps[-1] == 0.2
        assert np.all(np.diff((1.0, *steps)) < 0)
        assert np.all(np.diff(np.diff((1.0, *steps))) > 0)

    def test_one_shot(self):
        assert schedule(0.37, 1) == schedule(0.37, 1, "cubic") == (0.37,)


class TestPareto:
    def test_dominated_is_said(self):
        quality = {0.8: 0.9, 0.6: 0.95, 0.4: 0.5}
        found = curve(lambda t: t, lambda t: (f"m{t}", t, quality[t]), (0.8, 0.6, 0.4))
        assert [c.dominated for c in found] == [True, False, False]
        with ThreadPoolExecutor(2) as pool:
            assert curve(lambda t: t, lambda t: (f"m{t}", t, quality[t]), (0.8, 0.6, 0.4), pool) == found
        table = pareto_table(found, cost="MACs", quality="accuracy")
        assert list(table.columns[0].cells) == ["m0.8", "m0.6", "m0.4"]

    @pytest.mark.parametrize(
        ("others", "dominated"),
        [
            ([], False),
            ([(0.5, 0.9)], False),  # as good: neither is worse
            ([(0.5, 0.91)], True),
            ([(0.49, 0.9)], True),
            ([(0.4, 0.95)], True),
            ([(0.6, 0.99)], False),
            ([(0.4, 0.8)], False),
            ([(0.4, 0.8), (0.4, 0.9)], True),
        ],
    )
    def test_dominated_is_what_another_beats_in_one_and_equals_in_the_other(self, others, dominated):
        points = {0: (0.5, 0.9), **dict(enumerate(others, 1))}
        found = curve(lambda t: t, lambda t: (str(t), *points[t]), [*points])
        assert found[0].dominated is dominated

    def test_targets_are_evenly_spaced_above_the_floor_which_is_the_last(self):
        assert shares(4, 0.2) == pytest.approx((0.8, 0.6, 0.4, 0.2))
        assert shares(1, 0.3) == pytest.approx((0.3,))

    def test_a_plot_without_matplotlib(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(UsageError, match="matplotlib"):
            plot([ParetoPoint("a", 0.5, 0.9, None)], tmp_path / "p.png", cost="MACs", quality="accuracy")

    def test_a_plot(self, tmp_path):
        pytest.importorskip("matplotlib")
        choices = [ParetoPoint("a", 0.5, 0.9, None), ParetoPoint("b", 0.7, 0.8, None, dominated=True)]
        plot(choices, tmp_path / "p.svg", cost="MACs", quality="accuracy")
        assert (tmp_path / "p.svg").stat().st_size > 1000
        with pytest.raises(UsageError, match="can't be drawn"):
            plot(choices, tmp_path / "p.nonsense", cost="MACs", quality="accuracy")


class TestRefusal:
    def test_floor(self):
        error = too_tight("--latency", "5 ms", "6.2 ms", ["conv1", "conv2"])
        assert error.exit_code == 3
        assert str(error).startswith("--latency: 5 ms can't be met: 6.2 ms is the least")
        assert "'conv1', 'conv2'" in str(error)

    def test_floor_without_groups(self):
        error = too_tight("--size", "5 kB", "6.2 kB", [])
        assert "may be;" in f"{error};"
        assert "most in" not in str(error)

    def test_latency_of_what_is_no_gain_is_said(self):
        error = no_gain(Size(10, 10, 1000), Size(10, 10, 1001), Speed(1, 1.25, 1.25, 1.1, 1.3), ["x"])
        assert "not smaller (1001 bytes against 1000) and not faster, latency is 1.25 of" in str(error)
        error = no_gain(Size(10, 10, 1000), Size(10, 10, 1001), None, ["x"])
        assert "not faster; tried: x" in str(error)

    def test_drop(self):
        error = drop_refused(0.01, 0.018, 0.97)
        assert error.exit_code == 3
        assert "to 0.97 of the MACs, loses 1.8 points: 0.8 points more than the 1 points allowed" in str(
            error
        )

    @pytest.mark.parametrize(
        ("after", "speed", "refused"),
        [
            (900, None, False),
            (900, Speed(1, 2, 2.0, 1.9, 2.1), False),  # smaller at least
            (1000, Speed(1, 0.5, 0.5, 0.4, 0.6), False),  # faster at least
            (1000, Speed(1, 1, 1.0, 0.9, 1.1), False),  # perhaps faster
            (1000, Speed(1, 1.2, 1.2, 1.1, 1.3), True),
            (1000, None, True),
        ],
    )
    def test_no_gain(self, after, speed, refused):
        error = no_gain(Size(10, 10, 1000), Size(10, 10, after), speed, ["macs 0.99", "round-to 16"])
        assert (error is not None) == refused
        if error is not None:
            assert error.exit_code == 3
            assert "tried: macs 0.99, round-to 16" in str(error)
