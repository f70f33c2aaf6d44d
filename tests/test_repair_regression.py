"""The regression, against explicit rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import hilbert

from onnxprune.execution.linalg import solve
from onnxprune.ops.layers.convolution import Convolution, Transposed
from onnxprune.ops.layers.product import Gates, Product
from onnxprune.repair.regression import PENALTIES, Sums, fit


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
