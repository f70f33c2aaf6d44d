"""The regression, against explicit rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import hilbert

from onnxprune.execution import linalg
from onnxprune.execution.linalg import solve, solve_within
from onnxprune.ops.layers.convolution import Convolution, Transposed
from onnxprune.ops.layers.product import Gates, Product
from onnxprune.repair.regression import CHOOSING, PENALTIES, Sums, fit


def data(rows, groups=2, inputs=6, outputs=3, noise=0.3, offset=0.0, seed=0):
    """Rows that read something correlated, what they should give, and weights to start from."""
    r = np.random.default_rng(seed)
    mix = r.standard_normal((groups, inputs, inputs))
    p = r.standard_normal((groups, rows, inputs)) @ mix + offset
    truth = r.standard_normal((groups, outputs, inputs))
    y = p @ truth.swapaxes(1, 2) + noise * r.standard_normal((groups, rows, outputs)) - offset / 3
    start = truth + 0.2 * r.standard_normal(truth.shape)
    return p, y, start, r.standard_normal((groups, outputs))


def halves(p, y, *, centred=True, chunks=3):
    """Moments of even and odd chunks."""
    found = []
    for half in (0, 1):
        sums = Sums()
        for k, (a, b) in enumerate(
            zip(np.array_split(p, 2 * chunks, 1), np.array_split(y, 2 * chunks, 1), strict=True)
        ):
            if k % 2 == half:
                sums.add(a, b)
        found.append(sums.covariance(centred=centred))
    return tuple(found)


def split(rows, chunks=3):
    parts = np.array_split(np.arange(rows), 2 * chunks)
    return np.concatenate(parts[::2]), np.concatenate(parts[1::2])


def explicit(p, y, start, penalty, scale, *, centred=True):
    """Ridge towards `start` by an augmented least-squares problem for each group."""
    weights, biases = [], []
    for pg, yg, w0 in zip(p, y, start, strict=True):
        pm, ym = (pg.mean(0), yg.mean(0)) if centred else (0 * pg[0], 0 * yg[0])
        ridge = np.sqrt(penalty * scale * len(pg)) * np.eye(pg.shape[1])
        a = np.concatenate([pg - pm, ridge])
        b = np.concatenate([yg - ym, ridge @ w0.T])
        w = np.linalg.lstsq(a, b, rcond=None)[0].T
        weights.append(w)
        biases.append(ym - w @ pm)
    return np.asarray(weights), np.asarray(biases)


def scale_of(p, centred=True):
    return np.mean([(g.var(0) if centred else np.square(g).mean(0)) for g in p])


def held_out(p, y, start, penalty, centred=True):
    """Mean squared error of either half's fit on the other."""
    a, b = split(p.shape[1])
    total = 0.0
    for own, other in ((a, b), (b, a)):
        w, c = explicit(p[:, own], y[:, own], start, penalty, scale_of(p[:, own], centred), centred=centred)
        total += np.square(y[:, other] - p[:, other] @ w.swapaxes(1, 2) - c[:, None]).sum(2).mean(1).sum()
    return total


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("rows", [20, 60, 600])
def test_the_fit_is_ridge_regression_with_the_penalty_of_least_held_out_error(rows, centred):
    p, y, start, bias = data(rows, offset=2.0 if centred else 0.0)
    found = fit(halves(p, y, centred=centred), start, bias if centred else 0 * bias)
    errors = [held_out(p, y, start, penalty, centred) for penalty in PENALTIES]
    assert found.penalty == PENALTIES[int(np.argmin(errors))] / 2, "on all, which are twice as many"
    w, c = explicit(p, y, start, found.penalty, scale_of(p, centred), centred=centred)
    np.testing.assert_allclose(found.weights, w, atol=1e-4 * np.abs(w).max())
    np.testing.assert_allclose(found.bias, c, atol=1e-3)
    energy = sum(
        (y[:, half].var(1) if centred else np.square(y[:, half]).mean(1)).sum() for half in split(rows)
    )
    assert found.after == pytest.approx(min(errors) / energy, rel=1e-3)
    assert found.before == pytest.approx(
        sum(
            np.square(
                y[:, half] - p[:, half] @ start.swapaxes(1, 2) - (bias if centred else 0 * bias)[:, None]
            )
            .sum(2)
            .mean(1)
            .sum()
            for half in split(rows)
        )
        / energy,
        rel=1e-3,
    )


def test_more_rows_want_a_smaller_penalty():
    chosen = [
        fit(halves(*data(rows, noise=1.0)[:2]), *data(rows, noise=1.0)[2:]).penalty for rows in (12, 6000)
    ]
    assert chosen[0] > 100 * chosen[1]


def test_weights_that_are_right_stay_as_they_are():
    r = np.random.default_rng(0)
    p, truth = r.standard_normal((2, 12, 6)), r.standard_normal((2, 3, 6))
    y = p @ truth.swapaxes(1, 2) + r.standard_normal((2, 12, 3))
    found = fit(halves(p, y), truth, np.zeros((2, 3)))
    assert found.after <= found.before
    assert np.abs(found.weights - truth).max() < 0.1


def test_only_the_bias_moves_if_weights_may_not():
    p, y, start, bias = data(600, offset=2.0)
    found = fit(halves(p, y), start, bias, weights=False)
    np.testing.assert_array_equal(found.weights, start)
    np.testing.assert_allclose(found.bias, (y - p @ start.swapaxes(1, 2)).mean(1), atol=1e-4)
    assert np.isinf(found.penalty)
    assert found.after < found.before


def test_inputs_without_variance_are_no_trouble():
    p, y, start, bias = data(60)
    p[..., 2] = 0.0
    p[..., 3] = p[..., 4]
    found = fit(halves(p, y), start, bias)
    assert np.isfinite(found.weights).all()
    np.testing.assert_allclose(found.weights[..., 2], start[..., 2], atol=1e-6)


def test_moments_of_large_means_keep_their_digits():
    p, y, _, _ = data(2000, offset=1000.0)
    a, b = halves(p, y)
    whole = a.joined(b)
    rest = p - p.mean(1, keepdims=True)
    np.testing.assert_allclose(whole.pp, rest.swapaxes(1, 2) @ rest / 2000, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(whole.p, p.mean(1), rtol=1e-6)


def test_systems_are_solved_with_and_without_full_rank():
    r = np.random.default_rng(0)
    a = r.standard_normal((7, 7))
    right = r.standard_normal((7, 3))
    np.testing.assert_allclose(solve(a @ a.T, right), np.linalg.solve(a @ a.T, right), rtol=1e-6)
    low = a[:, :3] @ a[:, :3].T
    found = solve(low, low @ right)
    np.testing.assert_allclose(low @ found, low @ right, atol=1e-8)
    assert np.abs(found).max() < 100
    bad = hilbert(14)
    found = solve(bad, bad @ np.ones((14, 1)))
    np.testing.assert_allclose(bad @ found, bad @ np.ones((14, 1)), atol=1e-8)
    assert np.abs(found).max() < 100


# ---------------------------------------------------------------- with a support


def system(size=40, rows=30, share=0.5, seed=0, condition=1e3):
    """A matrix of some condition, right sides, and a support of its own for every row."""
    r = np.random.default_rng(seed)
    q = np.linalg.qr(r.standard_normal((size, size)))[0]
    matrix = (q * np.geomspace(1, 1 / condition, size)) @ q.T
    return matrix, r.standard_normal((rows, size)), r.random((rows, size)) < share


def row_by_row(matrix, right, support):
    found = np.zeros_like(right)
    for row, b, own in zip(found, right, support, strict=True):
        if own.any():
            row[own] = np.linalg.solve(matrix[np.ix_(own, own)], b[own])
    return found


WAYS = pytest.mark.parametrize("solved", [solve_within, linalg._descended], ids=["exact", "descended"])


@WAYS
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_each_row_solves_its_own_part(solved, share):
    matrix, right, support = system(share=share)
    found, expected = (way(matrix, right, support) for way in (solved, row_by_row))
    assert (found[~support] == 0).all()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@WAYS
def test_rows_without_anything_left_and_right_sides_of_zero(solved):
    matrix, right, support = system()
    support[3], right[5] = False, 0
    found, expected = (way(matrix, right, support) for way in (solved, row_by_row))
    assert np.isfinite(found).all()
    assert not found[3].any()
    assert not found[5].any()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_rows_that_share_a_support_are_solved_together(monkeypatch):
    """Two patterns, two factorisations."""
    matrix, right, support = system(rows=30)
    support[1::2], support[::2] = support[1], support[0]
    solved = []
    monkeypatch.setattr(linalg, "solve", lambda m, r: solved.append(r.shape[1]) or solve(m, r))
    found = solve_within(matrix, right, support)
    assert sorted(solved) == [15, 15]
    np.testing.assert_allclose(found, row_by_row(matrix, right, support), rtol=1e-6)


@pytest.mark.parametrize(("size", "patterns", "exact"), [(580, 50, True), (620, 50, False), (620, 1, True)])
def test_what_takes_longer_is_not_done(size, patterns, exact, monkeypatch):
    """A factorisation takes F^3 / 3 multiplications, 100 steps of descent 2 * 100 F^2 for each row."""
    r, rows = np.random.default_rng(0), 50
    support = np.ones((patterns, size), bool)
    support[np.arange(patterns), np.arange(patterns)] = False
    support = support[np.arange(rows) % patterns]
    went = []
    monkeypatch.setattr(linalg, "_descended", lambda *_: went.append("descended"))
    monkeypatch.setattr(linalg, "solve", lambda m, right: went.append("exact") or np.zeros_like(right))
    solve_within(np.eye(size), r.standard_normal((rows, size)), support)
    assert set(went) == {"exact" if exact else "descended"}


def restricted(p, y, start, support, penalty, scale):
    """Ridge towards `start`, each output on its own entries, by augmented least squares."""
    weights = start.copy()
    for g in range(len(p)):
        pc, yc = p[g] - p[g].mean(0), y[g] - y[g].mean(0)
        for o, own in enumerate(support[g]):
            ridge = np.sqrt(penalty * scale * len(pc)) * np.eye(own.sum())
            a = np.concatenate([pc[:, own], ridge])
            b = np.concatenate([yc[:, o], ridge @ start[g, o, own]])
            weights[g, o, own] = np.linalg.lstsq(a, b, rcond=None)[0]
    return weights


@pytest.mark.parametrize("outputs", [3, CHOOSING + 8])
def test_a_fit_with_a_support_is_least_squares_on_it(outputs):
    """The penalty is the one of least held-out error: of all outputs, or of those that choose it."""
    p, y, start, bias = data(60, outputs=outputs)
    support = np.random.default_rng(1).random(start.shape) < 0.6
    start = np.where(support, start, 0)
    found = fit(halves(p, y), start, bias, support=support)
    some = np.linspace(0, outputs - 1, min(outputs, CHOOSING)).astype(int)

    def held(penalty):
        total = 0.0
        for own, other in (split(60), split(60)[::-1]):
            scale = scale_of(p[:, own])
            w = restricted(p[:, own], y[:, own], start, support, penalty, scale)
            rest = y - p @ w.swapaxes(1, 2)
            rest = rest[:, other] - rest[:, own].mean(1, keepdims=True)
            total += np.square(rest[..., some]).sum(2).mean(1).sum()
        return total

    errors = [held(penalty) for penalty in PENALTIES]
    assert found.penalty == PENALTIES[int(np.argmin(errors))] / 2
    w = restricted(p, y, start, support, found.penalty, scale_of(p))
    np.testing.assert_allclose(found.weights, w, atol=1e-3 * np.abs(w).max())
    assert (found.weights[~support] == 0).all()
    np.testing.assert_allclose(found.bias, (y - p @ w.swapaxes(1, 2)).mean(1), atol=1e-2)
    assert found.after < found.before


def test_a_support_of_everything_is_none():
    p, y, start, bias = data(60)
    plain, whole = (fit(halves(p, y), start, bias, support=s) for s in (None, np.ones(start.shape, bool)))
    np.testing.assert_allclose(plain.weights, whole.weights, rtol=1e-6)
    assert plain.penalty == whole.penalty


@pytest.mark.parametrize(
    ("layout", "y", "axis", "outputs"),
    [
        (Convolution((1, 1), (1, 1), (1, 1), ((0, 0),) * 2, 1), (3, 5, 2, 7), 0, 1),
        (
            Transposed((1, 1), Convolution((1, 1), (1, 1), (1, 1), ((0, 0),) * 2, 1), (0, 0)),
            (3, 5, 2, 7),
            0,
            1,
        ),
        (Product(right=True), (3, 5), 0, -1),
        (Product(right=True), (3, 4, 5), 0, -1),
        (Product(right=False), (3, 5, 4), 0, -2),
        (Gates(), (4, 3, 5), 1, -1),
        (Gates(batch_first=True), (3, 4, 5), 0, -1),
    ],
)
def test_rows_know_their_sample(layout, y, axis, outputs):
    marks = np.broadcast_to(np.arange(y[axis]).reshape([-1 if k == axis else 1 for k in range(len(y))]), y)
    rows = np.arange(layout.rows(y))
    np.testing.assert_array_equal(layout.sample(y, rows), layout.targets(marks, rows)[0, :, 0])
    assert layout.outputs == outputs
