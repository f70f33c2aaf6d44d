"""Pools."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tape import FLOAT32, INT64, Tensor
from ..vjp import Cotangent, Rule, Undifferentiable, Vjp
from .windows import Window, picks, shifted, spread, window

_REPEATING = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
_ADDING_SCATTER_SINCE = 16
"""The opset from which on scattered values may be added up."""


def average_pool(v: Vjp) -> Sequence[Cotangent]:
    """Each position of a window gets the same share of its cotangent.

    The share is 1 / (what the pool divides by), which the operator itself gives when it is run on ones: what
    counts at a border differs between operator sets and runtimes.
    """
    w = window(v, v.attr("kernel_shape"))
    share = v.dy * _share(v, w)
    if _is_plain_tiling(v, w):
        return [_repeated(v, share, w)]
    channels = _channels(v)
    ones = v.tape.constant(np.ones((channels, 1, *w.kernel)), v.dtype)
    return [spread(share, ones, w, v, v.out_lengths(), channels)]


def _share(v: Vjp, w: Window) -> Tensor | float:
    if v.attr("count_include_pad", 0) and not v.attr("ceil_mode", 0):
        return 1.0 / w.taps
    if not any(w.pads) and not v.attr("ceil_mode", 0):
        return 1.0 / w.taps
    source, result = v.lengths()[2:], v.out_lengths()[2:]
    if None in source or None in result:
        raise Undifferentiable("what AveragePool divides by at its border depends on the size of its input")
    ones = v.tape.constant(np.ones((1, 1, *v.shape()[2:])), v.dtype)
    averages = v.tape.emit("AveragePool", ones, attrs=v.node.attrs)
    inside = np.ones((1, 1, *v.out_shape()[2:]))
    for axis in range(w.rank):
        start = np.arange(v.out_shape()[2 + axis]) * w.strides[axis] - w.begin[axis]
        at = start[:, None] + np.arange(w.kernel[axis]) * w.dilations[axis]
        count = ((at >= 0) & (at < v.shape()[2 + axis])).sum(1)
        inside = inside * count.reshape([-1 if a == axis + 2 else 1 for a in range(w.rank + 2)])
    return averages * v.tape.constant(1.0 / np.maximum(inside, 1), v.dtype)


def max_pool(v: Vjp) -> Sequence[Cotangent]:
    """To the position of the maximum; where several are, in equal parts if windows don't overlap.

    Raises:
        Undifferentiable: windows overlap, the opset is old, and sizes aren't fixed.
    """
    w = window(v, v.attr("kernel_shape"))
    dy, x = v.dy, v.x()
    if x.dtype.kind != "f":
        raise Undifferentiable("MaxPool of integers")
    if _is_plain_tiling(v, w):
        is_max = x.equals(_repeated(v, v.y(), w))
        ties = is_max.map("AveragePool", kernel_shape=list(w.kernel), strides=list(w.strides)) * float(w.taps)
        return [_repeated(v, dy / ties, w) * is_max]
    if v.opset >= _ADDING_SCATTER_SINCE:
        _, at = v.tape.emit_many("MaxPool", x, dtypes=(None, INT64), attrs=v.node.attrs, storage_order=0)
        flat = _flat_zeros(v, x)
        spots = at.reshape([-1])
        scattered = v.tape.emit("ScatterElements", flat, spots, dy.reshape([-1]), axis=0, reduction="add")
        return [v.reshaped(scattered)]
    return [_by_taps(v, w)]


def _flat_zeros(v: Vjp, x: Tensor) -> Tensor:
    size = v.tape.emit("Size", x, dtype=INT64).reshape([1])
    return v.tape.zeros(size, v.dtype)


def _by_taps(v: Vjp, w: Window) -> Tensor:
    """Without a Scatter that adds: a comparison for each tap, put back by a transposed convolution."""
    counts = [n for n in v.out_lengths()[2:] if n is not None]
    source = [n for n in v.lengths()[2:] if n is not None]
    if len(counts) < w.rank or len(source) < w.rank:
        raise Undifferentiable("windows of MaxPool overlap in an opset before 16, and sizes aren't fixed")
    covered = [(n - 1) * s + r + 1 for n, s, r in zip(counts, w.strides, w.reach, strict=True)]
    ends = [max(0, c - b - n) for c, b, n in zip(covered, w.begin, source, strict=True)]
    low = v.tape.constant(-np.inf, v.dtype)
    pads = v.tape.ints([0, 0, *w.begin, 0, 0, *ends])
    padded = v.tape.emit("Pad", v.x(), pads, low)
    masks = [shifted(padded, w, offset, counts).equals(v.y()) for offset in w.offsets()]
    ties = masks[0]
    for mask in masks[1:]:
        ties = ties + mask
    share = v.dy / ties
    channels = _channels(v)
    parts = [(share * mask).reshape([0, channels, 1, *counts]) for mask in masks]
    stacked = v.tape.concat(parts, 2).reshape([0, channels * w.taps, *counts])
    kernel = v.tape.constant(picks(w, channels), v.dtype)
    lengths = v.out_lengths()
    return spread(stacked, kernel, w, v, lengths, channels)


def _is_plain_tiling(v: Vjp, w: Window) -> bool:
    """Whether each position of the input is in one window, or in none."""
    return w.tiles and not v.attr("ceil_mode", 0) and None not in v.lengths()[2:]


def _repeated(v: Vjp, small: Tensor, w: Window) -> Tensor:
    """Every value as often as its window is large, in the shape of the input."""
    scales = v.tape.constant(np.asarray([1.0, 1.0, *w.kernel]), FLOAT32)
    roi = v.tape.constant(np.zeros(0), FLOAT32) if v.opset < 13 else None
    large = v.tape.emit("Resize", small, roi, scales, attrs=_REPEATING)
    rest = [n - m * k for n, m, k in zip(v.shape()[2:], v.out_shape()[2:], w.kernel, strict=True)]
    return large.pad([0] * (w.rank + 4) + rest)


def _channels(v: Vjp) -> int:
    channels = v.lengths()[1]
    if channels is None:
        raise Undifferentiable(f"the channels of {v.node.op} are not fixed")
    return channels


def lp_pool(v: Vjp) -> Sequence[Cotangent]:
    """(sum |x|^p)^(1/p): the share of a position is (|x| / y)^(p - 1), with the sign of x."""
    w = window(v, v.attr("kernel_shape"))
    if v.attr("ceil_mode", 0):
        raise Undifferentiable("LpPool with ceil_mode")
    order, channels = v.attr("p", 2), _channels(v)
    ones = v.tape.constant(np.ones((channels, 1, *w.kernel)), v.dtype)
    share = v.dy * v.y().power(float(1 - order))
    back = spread(share, ones, w, v, v.out_lengths(), channels)
    return [back * _power_slope(v.x(), order)]


def _power_slope(x: Tensor, order: int) -> Tensor:
    return x if order == 2 else x.map("Abs").power(float(order - 1)) * x.sign()


def global_average_pool(v: Vjp) -> Sequence[Cotangent]:
    """The same share for each position."""
    spatial = v.lengths()[2:]
    if None in spatial:
        count = v.x().shape().slice([2], [v.rank()], [0]).reduce("ReduceProd", [0]).cast(v.dtype)
        return [v.expanded(v.dy / count)]
    return [v.expanded(v.dy / float(np.prod(v.shape()[2:])))]


def global_max_pool(v: Vjp) -> Sequence[Cotangent]:
    """To the maxima, in equal parts."""
    axes = list(range(2, v.rank()))
    is_max = v.x().equals(v.y())
    return [is_max * (v.dy / is_max.sum(axes, keep=True))]


def global_lp_pool(v: Vjp) -> Sequence[Cotangent]:
    """As `lp_pool`, of all positions."""
    order = v.attr("p", 2)
    return [v.dy * v.y().power(float(1 - order)) * _power_slope(v.x(), order)]


RULES: dict[str, Rule] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalLpPool": global_lp_pool,
    "GlobalMaxPool": global_max_pool,
    "LpPool": lp_pool,
    "MaxPool": max_pool,
}
