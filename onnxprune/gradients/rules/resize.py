"""Resize: a linear map along each axis, whose matrix the operator itself gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tape import FLOAT32, Tensor
from ..vjp import Blocked, Cotangent, Rule, Undifferentiable, Vjp
from .layout import along

_HALF_PIXEL = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
_ROUNDED = ("round_prefer_floor", "round_prefer_ceil")


def resize(v: Vjp) -> Sequence[Cotangent]:
    """Each axis by the transposed matrix of its interpolation.

    The matrix is what Resize makes of an identity: so coordinates, rounding and weights are those of the
    runtime, in each mode. Enlarging by whole numbers to the nearest is a sum over windows.

    Raises:
        Undifferentiable: sizes aren't fixed, or regions are resized.
    """
    by_settings = [
        Blocked("scales and regions of Resize are no weights") if v.wants(i) else None for i in (1, 2)
    ]
    return [_by_input(v) if v.wants(0) else None, *by_settings]


def _by_input(v: Vjp) -> Tensor:
    if v.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Undifferentiable("Resize of a region")
    if v.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Undifferentiable("Resize that keeps the aspect ratio")
    rank = v.rank()
    scales = _scales(v)
    factors = _repeats(v, scales)
    if factors is not None:
        means = v.dy.map("AveragePool", kernel_shape=factors, strides=factors)
        return means * float(np.prod(factors))
    source, result = v.lengths(), v.out_lengths()
    dy = v.dy
    for axis in range(rank):
        n, m = source[axis], result[axis]
        scale = None if scales is None else scales[axis]
        stays = v.shape()[axis] == v.out_shape()[axis] and scale in (None, 1.0)
        if stays and (axis < 2 or n is not None or scale is not None):
            continue
        if axis < 2:
            raise Undifferentiable("Resize of samples or channels")
        if n is None or m is None:
            raise Undifferentiable("Resize of an axis whose length is not fixed")
        dy = along(dy, axis, rank, _matrix(v, axis, n, m, scale))
    return dy


def _scales(v: Vjp) -> list[float] | None:
    """For each axis, if they are given; the axes of `axes` alone may be."""
    if not v.has(2) or not (given := v.known(2, "scales")).size:
        return None
    axes = v.attr("axes") or range(v.rank())
    scales = [1.0] * v.rank()
    for axis, scale in zip(axes, given, strict=True):
        scales[axis] = float(scale)
    return scales


def _repeats(v: Vjp, scales: Sequence[float] | None) -> list[int] | None:
    """How often each position is repeated, if it is a whole number of times."""
    if v.attr("mode", "nearest") != "nearest" or not 3 <= v.rank() <= 5:
        return None
    place = v.attr("coordinate_transformation_mode", "half_pixel")
    rounding = v.attr("nearest_mode", "round_prefer_floor")
    repeats = (place in _HALF_PIXEL and rounding in _ROUNDED) or (place, rounding) == ("asymmetric", "floor")
    ratios = [m / n for n, m in zip(v.shape(), v.out_shape(), strict=True)]
    if scales is None and None in (*v.lengths()[2:], *v.out_lengths()[2:]):
        return None
    if scales is not None and scales != ratios:
        return None
    whole = all(r == round(r) for r in ratios)
    return [round(r) for r in ratios[2:]] if repeats and whole and ratios[:2] == [1, 1] else None


def _matrix(v: Vjp, axis: int, length: int, result: int, scale: float | None) -> Tensor:
    """(length, length of the result): an identity, resized along one axis."""
    rank = v.rank()
    shape = [1] * rank
    shape[1] = shape[axis] = length
    eye = v.tape.constant(np.eye(length).reshape(shape), v.dtype)
    attrs = {k: value for k, value in v.node.attrs.items() if k != "axes"}
    roi = v.tape.constant(np.zeros(0), FLOAT32) if v.opset < 13 else None
    if scale is None:
        sizes = list(shape)
        sizes[axis] = result
        unset = v.tape.constant(np.zeros(0), FLOAT32) if v.opset < 13 else None
        found = v.tape.emit("Resize", eye, roi, unset, v.tape.ints(sizes), attrs=attrs)
    else:
        factors = np.ones(rank)
        factors[axis] = scale
        found = v.tape.emit("Resize", eye, roi, v.tape.constant(factors, FLOAT32), attrs=attrs)
    return found.reshape([length, result])


RULES: dict[str, Rule] = {"Resize": resize}
