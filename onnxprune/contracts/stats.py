"""Sums over samples of what flows through a graph: all that calibration leaves behind.

Everything here is a plain sum (or, for pooled values, a list) over rows or samples. So the statistics of two
disjoint sets of samples add up to those of both, in any order, on any machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..types import Floats

Need = Literal["consumers", "inputs", "norms", "pooled", "zeros", "kernels", "slopes", "curvature"]
"""What to gather: Gram matrices of what consumers read; mean squares of what linear layers read; per-sample
norms and pooled values of what filters make; zeros after ReLU; norms of every single kernel's output; first
and second derivatives of the loss at gates."""


ENOUGH = 4
"""Rows per channel from which on a Gram matrix is worth something."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over one tensor. What was not asked for is `None`.

    A *row* is one position of one sample: a pixel, a token; C numbers. C is the length of the channel axis.

    Attributes:
        rows: how many rows are in `sum`, `squares`, `zeros` and `gram`.
        sum: float64 (C,).
        squares: float64 (C,), of x²; the diagonal of `gram`.
        zeros: float64 (C,), number of rows that are exactly zero.
        gram: float64 (C, C), of x xᵀ, not centred.
        samples: how many samples are in what follows.
        norms: float64 (C,), sum over samples of the Frobenius norm of the channel.
        norm_squares: float64 (C,), sum of its square.
        pooled: float32 (samples, C), mean of each channel over the positions of each sample.
        kernel_norms: float64 (T, S), sum over samples of the norm of filter t on input channel s.
        kernel_squares: float64 (T, S), sum of its square.
    """

    rows: int = 0
    sum: Floats | None = None
    squares: Floats | None = None
    zeros: Floats | None = None
    gram: Floats | None = None
    samples: int = 0
    norms: Floats | None = None
    norm_squares: Floats | None = None
    pooled: NDArray[np.float32] | None = None
    kernel_norms: Floats | None = None
    kernel_squares: Floats | None = None

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of samples; only what both have."""
        joined: dict[str, Any] = {}
        for one in fields(self):
            a, b = getattr(self, one.name), getattr(other, one.name)
            if a is None or b is None:
                joined[one.name] = None
            elif one.name == "pooled":
                joined[one.name] = np.concatenate([a, b])
            else:
                joined[one.name] = a + b
        return Moments(**joined)

    @property
    def mean(self) -> Floats:
        """float64 (C,), over rows."""
        return known(self.sum, "sum") / self.rows

    @property
    def second(self) -> Floats:
        """float64 (C,), the mean of x² over rows."""
        squares = self.squares if self.gram is None else np.diagonal(self.gram)
        return known(squares, "squares") / self.rows

    @property
    def covariance(self) -> Floats:
        """float64 (C, C), centred second moments over rows (divided by their number)."""
        return known(self.gram, "gram") / self.rows - np.outer(self.mean, self.mean)

    @property
    def zero_fraction(self) -> Floats:
        """float64 (C,), the fraction of rows that are exactly zero."""
        return known(self.zeros, "zeros") / self.rows

    @property
    def norm_variance(self) -> Floats:
        """float64 (C,), variance over samples of the channel's Frobenius norm."""
        return _variance(known(self.norms, "norms"), known(self.norm_squares, "norm_squares"), self.samples)

    @property
    def kernel_variance(self) -> Floats:
        """float64 (T, S), variance over samples of the norm of filter t on input channel s."""
        norms = known(self.kernel_norms, "kernel_norms")
        return _variance(norms, known(self.kernel_squares, "kernel_squares"), self.samples)


def known(array: NDArray[Any] | None, name: str) -> NDArray[Any]:
    """An array of moments that must be there.

    Raises:
        UsageError: it was not asked for when they were gathered.
    """
    if array is None:
        hint = "run 'onnxprune calibrate' with --for and this criterion"
        raise UsageError(f"the statistics have no '{name}'", where="--stats", hint=hint)
    return array


def _variance(total: Floats, squares: Floats, count: int) -> Floats:
    """Of what sums to `total`; rounding may leave it a little below zero, which it can't be."""
    return np.maximum(squares / count - (total / count) ** 2, 0.0)


@dataclass(frozen=True, eq=False)
class Slopes:
    """Sums over samples of what a loss feels of each unit of a group, at a gate g = 1 on it.

    What was not asked for is `None`.

    Attributes:
        samples: how many.
        sum: float64 (units,), of dL_n/dg.
        magnitude: float64 (units,), of its absolute value.
        squares: float64 (units,), of its square.
        curvature: float64 (units,), of the second derivative of the loss, its outputs' way taken as linear
            (Gauss and Newton).
        labelled: the loss was one of labels; else slopes are those of the network's own answer, and the
            curvature is of the divergence from it.
    """

    samples: int = 0
    sum: Floats | None = None
    magnitude: Floats | None = None
    squares: Floats | None = None
    curvature: Floats | None = None
    labelled: bool = False

    def __add__(self, other: Slopes) -> Slopes:
        """Of both sets of samples; only what both have."""

        def both(a: Floats | None, b: Floats | None) -> Floats | None:
            return None if a is None or b is None else a + b

        return Slopes(
            self.samples + other.samples,
            both(self.sum, other.sum),
            both(self.magnitude, other.magnitude),
            both(self.squares, other.squares),
            both(self.curvature, other.curvature),
            self.labelled and other.labelled,
        )


Sensitivity = tuple[tuple[int, float], ...]
"""What the network's outputs lose with a group: (units kept, loss), the loss as in `quality.loss.Loss`."""


@dataclass(frozen=True, eq=False)
class Stats:
    """The statistics of a graph over some samples.

    Attributes:
        fingerprint: of the graph and its weights.
        samples: how many samples were seen.
        source: where they came from, in words; `random` where they were drawn.
        moments: (tensor, channel axis) -> its moments.
        sensitivities: id of a group of channels -> what was lost with it, where that was measured.
        slopes: id of a group -> what the loss feels of its units, where that was asked for.
    """

    fingerprint: str
    samples: int
    source: str
    moments: Mapping[tuple[str, int], Moments]
    sensitivities: Mapping[str, Sensitivity] = field(default_factory=dict)
    slopes: Mapping[str, Slopes] = field(default_factory=dict)

    def of(self, key: tuple[str, int]) -> Moments:
        """The moments of a tensor over a channel axis.

        Raises:
            UsageError: they were gathered for something else.
        """
        found = self.moments.get(key)
        if found is None:
            hint = "run 'onnxprune calibrate' with --for and this criterion"
            raise UsageError(f"the statistics have nothing on '{key[0]}'", where="--stats", hint=hint)
        return found

    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user: random samples; tensors with few rows for their channels."""
        found = []
        if "random" in self.source.split("; "):
            found.append(
                "the samples are random: good to try things out, worth nothing for choosing channels"
            )
        few = {
            tensor: (m.rows, len(m.gram))
            for (tensor, _), m in self.moments.items()
            if m.gram is not None and m.rows < ENOUGH * len(m.gram)
        }
        if few:
            tensor, (rows, channels) = min(few.items(), key=lambda item: item[1][0] / item[1][1])
            more = f" (and {len(few) - 1} more)" if len(few) > 1 else ""
            found.append(f"few samples: '{tensor}'{more} has {rows} rows for {channels} channels")
        return tuple(found)

    def __add__(self, other: Stats) -> Stats:
        """The statistics of both sets of samples.

        Raises:
            ValueError: they are of different graphs.
        """
        if self.fingerprint != other.fingerprint:
            raise ValueError("the statistics are of different graphs")
        common = [key for key in self.moments if key in other.moments]
        source = self.source if self.source == other.source else f"{self.source}; {other.source}"
        moments = {key: self.moments[key] + other.moments[key] for key in common}
        count = self.samples + other.samples
        share = self.samples / count if count else 0.5
        known = {
            key: joined
            for key, found in self.sensitivities.items()
            if (joined := _joined(found, other.sensitivities.get(key, ()), share))
        }
        slopes = {key: found + other.slopes[key] for key, found in self.slopes.items() if key in other.slopes}
        return Stats(self.fingerprint, count, source, moments, known, slopes)


def _joined(a: Sensitivity, b: Sensitivity, share: float) -> Sensitivity:
    """The mean loss at widths that both have; `share`: the weight of the first."""
    others = dict(b)
    return tuple((kept, share * loss + (1 - share) * others[kept]) for kept, loss in a if kept in others)


def total(stats: Iterable[Stats]) -> Stats:
    """The statistics of all these sets of samples; at least one."""
    first, *rest = stats
    for more in rest:
        first = first + more
    return first
