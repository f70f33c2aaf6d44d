"""Least squares on second moments: what leaving inputs out costs, and how the others make up for it.

Notation: a consumer computes W x from what it reads, x; G = E[x x'] is the Gram matrix of that. Everything is
float64, and nothing here knows about graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh, qr

from .types import Floats, Units

PENALTIES: Floats = np.logspace(-7, 3, 31)
"""Ridge penalties to choose from, relative to the mean variance of what is read; doing nothing competes."""


# ---------------------------------------------------------------- choosing what to leave out


@dataclass(frozen=True)
class Quadratic:
    """What one consumer loses when units are taken from what it reads: E|W x - W' x'|^2.

    Attributes:
        gram: (n, n), E[x x'] of what it reads.
        weight: (n, m), what it multiplies each of them by (all outputs and kernel taps in one row).
        units: int64 (n,), for each which unit it is, among those that compete.
        scale: what to multiply the loss by, such as one over the energy of the consumer's output.
    """

    gram: Floats
    weight: Floats
    units: Units
    scale: float = 1.0


def backward_elimination(
    consumers: Sequence[Quadratic], units: int, *, damping: float = 1e-3
) -> tuple[Units, Floats]:
    """Take units away one by one, always the one whose loss is least once all others make up for it.

    Removing input j and solving again for the rest costs |W_j|^2 / [G^-1]_jj (optimal brain surgeon, Hassibi
    and Stork 1993, with all weights of an input as one). Then W and G^-1 are brought up to date, so the sum
    of these costs is the loss of the least-squares solution on those that stay, exactly. It is a pivoted
    Cholesky factorisation of G^-1.

    Args:
        consumers: those that read the units; their losses add.
        units: how many there are.
        damping: added to each Gram matrix, relative to its mean diagonal; so what few samples leave
            undetermined is not free.

    Returns:
        int64 (units,), the first to go first; float64 (units,), the loss once each of them is gone,
        ascending.
    """
    states = [_Surgeon(c, units, damping) for c in consumers]
    alive = np.ones(units, bool)
    order, loss = np.empty(units, np.int64), np.zeros(units)
    for step in range(units):
        costs = np.zeros(units)
        for state in states:
            state.add_costs(costs)
        unit = int(np.argmin(np.where(alive, costs, np.inf)))
        order[step], loss[step] = unit, costs[unit]
        alive[unit] = False
        for state in states:
            state.remove(unit)
    return order, np.cumsum(loss)


class _Surgeon:
    """The inverse Gram matrix and the weights of one consumer while its inputs go."""

    def __init__(self, consumer: Quadratic, units: int, damping: float) -> None:
        n = len(consumer.gram)
        ridge = damping * float(np.trace(consumer.gram)) / max(n, 1) or 1.0
        self.inverse = solve(consumer.gram + ridge * np.eye(n), np.eye(n))
        self.weight = consumer.weight.astype(np.float64)
        if self.weight.shape[1] > n:  # only products of rows matter: as many columns as rows are enough
            self.weight = np.asarray(qr(self.weight.T, mode="r")[0][:n].T)
        self.norms = np.einsum("ij,ij->i", self.weight, self.weight)
        self.units = consumer.units.copy()
        self.scale = consumer.scale
        self.position = np.full(units, -1, np.int64)
        self.position[consumer.units] = np.arange(n)

    def add_costs(self, costs: Floats) -> None:
        """Add what removing each unit would cost next."""
        costs[self.units] += self.scale * np.maximum(self.norms, 0) / self.inverse.diagonal()

    def remove(self, unit: int) -> None:
        """Make the others take over what `unit` did."""
        i = self.position[unit]
        if i < 0:
            return
        column = self.inverse[:, i] / np.sqrt(self.inverse[i, i])
        row = self.weight[i] / np.sqrt(self.inverse[i, i])
        self.norms += column * (column * float(row @ row) - 2 * (self.weight @ row))
        self.weight -= np.outer(column, row)
        self.inverse -= np.outer(column, column)
        self._close(int(i))

    def _close(self, i: int) -> None:
        """Drop row `i`: the last one takes its place."""
        last = len(self.units) - 1
        for array in (self.weight, self.norms, self.units, self.inverse, self.inverse.T):
            array[i] = array[last]
        self.position[self.units[i]] = i
        self.weight, self.norms, self.units = self.weight[:last], self.norms[:last], self.units[:last]
        self.inverse = self.inverse[:last, :last]


# ---------------------------------------------------------------- making up for it


@dataclass(frozen=True)
class Moments:
    """Sums over rows of what a consumer used to read (o) and of what it reads now (p); those of two sets add.

    Attributes:
        rows: how many.
        sum_o: (n,).
        sum_p: (k,).
        oo: (n, n), the sum of o o'.
        op: (n, k), the sum of o p'.
        pp: (k, k), the sum of p p'.
    """

    rows: float
    sum_o: Floats
    sum_p: Floats
    oo: Floats
    op: Floats
    pp: Floats

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.rows + other.rows,
            self.sum_o + other.sum_o,
            self.sum_p + other.sum_p,
            self.oo + other.oo,
            self.op + other.op,
            self.pp + other.pp,
        )

    def covariance(self, centring: float = 1.0) -> Covariance:
        """Second moments with that share of the means' part taken away."""
        rows = max(self.rows, 1.0)
        o, p = self.sum_o / rows, self.sum_p / rows
        return Covariance(
            self.oo / rows - centring * np.outer(o, o),
            self.op / rows - centring * np.outer(o, p),
            self.pp / rows - centring * np.outer(p, p),
        )


@dataclass(frozen=True)
class Covariance:
    """Second moments of o (n,) and p (k,): `oo` (n, n), `op` (n, k), `pp` (k, k)."""

    oo: Floats
    op: Floats
    pp: Floats

    def loss(self, map_: Floats, energy: Floats) -> float:
        """E|W (o - A p)|^2 for a map A (n, k), with W'W as `energy` (n, n)."""
        rest = self.oo - 2 * self.op @ map_.T + map_ @ self.pp @ map_.T
        return max(0.0, float(np.vdot(energy, rest)))

    def ridge(self, start: Floats, penalty: float) -> Floats:
        """The map A (n, k) that gives o from p, pulled towards `start`; an infinite penalty returns `start`.

        A = S + (C_op - S C_pp) (C_pp + penalty * s)^-1, with s the mean of the diagonal of C_pp.
        """
        size = _scale(self.pp)
        if not np.isfinite(penalty) or size == 0:
            return start
        residual = self.op - start @ self.pp
        return start + solve(self.pp + penalty * size * np.eye(len(self.pp)), residual.T).T


def best_penalty(halves: tuple[Covariance, Covariance], start: Floats, energy: Floats) -> float:
    """The ridge penalty whose fit on one half of the samples loses least on the other, both ways.

    Infinite where no fit gains anything. With C_pp = Q diag(e) Q', a fit is A = S + Z diag(d) Q' where only d
    depends on the penalty; the loss on other samples is then a quadratic form in d, and a wide grid costs no
    more than one penalty.

    Args:
        halves: second moments over either half.
        start: (n, k), S.
        energy: (n, n), W'W of the consumer.
    """
    change = np.zeros(len(PENALTIES))
    for fit, judge in (halves, halves[::-1]):
        size = _scale(fit.pp)
        if size == 0:
            return float("inf")
        values, vectors = eigh(fit.pp, check_finite=False)
        z = (fit.op - start @ fit.pp) @ vectors
        weighted = energy @ z
        quadratic = (z.T @ weighted) * (vectors.T @ judge.pp @ vectors)
        linear = np.einsum("ij,ij->j", weighted, (start @ judge.pp - judge.op) @ vectors)
        for index, penalty in enumerate(PENALTIES):
            d = 1 / (np.maximum(values, 0) + penalty * size)
            change[index] += d @ quadratic @ d + 2 * linear @ d
    best = int(np.argmin(change))
    return float(PENALTIES[best]) if change[best] < 0 else float("inf")


def solve(matrix: Floats, right: Floats) -> Floats:
    """X with `matrix` X = `right`, for a symmetric positive (semi)definite matrix.

    By Cholesky; where rounding has made the matrix indefinite, by its eigenvalues, the tiny ones left out.
    """
    try:
        return np.asarray(cho_solve(cho_factor(matrix, check_finite=False), right, check_finite=False))
    except LinAlgError:
        values, vectors = eigh(matrix, check_finite=False)
        floor = values[-1] * len(values) * np.finfo(np.float64).eps
        inverse = np.where(values > floor, 1 / np.where(values > floor, values, 1), 0)
        return np.asarray(vectors @ (inverse[:, None] * (vectors.T @ right)))


def _scale(gram: Floats) -> float:
    return float(np.trace(gram)) / len(gram) if len(gram) else 0.0
