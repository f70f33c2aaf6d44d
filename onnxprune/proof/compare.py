"""How far two arrays are apart, and how far rounding explains."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from ..graph import Array

ROUNDING: Mapping[str, float] = MappingProxyType({"float64": 1e-12, "float16": 2e-2, "bfloat16": 2e-1})
"""Relative difference that rounding explains, by dtype: some hundred units in the last place."""

ROUNDING_DEFAULT = 2e-5
"""The same of float32. Sums in another order differ by some 1e-7; a layer that reads something wrong by 1e-3
or more. Integers must agree to this, too: a step of a quantised tensor is 4e-3 of its range."""


def relative_error(expected: Array, actual: Array, least: float = 0.0) -> float:
    """Largest difference, relative to the largest expected magnitude; infinite where they don't compare.

    Args:
        expected: what should be.
        actual: what is.
        least: a magnitude that counts for this much at least.
    """
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return float("inf")
    if not expected.size:
        return 0.0
    a, b = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(np.abs(a[finite]).max()), least) or 1.0
    return float(np.abs(a[finite] - b[finite]).max()) / scale


def allowed(dtype: np.dtype[np.generic]) -> float:
    """The relative difference that rounding explains."""
    return ROUNDING.get(dtype.name, ROUNDING_DEFAULT)


def is_comparable(array: Array) -> bool:
    """Whether an array is of numbers."""
    return array.dtype.kind in "fiub" or array.dtype.name in ROUNDING
