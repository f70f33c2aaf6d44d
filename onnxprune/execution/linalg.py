"""Solving symmetric systems, on no more threads than pay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from threadpoolctl import ThreadpoolController

from ..types import Floats, Mask

LARGE = 1024
"""Matrices of this width gain from threads. Smaller ones lose: where other programs use the cores, too, the
threads of OpenBLAS wait for one another in a loop. A factorisation of 1 ms has been seen to take 250."""


@contextmanager
def threads_for(width: int) -> Iterator[None]:
    """Have BLAS use one thread for matrices that are not large."""
    if width >= LARGE:
        yield
        return
    with _controller().limit(limits=1, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    """Finding the libraries takes a millisecond: once is enough, as NumPy and SciPy are loaded by now."""
    return ThreadpoolController()


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


_ROUNDS = 100
_PRECISE = 1e-6


def solve_within(matrix: Floats, right: Floats, support: Mask) -> Floats:
    """X (R, F), zero outside of a support, each row of which solves its own part of a system.

    Rows with the same support are solved together, exactly; where that takes longer, all rows side by side
    by conjugate gradients, preconditioned with the diagonal.

    Args:
        matrix: (F, F), symmetric and positive definite.
        right: (R, F).
        support: bool (R, F).
    """
    distinct, which = np.unique(support, axis=0, return_inverse=True)
    rows, size = right.shape
    if (distinct.sum(1).astype(np.float64) ** 3).sum() / 3 <= 2 * _ROUNDS * rows * size**2:
        found = np.zeros_like(right)
        for k, own in enumerate(distinct):
            mine = np.flatnonzero(which == k)
            if own.any():
                found[np.ix_(mine, own)] = solve(matrix[np.ix_(own, own)], right[np.ix_(mine, own)].T).T
        return found
    return _descended(matrix, right, support)


def _descended(matrix: Floats, right: Floats, support: Mask) -> Floats:
    """The same by conjugate gradients (Hestenes and Stiefel 1952), until each row is precise."""
    scale = 1 / np.diagonal(matrix)
    found, rest = np.zeros_like(right), right * support
    turned = rest * scale
    direction, energy = turned.copy(), (rest * turned).sum(1)
    enough = _PRECISE**2 * energy
    for _ in range(_ROUNDS):
        if (energy <= enough).all():
            break
        bent = (direction @ matrix) * support
        curve = (direction * bent).sum(1)
        step = np.where(curve > 0, energy / np.where(curve > 0, curve, 1), 0)[:, None]
        found += step * direction
        rest -= step * bent
        turned = rest * scale
        new = (rest * turned).sum(1)
        direction = (
            turned + np.where(energy > 0, new / np.where(energy > 0, energy, 1), 0)[:, None] * direction
        )
        energy = new
    return found
