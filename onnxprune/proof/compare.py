"""How far the pruned graph is from its masked reference."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from ..graph import Array
from ..quality.loss import SQUASHED
from ..runtime import Session

Feeds = Mapping[str, Array]


EXACT = {"float16": 2e-2, "bfloat16": 2e-1}
"""Largest relative difference that rounding explains, by dtype of the output."""


EXACT_DEFAULT = 1e-3


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


def surgery_error(
    original: Session, pruned: Session, feeds: Feeds, squashed: Collection[str] = ()
) -> tuple[float, bool]:
    """How far the pruned graph is from the masked original.

    Args:
        original: the masked original.
        pruned: the pruned graph, before any repair.
        feeds: real or random inputs.
        squashed: outputs that a Softmax or Sigmoid gives; what it is taken of should be an output as well.

    Returns:
        The largest relative error of any output, and whether rounding explains all of them.
    """
    expected, actual = original.run(feeds), pruned.run(feeds)
    worst, exact = 0.0, True
    for name, value in expected.items():
        if value.dtype.kind not in "fiub" and value.dtype.name not in EXACT:
            continue
        error = relative_error(value, actual[name], SQUASHED if name in squashed else 0.0)
        worst = max(worst, error)
        exact = exact and error <= EXACT.get(value.dtype.name, EXACT_DEFAULT)
    return worst, exact
