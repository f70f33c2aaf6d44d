"""Least squares behind a nonlinearity: of f(y), and not of y, as little as possible shall be lost.

What is wanted of z = W p + b is |f(y) - f(z)|^2 small. With s = (f(y) - f(z)) / (y - z), the slope between
both, this is s^2 |y - z|^2: least squares, reweighted after each fit, which ask for nothing where a ReLU is
flat (for ReLU see Zhang et al. 2015, Accelerating Very Deep Convolutional Networks, section 3.2). Weights
w = s^2 / max s^2 <= 1 are put into the targets: a constant and sum (z + w (y - z) - W p)^2 bound
sum w (y - W p)^2 (majorisation), so one Gram matrix serves all outputs and all fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..execution.prefix import ActivationStore
from ..graph import Array
from ..types import Floats, Mask
from .regression import Covariance, Fit

ROUNDS = 1
"""Fits behind the linear one: a second one lowers what the digits lose by 1%, and takes as long again."""

STRIDE = 1.8
"""How far to go, of what the bound allows; below 2 it converges, and faster than with 1."""


@dataclass(frozen=True, eq=False)
class FitRows:
    """Some rows of a fit.

    Attributes:
        patches: (G, R, F), what is read.
        targets: (G, R, O), y: what should come out.
        shortcut: (G, R, O), what is added to it before f is taken, or a zero that fits.
    """

    patches: Array
    targets: Array
    shortcut: Array

    def put(self, store: ActivationStore) -> FitRows:
        """The same, where there is memory for them."""
        return FitRows(*(store.put(a) for a in (self.patches, self.targets, self.shortcut)))

    def drop(self, store: ActivationStore) -> None:
        """Forget them."""
        for array in (self.patches, self.targets, self.shortcut):
            store.drop(array)


def refitted(
    found: Fit,
    start: Floats,
    whole: Covariance,
    rows: Sequence[FitRows],
    f: Callable[[Array], Array],
    *,
    biased: bool,
    support: Mask | None = None,
) -> Fit:
    """A linear fit made better behind f; as it was where that does not help.

    Args:
        found: the linear fit.
        start: (G, O, F), the weights that its ridge pulls towards.
        whole: moments of all its rows.
        rows: these rows.
        f: what is taken of the sum of outputs and shortcut, (G, R, O).
        biased: whether there can be a bias; otherwise moments are not centred.
        support: bool (G, O, F), which weights may be other than zero; by default all.
    """
    wanted = [f(r.targets + r.shortcut) for r in rows]
    best, least, now = found, np.inf, found
    for _ in range(ROUNDS):
        lost, step = _step(now, whole, rows, wanted, f)
        if not lost < least:
            return best
        best, least = now, lost
        weights = step.ridge(start, support)(found.penalty)
        now = replace(found, weights=weights, bias=step.bias(weights) if biased else now.bias)
    return now


def _step(
    now: Fit, whole: Covariance, rows: Sequence[FitRows], wanted: Sequence[Array], f: Callable[[Array], Array]
) -> tuple[float, Covariance]:
    """What a fit loses behind f, and the moments of what to fit next."""
    weights = now.weights.astype(np.float32).swapaxes(1, 2)
    bias = now.bias.astype(np.float32)[:, None]
    mean = whole.p.astype(np.float32)[:, None]
    lost, steepest = 0.0, None
    total, product = np.zeros_like(whole.y), np.zeros_like(whole.yp)
    for part, fy in zip(rows, wanted, strict=True):
        z = part.patches @ weights + bias
        with np.errstate(invalid="ignore"):  # where f is not finite, nor is the loss, and the fit stays
            behind = fy - f(z + part.shortcut)
        lost += float(np.square(behind).sum())
        rest = part.targets - z
        slope = _slopes(behind, rest)
        steepest = slope.max(1, keepdims=True) if steepest is None else steepest
        change = STRIDE * rest * np.minimum(slope / np.maximum(steepest, np.finfo(np.float32).tiny), 1)
        total += change.sum(1)
        product += change.swapaxes(1, 2) @ (part.patches - mean)
    outputs = np.einsum("gof,gf->go", now.weights, whole.p) + now.bias
    yp = now.weights @ whole.pp + product / whole.rows
    return lost, replace(whole, y=outputs + total / whole.rows, yp=yp)


def _slopes(behind: Array, rest: Array) -> Array:
    """Squares of slopes; 0 between values that are about the same, or outside of where f is defined."""
    near = np.abs(rest) < 1e-3 * np.abs(rest).max(initial=0)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = np.square(behind / np.where(near, 1, rest))
    return np.where(near | ~np.isfinite(squares), 0, squares)
