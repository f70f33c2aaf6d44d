"""Quantisation, straight through: rounding counts as the identity, saturation as a limit.

Integers carry cotangents as floats: the cotangent of q is that of the real number that stands in its place
before it is rounded.

Sources: the straight-through estimator of Bengio et al. 2013, arXiv:1308.3432; the gradient of a scale is
that of Esser et al. 2020, Learned Step Size Quantization, without its normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tape import FLOAT32, Tensor
from ..vjp import Cotangent, Rule, Undifferentiable, Vjp
from .linear import swapped
from .windows import spread, window

_EDGE = 0.5


def dequantize(v: Vjp) -> Sequence[Cotangent]:
    """(x - zero point) scale."""
    scale = _along_axis(v, v.x(1))
    by_scale = None
    if v.wants(1):
        by_scale = _back(v, v.dy * _counted_from_zero(v, 0, 2), 1)
    return [v.dy * scale if v.wants(0) else None, by_scale]


def quantize(v: Vjp) -> Sequence[Cotangent]:
    """1 / scale where the number is within range; -x / scale² for the scale."""
    scale = _along_axis(v, v.x(1))
    limits = np.iinfo(v.y().dtype)
    level = v.x() / scale
    if v.has(2):
        level = level + _along_axis(v, v.x(2).cast(level.dtype))
    inside = level.between(limits.min - _EDGE, limits.max + _EDGE)
    share = v.dy * inside / scale
    return [
        share if v.wants(0) else None,
        -_back(v, share * v.x() / scale, 1) if v.wants(1) else None,
    ]


def _along_axis(v: Vjp, parameter: Tensor) -> Tensor:
    """A scale or zero point in a shape that broadcasts with the tensor."""
    if v.attr("block_size", 0):
        raise Undifferentiable("quantisation by block")
    if v.rank(1) == 0 or v.shape(1) == (1,):
        return parameter
    axis = v.axis(1, v.rank(0))
    return parameter.reshape([-1 if a == axis else 1 for a in range(v.rank(0))])


def _back(v: Vjp, value: Tensor, i: int) -> Tensor:
    """The sum over all that one scale holds for."""
    rank = v.rank(0)
    single = v.rank(i) == 0 or v.shape(i) == (1,)
    axes = [a for a in range(rank) if single or a != v.axis(1, rank)]
    return v.reshaped(value.sum(axes), i)


def _counted_from_zero(v: Vjp, i: int, zero: int) -> Tensor:
    x = v.x(i).cast(FLOAT32)
    return x - _along_axis(v, v.x(zero).cast(FLOAT32)) if v.has(zero) else x


def quantize_dynamically(v: Vjp) -> Sequence[Cotangent]:
    """1 / scale. Nothing saturates; what the scale does to q and to what q stands for cancels."""
    dq = v.cotangents[0]
    return [] if dq is None else [dq / v.y(1)]


def matmul_integer(v: Vjp) -> Sequence[Cotangent]:
    """The product of both operands, each from its zero point on."""
    ranks = v.rank(0), v.rank(1)
    if min(ranks) < 2:
        raise Undifferentiable("MatMulInteger of a vector")
    a, b = v.x(0).cast(FLOAT32), v.x(1).cast(FLOAT32)
    if v.has(2):
        zero = v.x(2).cast(FLOAT32)
        a = a - (zero.unsqueeze(1) if v.rank(2) == 1 and v.shape(2) != (1,) else zero)
    if v.has(3):
        b = b - v.x(3).cast(FLOAT32)
    result = v.out_lengths()
    by_a = v.dy.matmul(swapped(b, ranks[1])) if v.wants(0) else None
    by_b = swapped(a, ranks[0]).matmul(v.dy) if v.wants(1) else None
    lengths = (*result[:-1], v.lengths(0)[-1]), (*result[:-2], *v.lengths(1)[-2:])
    return [
        None if by_a is None else v.collapsed(by_a, 0, lengths[0]),
        None if by_b is None else v.collapsed(by_b, 1, lengths[1]),
    ]


def conv_integer(v: Vjp) -> Sequence[Cotangent]:
    """As a Conv of the weights from their zero point on."""
    if v.wants(1):
        raise Undifferentiable("the weights of ConvInteger are integers")
    weight = v.x(1).cast(FLOAT32)
    if v.has(3):
        weight = weight - v.x(3).cast(FLOAT32).reshape([-1, *[1] * (v.rank(1) - 1)])
    w = window(v, v.shape(1)[2:])
    return [spread(v.dy, weight, w, v, v.out_lengths(), v.attr("group", 1))]


RULES: dict[str, Rule] = {
    "ConvInteger": conv_integer,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": quantize_dynamically,
    "MatMulInteger": matmul_integer,
    "QuantizeLinear": quantize,
    "com.microsoft:DequantizeLinear": dequantize,
    "com.microsoft:QuantizeLinear": quantize,
}
