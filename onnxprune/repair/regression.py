"""Least squares into a consumer's weights: y = W p + b from what is now read, for what used to come out.

Sums over rows are kept for two halves of the samples. Each ridge penalty is fitted on one half and judged on the
other, both ways; the best one is fitted again on all. The ridge pulls towards the weights as they are, so with few
samples the result ends at these and never loses on samples it has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph import Array
from ..linalg import solve
from ..types import Floats

PENALTIES: tuple[float, ...] = tuple(10.0**k for k in range(-6, 3))
"""Ridge penalties to choose from, relative to the mean variance of what is read."""


class Sums:
    """What a regression needs to know of some rows: G groups, F inputs, O outputs.

    Rows are taken relative to the first ones' mean, so that single precision is enough for the products of one
    batch; between batches sums are double.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._shift: tuple[Array, Array] | None = None
        self.p: Floats = np.zeros(0)
        self.y: Floats = np.zeros(0)
        self.pp: Floats = np.zeros(0)
        self.yp: Floats = np.zeros(0)
        self.yy: Floats = np.zeros(0)

    def add(self, patches: Array, targets: Array) -> None:
        """Add rows: `patches` (G, R, F) and `targets` (G, R, O)."""
        p, y = patches.astype(np.float32), targets.astype(np.float32)
        if self._shift is None:
            self._shift = p.mean(1, keepdims=True), y.mean(1, keepdims=True)
            g, f, o = len(p), p.shape[2], y.shape[2]
            self.p, self.y, self.yy = np.zeros((g, f)), np.zeros((g, o)), np.zeros((g, o))
            self.pp, self.yp = np.zeros((g, f, f)), np.zeros((g, o, f))
        p = p - self._shift[0]
        y = y - self._shift[1]
        self.rows += p.shape[1]
        self.p += p.sum(1, dtype=np.float64)
        self.y += y.sum(1, dtype=np.float64)
        self.yy += np.square(y).sum(1, dtype=np.float64)
        self.pp += p.swapaxes(1, 2) @ p
        self.yp += y.swapaxes(1, 2) @ p

    def covariance(self, *, centred: bool) -> Covariance:
        """Means and second moments; not centred where there can be no bias."""
        assert self._shift is not None, "no rows"
        p, y = self.p / self.rows, self.y / self.rows
        shift_p, shift_y = (s[:, 0].astype(np.float64) for s in self._shift)
        pp = self.pp / self.rows - p[:, :, None] * p[:, None, :]
        yp = self.yp / self.rows - y[:, :, None] * p[:, None, :]
        yy = self.yy / self.rows - y * y
        p, y = p + shift_p, y + shift_y
        if not centred:
            pp = pp + p[:, :, None] * p[:, None, :]
            yp = yp + y[:, :, None] * p[:, None, :]
            yy = yy + y * y
            p, y = np.zeros_like(p), np.zeros_like(y)
        return Covariance(self.rows, p, y, pp, yp, float(yy.sum()))


@dataclass(frozen=True)
class Covariance:
    """Means `p` (G, F) and `y` (G, O), second moments `pp` (G, F, F) and `yp` (G, O, F), the sum `yy` of those of y."""

    rows: int
    p: Floats
    y: Floats
    pp: Floats
    yp: Floats
    yy: float

    def joined(self, other: Covariance) -> Covariance:
        """Of the rows of both."""
        a, b = self.rows / (self.rows + other.rows), other.rows / (self.rows + other.rows)
        dp, dy = self.p - other.p, self.y - other.y
        return Covariance(
            self.rows + other.rows,
            a * self.p + b * other.p,
            a * self.y + b * other.y,
            a * self.pp + b * other.pp + a * b * dp[:, :, None] * dp[:, None, :],
            a * self.yp + b * other.yp + a * b * dy[:, :, None] * dp[:, None, :],
            a * self.yy + b * other.yy + a * b * float((dy * dy).sum()),
        )

    def ridge(self, start: Floats, penalty: float) -> Floats:
        """W (G, O, F) of least squares, pulled towards `start`.

        W = W0 + (C_yp - W0 C_pp) (C_pp + penalty * s)^-1, with s the mean of the diagonal of C_pp.
        """
        groups, size = self.p.shape
        scale = float(np.einsum("gff->", self.pp)) / max(1, groups * size)
        if not np.isfinite(penalty) or scale == 0:
            return start
        rest = self.yp - start @ self.pp
        ridge = penalty * scale * np.eye(size)
        change = [solve(pp + ridge, r.T).T for pp, r in zip(self.pp, rest, strict=True)]
        return start + np.stack(change)

    def bias(self, weights: Floats) -> Floats:
        """(G, O): what is missing on average."""
        return np.asarray(self.y - np.einsum("gof,gf->go", weights, self.p))

    def loss(self, weights: Floats, bias: Floats) -> float:
        """E|y - W p - b|^2, summed over groups and outputs."""
        rest = self.yy - 2 * np.vdot(weights, self.yp) + np.vdot(weights @ self.pp, weights)
        return float(max(0.0, rest) + np.square(self.bias(weights) - bias).sum())


@dataclass(frozen=True)
class Fit:
    """The outcome of a regression.

    Attributes:
        weights: (G, O, F).
        bias: (G, O); zeros where there can be none.
        penalty: the ridge; infinite where no fit gained anything.
        before: relative squared error on samples that were not fitted, with the weights as they are.
        after: the same of the fit.
    """

    weights: Floats
    bias: Floats
    penalty: float
    before: float
    after: float


def fit(halves: tuple[Covariance, Covariance], start: Floats, bias: Floats, *, weights: bool = True) -> Fit:
    """Choose the penalty by error on the other half, both ways, and fit on all.

    Args:
        halves: sums over either half of the samples.
        start: (G, O, F), the weights as they are.
        bias: (G, O), the bias as it is.
        weights: whether these may change, or only the bias.
    """
    energy = sum(h.yy for h in halves) or 1.0
    before = sum(h.loss(start, bias) for h in halves) / energy
    penalties = (*PENALTIES, float("inf")) if weights else (float("inf"),)
    errors = np.zeros(len(penalties))
    for own, other in (halves, halves[::-1]):
        for index, penalty in enumerate(penalties):
            fitted = own.ridge(start, penalty)
            errors[index] += other.loss(fitted, own.bias(fitted)) / energy
    best = int(np.argmin(errors))
    if not errors[best] < before:
        return Fit(start, bias, float("inf"), before, before)
    whole = halves[0].joined(halves[1])
    fitted = whole.ridge(start, penalties[best])
    return Fit(fitted, whole.bias(fitted), penalties[best], before, float(errors[best]))
