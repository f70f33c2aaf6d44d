"""Reductions, and what runs along whole axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..tape import Tensor
from ..vjp import Cotangent, Rule, Undifferentiable, Vjp


def _axes(v: Vjp) -> list[int]:
    """The axes that are reduced, from the front; none where the operator does nothing."""
    found = v.axes()
    if not found:
        return [] if v.attr("noop_with_empty_axes", 0) else list(range(v.rank()))
    return sorted(a % v.rank() for a in found)


def _kept(v: Vjp, value: Tensor, axes: Sequence[int]) -> Tensor:
    """A result with the reduced axes, of length 1."""
    return value if v.attr("keepdims", 1) else value.unsqueeze(*axes)


def reduce_sum(v: Vjp) -> Sequence[Cotangent]:
    """ReduceSum: the cotangent, repeated."""
    return [v.expanded(_kept(v, v.dy, _axes(v)))]


def reduce_mean(v: Vjp) -> Sequence[Cotangent]:
    """ReduceMean: a share of it."""
    axes = _axes(v)
    lengths = [v.lengths()[a] for a in axes]
    if None in lengths:
        count = v.tape.concat([v.x().length(a) for a in axes], 0).reduce("ReduceProd", [0])
        return [v.expanded(_kept(v, v.dy / count.cast(v.dtype), axes))]
    share = v.dy / float(np.prod([n or 1 for n in lengths]))
    return [v.expanded(_kept(v, share, axes))]


def _extremum(v: Vjp, axes: list[int], y: Tensor, dy: Tensor) -> Tensor:
    found = v.x().equals(y)
    return found * (dy / found.sum(axes, keep=True))


def _norm1(v: Vjp, axes: list[int], y: Tensor, dy: Tensor) -> Tensor:
    return v.x().sign() * dy


def _norm2(v: Vjp, axes: list[int], y: Tensor, dy: Tensor) -> Tensor:
    """X / y, and 0 where all are 0."""
    return v.x() * (dy / (y + (1.0 - y.above(0.0))))


def _log_sum(v: Vjp, axes: list[int], y: Tensor, dy: Tensor) -> Tensor:
    return v.expanded(dy / y.map("Exp"))


def _log_sum_exp(v: Vjp, axes: list[int], y: Tensor, dy: Tensor) -> Tensor:
    return (v.x() - y).map("Exp") * dy


def _squares(v: Vjp, axes: list[int], y: Tensor, dy: Tensor) -> Tensor:
    return v.x() * (dy * 2.0)


def _product(v: Vjp, axes: list[int], y: Tensor, dy: Tensor) -> Tensor:
    """The product of the others, which stays right where some are 0."""
    length = v.lengths()[axes[0]] if len(axes) == 1 else None
    if length is None:
        raise Undifferentiable("ReduceProd over more than one axis of fixed length")
    rank, axis = v.rank(), axes[0]
    eye = np.eye(length).reshape([length, *[1] * axis, length, *[1] * (rank - axis - 1)])
    x = v.x().unsqueeze(0)
    others = x * v.tape.constant(1 - eye, v.dtype) + v.tape.constant(eye, v.dtype)
    products = others.reduce("ReduceProd", [axis + 1], keep=False)
    order = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
    return products.transpose(*order) * dy


_SLOPES: dict[str, Callable[[Vjp, list[int], Tensor, Tensor], Tensor]] = {
    "ReduceL1": _norm1,
    "ReduceL2": _norm2,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extremum,
    "ReduceMin": _extremum,
    "ReduceProd": _product,
    "ReduceSumSquare": _squares,
}
"""Operator -> the cotangent of x, from (node, axes, y and dy with all axes)."""


def reduction(v: Vjp) -> Sequence[Cotangent]:
    """A reduction whose derivative depends on what it reduces."""
    axes = _axes(v)
    y, dy = _kept(v, v.y(), axes), _kept(v, v.dy, axes)
    if not axes and v.node.op in ("ReduceMax", "ReduceMin", "ReduceProd"):
        return [v.dy]
    return [_SLOPES[v.node.op](v, axes, y, dy)]


def cumulative_sum(v: Vjp) -> Sequence[Cotangent]:
    """CumSum runs the other way."""
    exclusive, back = v.attr("exclusive", 0), 1 - v.attr("reverse", 0)
    return [v.tape.emit("CumSum", v.dy, v.x(1), exclusive=exclusive, reverse=back)]


def top_k(v: Vjp) -> Sequence[Cotangent]:
    """TopK: back to where the values were."""
    if v.cotangents[0] is None:
        return []
    axis = v.axis(-1)
    return [v.tape.emit("ScatterElements", v.zeros(), v.y(1), v.cotangents[0], axis=axis)]


def triangle(v: Vjp) -> Sequence[Cotangent]:
    """Trilu keeps the same triangle."""
    more = [v.x(1)] if v.has(1) else []
    return [v.tape.emit("Trilu", v.dy, *more, upper=v.attr("upper", 1))]


def reversed_sequence(v: Vjp) -> Sequence[Cotangent]:
    """ReverseSequence undoes itself."""
    return [v.tape.emit("ReverseSequence", v.dy, v.x(1), attrs=v.node.attrs)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_SLOPES, reduction),
    "CumSum": cumulative_sum,
    "ReduceMean": reduce_mean,
    "ReduceSum": reduce_sum,
    "ReverseSequence": reversed_sequence,
    "TopK": top_k,
    "Trilu": triangle,
}
