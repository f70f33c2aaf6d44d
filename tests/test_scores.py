"""The arithmetic that criteria share, on numbers by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from onnxprune.contracts.groups import Group
from onnxprune.contracts.reduction import Filters
from onnxprune.contracts.stats import Stats
from onnxprune.criteria.base import (
    Context,
    by_filter,
    by_order,
    by_reading,
    combined,
    interaction,
    moments,
    require_samples,
    unit_rows,
)
from onnxprune.errors import UsageError
from onnxprune.repair.makers import by_unit


def group(size: int) -> Group:
    return Group("g", "g", "channel", size)


def ints(*values) -> np.ndarray:
    return np.asarray(values, np.int64)


def floats(*values) -> np.ndarray:
    return np.asarray(values, np.float64)


class TestCombined:
    def test_each_node_counts_relative_to_its_mean(self):
        parts = [(ints(0, 1, 2), floats(1, 2, 3)), (ints(0, 1, 2), floats(300, 200, 100))]
        np.testing.assert_allclose(combined(group(3), parts), [1, 1, 1])

    def test_a_unit_is_the_mean_of_the_nodes_that_have_a_part_in_it(self):
        parts = [(ints(0, 1), floats(1, 3)), (ints(1, 2), floats(1, 1))]
        np.testing.assert_allclose(combined(group(4), parts), [0.5, 1.25, 1, 0])

    def test_of_nothing_but_zeros_there_is_nothing_to_divide_by(self):
        np.testing.assert_array_equal(combined(group(2), [(ints(0, 1), floats(0, 0))]), [0, 0])
        np.testing.assert_array_equal(combined(group(2), [(ints(), floats())]), [0, 0])


class TestOrder:
    def test_scores_rise_in_the_order_in_which_units_go(self):
        scores = by_order(ints(2, 0, 1), floats(0.5, 1.0, 4.0))
        np.testing.assert_allclose(scores, [1, 4, 0.5], atol=1e-10)

    def test_what_falls_is_made_level_and_the_order_stays(self):
        scores = by_order(ints(1, 2, 0, 3), floats(3.0, 1.0, 5.0, 2.0))
        np.testing.assert_allclose(scores, [5, 3, 3, 5], atol=1e-10)
        assert np.argsort(scores).tolist() == [1, 2, 0, 3]

    def test_gains_count_as_nothing_lost(self):
        scores = by_order(ints(0, 1), floats(-2.0, -1.0))
        np.testing.assert_allclose(scores, [0, 0], atol=1e-10)
        assert scores[0] < scores[1]
        assert by_order(ints(), floats()).size == 0


class TestRows:
    def test_all_weights_of_a_unit_are_in_a_row(self):
        made = Filters(0, floats([1, 2], [3, 4], [5, 6]), ints(3, 1, 3))
        units, rows = unit_rows(made)
        assert units.tolist() == [1, 3]
        np.testing.assert_array_equal(rows, [[3, 4, 0, 0], [1, 2, 5, 6]])

    def test_units_that_a_node_does_not_make_have_zeros(self):
        rows = by_unit(group(4), floats([1, 2], [3, 4], [5, 6]), ints(3, 1, 3))
        np.testing.assert_array_equal(rows, [[0] * 4, [3, 4, 0, 0], [0] * 4, [1, 2, 5, 6]])
        assert by_unit(group(2), np.zeros((0, 3)), ints()).tolist() == [[0] * 3] * 2


def reading(units, weight, second, energy):
    return SimpleNamespace(units=ints(*units), weight=floats(*weight), second=floats(*second), energy=energy)


class TestInteraction:
    def test_it_is_what_removing_two_does_together(self):
        """t' Q t is the relative error of leaving t out: |x_t W_t|^2 / energy, summed over consumers."""
        random = np.random.default_rng(0)
        x, w = random.standard_normal((50, 4)), random.standard_normal((4, 3))
        units = [2, -1, 0, 2]  # channel 1 is of another group; two channels are unit 2
        energy = float(np.square(x @ w).sum())
        q = interaction(3, [reading(units, w, x.T @ x, energy)])
        np.testing.assert_allclose(q, q.T)
        for t in ([1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]):
            left_out = np.asarray([u >= 0 and t[u] == 1 for u in units])
            lost = np.square(x[:, left_out] @ w[left_out]).sum() / energy
            assert np.asarray(t) @ q @ t == pytest.approx(lost)

    def test_consumers_add_and_those_of_no_energy_say_nothing(self):
        one = reading([0, 1], [[1, 0], [0, 2]], np.eye(2), 2.0)
        none = reading([0, 1], [[9, 9], [9, 9]], np.eye(2), 0.0)
        np.testing.assert_allclose(interaction(2, [one, none, one]), [[1, 0], [0, 4]])


class Space:
    """Two groups; of the second, consumers know nothing."""

    reduction = "channels"
    groups = (group(2), group(3))

    def makers(self, which):
        return [Filters(0, np.diag(np.arange(1.0, which.size + 1)), np.arange(which.size))]

    def readings(self, which, _stats):
        return [None] if which.size == 2 else []


class TestReading:
    def test_what_no_consumer_tells_of_is_worth_its_norms_at_the_level_of_the_others(self, monkeypatch):
        monkeypatch.setattr(Context, "channels", property(lambda self: self.space))
        context = Context(Space(), Stats("digest", 2, "", {}))
        read, norms = by_reading(context, lambda size, found: floats(10, 20))
        np.testing.assert_allclose(read, [10, 20])
        np.testing.assert_allclose(norms, 15 * floats(0.5, 1, 1.5))

    def test_filters_are_rated_by_a_function_of_their_rows(self, monkeypatch):
        monkeypatch.setattr(Context, "channels", property(lambda self: self.space))
        found = by_filter(Context(Space()), lambda rows: rows.sum(1))
        np.testing.assert_allclose(found[0], floats(1, 2) / 1.5)
        np.testing.assert_allclose(found[1], floats(1, 2, 3) / 2)

    def test_without_statistics_it_is_refused(self):
        with pytest.raises(UsageError, match="this criterion needs samples"):
            by_reading(Context(Space()), lambda size, found: floats())
        with pytest.raises(UsageError, match="this criterion needs samples"):
            moments(Context(Space()), ("x", 1))

    @pytest.mark.parametrize(("have", "refused"), [(1, True), (2, False), (3, False)])
    def test_too_few_samples_are_refused(self, have, refused):
        context = Context(Space(), Stats("digest", have, "", {}))
        if not refused:
            require_samples(context, 2)
            return
        with pytest.raises(UsageError, match="needs 2 samples or more, there are 1;"):
            require_samples(context, 2)

    def test_no_statistics_are_none_of_any_samples(self):
        with pytest.raises(UsageError, match="this criterion needs samples; give --calib"):
            require_samples(Context(Space()), 1)
