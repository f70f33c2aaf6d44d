"""Least squares into a layer's weights: y = W p + b from what is now read, for what used to come out.

Sums over rows are kept for two halves of the samples. Each ridge penalty is fitted on one half and judged on
the other, both ways; the best one is fitted again on all. The ridge pulls towards the weights as they are, so
with few samples the result ends at these, and never loses on samples that it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..execution.linalg import solve, solve_within
from ..graph import Array
from ..types import Floats, Mask, Units

PENALTIES: tuple[float, ...] = tuple(10.0**k for k in range(-7, 4))
"""Ridge penalties to choose from, relative to the mean variance of the inputs. Unchanged weights compete."""


CHOOSING = 64
"""Outputs that choose a penalty where each has a support of its own."""


class Sums:
    """What a regression needs to know of some rows: G groups, F inputs, O outputs.

    Rows are taken relative to the mean of the first ones, so that single precision is enough for the products
    of one batch; between batches sums are double.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._shift: tuple[Array, Array] | None = None
        self._p: Floats = np.zeros(0)
        self._y: Floats = np.zeros(0)
        self._pp: Floats = np.zeros(0)
        self._yp: Floats = np.zeros(0)
        self._yy: Floats = np.zeros(0)

    def add(self, patches: Array, targets: Array) -> None:
        """Add rows: `patches` (G, R, F) and `targets` (G, R, O)."""
        if self._shift is None:
            self._shift = tuple(x.mean(1, keepdims=True, dtype=np.float32) for x in (patches, targets))
            g, f, o = len(patches), patches.shape[2], targets.shape[2]
            self._p, self._y = np.zeros((g, f)), np.zeros((g, o))
            self._pp, self._yp = np.zeros((g, f, f)), np.zeros((g, o, f))
            self._yy = np.zeros((g, o))
        p = np.subtract(patches, self._shift[0], dtype=np.float32)
        y = np.subtract(targets, self._shift[1], dtype=np.float32)
        self.rows += p.shape[1]
        self._p += p.sum(1)
        self._y += y.sum(1)
        self._yy += np.square(y).sum(1)
        self._pp += p.swapaxes(1, 2) @ p
        self._yp += y.swapaxes(1, 2) @ p

    def covariance(self, *, centred: bool = True) -> Covariance:
        """Means and second moments; not centred where there can be no bias."""
        if self._shift is None:
            raise ValueError("no rows were added")
        p, y = self._p / self.rows, self._y / self.rows
        pp = self._pp / self.rows - _outer(p, p)
        yp = self._yp / self.rows - _outer(y, p)
        yy = self._yy / self.rows - np.square(y)
        p, y = p + self._shift[0][:, 0], y + self._shift[1][:, 0]
        if centred:
            return Covariance(self.rows, p, y, pp, yp, yy)
        zeros = np.zeros_like(p), np.zeros_like(y)
        return Covariance(self.rows, *zeros, pp + _outer(p, p), yp + _outer(y, p), yy + np.square(y))


@dataclass(frozen=True, eq=False)
class Covariance:
    """First and second moments.

    Attributes:
        rows: how many they are the means of.
        p: (G, F), the mean of what is read.
        y: (G, O), the mean of what should come out.
        pp: (G, F, F).
        yp: (G, O, F).
        yy: (G, O).
    """

    rows: int
    p: Floats
    y: Floats
    pp: Floats
    yp: Floats
    yy: Floats

    def joined(self, other: Covariance) -> Covariance:
        """Of the rows of both."""
        rows = self.rows + other.rows
        a, b = self.rows / rows, other.rows / rows
        dp, dy = self.p - other.p, self.y - other.y
        return Covariance(
            rows,
            a * self.p + b * other.p,
            a * self.y + b * other.y,
            a * self.pp + b * other.pp + a * b * _outer(dp, dp),
            a * self.yp + b * other.yp + a * b * _outer(dy, dp),
            a * self.yy + b * other.yy + a * b * np.square(dy),
        )

    def among(self, outputs: Units) -> Covariance:
        """Of some of the outputs of each group."""
        yp, yy = self.yp[:, outputs], self.yy[:, outputs]
        return Covariance(self.rows, self.p, self.y[:, outputs], self.pp, yp, yy)

    def ridge(self, start: Floats, support: Mask | None = None) -> Callable[[float], Floats]:
        """W (G, O, F) of least squares for each penalty, pulled towards `start`.

        W = W0 + (C_yp - W0 C_pp) (C_pp + penalty s)^-1, with s the mean of the diagonal of C_pp; with a
        support, each row is solved on its own entries alone.

        Args:
            start: W0; zero outside of the support.
            support: bool (G, O, F), which weights may be other than zero; by default all.
        """
        groups, size = self.p.shape
        scale = float(np.einsum("gff->", self.pp)) / max(1, groups * size)
        rest = self.yp - start @ self.pp

        def fitted(penalty: float) -> Floats:
            if not np.isfinite(penalty) or scale <= 0:
                return start
            ridged = self.pp.copy()
            np.einsum("gff->gf", ridged)[...] += penalty * scale
            if support is None:
                return start + np.stack([solve(pp, r.T).T for pp, r in zip(ridged, rest, strict=True)])
            parts = zip(ridged, rest, support, strict=True)
            return start + np.stack([solve_within(pp, r, s) for pp, r, s in parts])

        return fitted

    def bias(self, weights: Floats) -> Floats:
        """(G, O): what is missing on average."""
        return np.asarray(self.y - np.einsum("gof,gf->go", weights, self.p))

    def loss(self, weights: Floats, bias: Floats) -> float:
        """E|y - W p - b|^2, summed over groups and outputs."""
        rest = self.yy.sum() - 2 * np.vdot(weights, self.yp) + np.vdot(weights @ self.pp, weights)
        return float(max(0.0, rest) + np.square(self.bias(weights) - bias).sum())


@dataclass(frozen=True, eq=False)
class Fit:
    """The outcome of a regression.

    Attributes:
        weights: (G, O, F).
        bias: (G, O); zeros where there can be none.
        penalty: the ridge; infinite where the weights stayed as they were.
        before: relative squared error on samples that were not fitted, with weights and bias as they were.
        after: the same of the fit; equal where no fit gained anything.
    """

    weights: Floats
    bias: Floats
    penalty: float
    before: float
    after: float


def fit(
    halves: tuple[Covariance, Covariance],
    start: Floats,
    bias: Floats,
    *,
    weights: bool = True,
    support: Mask | None = None,
) -> Fit:
    """Choose the penalty by error on the other half, both ways, and fit on all.

    Args:
        halves: moments over either half of the samples.
        start: (G, O, F), the weights as they are.
        bias: (G, O), the bias as it is.
        weights: whether these may change, or only the bias.
        support: bool (G, O, F), which weights may be other than zero; by default all.
    """
    before = sum(h.loss(start, bias) for h in halves) / _energy(halves)
    penalty, after = float("inf"), _crossed(halves, start, support)(float("inf"))
    if weights:
        found, least = _penalty(halves, start, support)
        penalty, after = (found, least) if least < after else (penalty, after)
    if not after < before:
        return Fit(start, bias, float("inf"), before, before)
    whole = halves[0].joined(halves[1])
    penalty /= 2  # as it is against moments per row, of twice as many rows
    fitted = whole.ridge(start, support)(penalty)
    return Fit(fitted, whole.bias(fitted), penalty, before, after)


def _energy(halves: tuple[Covariance, Covariance]) -> float:
    return sum(float(h.yy.sum()) for h in halves) or 1.0


def _crossed(
    halves: tuple[Covariance, Covariance], start: Floats, support: Mask | None
) -> Callable[[float], float]:
    """Relative squared error on the half that was not fitted, both ways, for a penalty."""
    ridges = [own.ridge(start, support) for own in halves]

    def error(penalty: float) -> float:
        total = 0.0
        for own, ridge, other in zip(halves, ridges, halves[::-1], strict=True):
            fitted = ridge(penalty)
            total += other.loss(fitted, own.bias(fitted))
        return total / _energy(halves)

    return error


def _penalty(
    halves: tuple[Covariance, Covariance], start: Floats, support: Mask | None
) -> tuple[float, float]:
    """The penalty of least error, and that error.

    With a support every output is a system of its own: some of them choose the penalty for all.
    """
    outputs = start.shape[1]
    if support is None or outputs <= CHOOSING:
        return _least(_crossed(halves, start, support), PENALTIES)
    some = np.linspace(0, outputs - 1, CHOOSING).astype(np.int64)
    a, b = (half.among(some) for half in halves)
    found, _ = _least(_crossed((a, b), start[:, some], support[:, some]), PENALTIES)
    return found, _crossed(halves, start, support)(found)


def _least(error: Callable[[float], float], penalties: tuple[float, ...]) -> tuple[float, float]:
    """The penalty of least error, from the middle up or else down: too little and too much are both worse."""
    best = len(penalties) // 2
    least, middle = error(penalties[best]), best
    for step in (1, -1):
        while 0 <= best + step < len(penalties) and (next_ := error(penalties[best + step])) < least:
            best, least = best + step, next_
        if best != middle:
            break
    return penalties[best], least


def _outer(a: Floats, b: Floats) -> Floats:
    return np.asarray(a[:, :, None] * b[:, None, :])
