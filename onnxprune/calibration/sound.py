"""Whether statistics can be what they claim to be: sums over the same rows agree with one another."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from ..contracts.stats import Moments, Slopes, Stats
from ..graph import Facts
from ..types import Floats

TOLERANCE = 1e-3
"""Relative; the runtime adds products up in 32 bits."""

_LARGEST = 2**53


def unsound(stats: Stats) -> str | None:
    """What is wrong with statistics, in words; `None` if nothing is."""
    if not _is_count(stats.samples) or not stats.samples:
        return f"the number of samples is {stats.samples!r}"
    for (tensor, _), moments in stats.moments.items():
        if wrong := _unsound(moments):
            return f"of '{tensor}', {wrong}"
    for key, slopes in stats.slopes.items():
        if wrong := _unsound_slopes(slopes):
            return f"of '{key}', {wrong}"
    for key, points in stats.sensitivities.items():
        if not all(_is_count(kept) and 0 <= loss < np.inf for kept, loss in points):
            return f"what '{key}' is worth is no curve of losses"
    return None


def misfit(stats: Stats, facts: Facts) -> str | None:
    """What of statistics doesn't fit the shapes of their graph, in words; `None` if all does.

    Args:
        stats: of the graph, by its fingerprint.
        facts: the graph's shapes.
    """
    for (tensor, axis), moments in stats.moments.items():
        shape = facts.shapes.get(tensor)
        if shape is None or moments.kernel_norms is not None:
            continue
        if not axis < len(shape):
            return f"'{tensor}' has no axis {axis}"
        for field in fields(Moments):
            value = getattr(moments, field.name)
            if isinstance(value, np.ndarray) and value.shape[-1] != shape[axis]:
                have = f"{field.name} is of {value.shape[-1]} channels"
                return f"of '{tensor}', {have}, and there are {shape[axis]}"
    return None


def _unsound_slopes(slopes: Slopes) -> str | None:
    if not _is_count(slopes.samples) or not slopes.samples:
        return f"the number of samples is {slopes.samples!r}"
    sums = {f.name: v for f in fields(Slopes) if isinstance(v := getattr(slopes, f.name), np.ndarray)}
    shapes = {array.shape for array in sums.values()}
    for name, array in sums.items():
        if array.dtype != np.float64 or array.ndim != 1 or not array.size or len(shapes) > 1:
            return f"{name} is of {array.dtype} and shape {array.shape}"
        if not np.isfinite(array).all():
            return f"{name} holds NaN or infinity"
        if name != "sum" and (array < 0).any():
            return f"{name} holds numbers below zero"
    return None if sums else "nothing is known"


def _unsound(m: Moments) -> str | None:
    if not _is_count(m.rows) or not _is_count(m.samples):
        return f"the numbers of rows and samples are {m.rows!r} and {m.samples!r}"
    arrays = {f.name: v for f in fields(Moments) if isinstance(v := getattr(m, f.name), np.ndarray)}
    if not arrays:
        return "nothing is known"
    for name, array in arrays.items():
        if wrong := _misshapen(name, array, arrays, m):
            return wrong
        if not np.isfinite(array).all():
            return f"{name} holds NaN or infinity"
        if name not in ("sum", "gram", "pooled") and (array < 0).any():
            return f"{name} holds numbers below zero"
    return _inconsistent(m) or _improbable_gram(m)


def _misshapen(name: str, array: Floats, others: dict[str, Floats], m: Moments) -> str | None:
    """Whether an array has a wrong type or shape, or is of no rows at all."""
    if array.dtype != (np.float32 if name == "pooled" else np.float64):
        return f"{name} is of {array.dtype}"
    if (
        array.ndim != (2 if name in ("gram", "pooled", "kernel_norms", "kernel_squares") else 1)
        or not array.size
    ):
        return f"{name} has shape {array.shape}"
    if name == "gram" and array.shape[0] != array.shape[1]:
        return f"gram has shape {array.shape}"
    if name == "pooled" and len(array) != m.samples:
        return f"pooled has {len(array)} rows for {m.samples} samples"
    alike = [o for n, o in others.items() if n.startswith("kernel") == name.startswith("kernel")]
    if array.shape[-1] != alike[0].shape[-1] or (name.startswith("kernel") and array.shape != alike[0].shape):
        return "arrays are of different numbers of channels"
    if not (m.rows if name in ("sum", "squares", "zeros", "gram") else m.samples):
        return f"{name} is of no rows"
    return None


def _inconsistent(m: Moments) -> str | None:
    """Whether sums and sums of squares can't be of the same numbers."""
    squares = m.squares if m.gram is None else np.diagonal(m.gram)
    if m.gram is not None and m.squares is not None and not _close(m.squares, np.diagonal(m.gram)):
        return "squares and the diagonal of gram differ"
    if squares is not None and (squares < 0).any():
        return "the diagonal of gram holds numbers below zero"
    for total, square, count, names in (
        (m.sum, squares, m.rows, "sum and squares"),
        (m.norms, m.norm_squares, m.samples, "norms and norm_squares"),
        (m.kernel_norms, m.kernel_squares, m.samples, "kernel_norms and kernel_squares"),
    ):
        if total is not None and square is not None:
            room = count * square * (1 + TOLERANCE)
            if (np.square(total) > room + TOLERANCE * room.max(initial=0) + 1e-300).any():
                return f"{names} can't be of the same numbers"
    if m.zeros is not None and (m.zeros > m.rows).any():
        return f"zeros are more than the {m.rows} rows"
    return None


def _improbable_gram(m: Moments) -> str | None:
    """Whether a matrix can't be the sum of x xᵀ, or not of rows that add up to `sum`."""
    if m.gram is None:
        return None
    scale = np.sqrt(np.outer(np.diagonal(m.gram), np.diagonal(m.gram)))
    slack = TOLERANCE * scale + 1e-9 * scale.max(initial=0)
    if (np.abs(m.gram - m.gram.T) > slack).any():
        return "gram is not symmetric"
    centred = m.gram if m.sum is None else m.gram - np.outer(m.sum, m.sum) / m.rows
    centred = (centred + centred.T) / 2
    lift = TOLERANCE * max(float(np.diagonal(m.gram).max(initial=0)), 1e-300)
    try:
        np.linalg.cholesky(centred + lift * np.eye(len(centred)))
    except np.linalg.LinAlgError:
        return "gram is no sum of squares of rows with this sum"
    return None


def _close(a: Floats, b: Floats) -> bool:
    return bool(np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * float(np.abs(b).max(initial=0))))


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < _LARGEST
