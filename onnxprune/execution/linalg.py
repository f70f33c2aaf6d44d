"""Solving symmetric systems, on no more threads than pay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from threadpoolctl import ThreadpoolController

from ..types import Floats

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
