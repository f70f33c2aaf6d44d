"""What picks elements by index, and what puts them there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tape import INT64, Tensor
from ..vjp import Cotangent, Rule, Undifferentiable, Vjp

_ADDING_SINCE = 16
"""The opset from which on ScatterND and ScatterElements may add."""


def gather(v: Vjp) -> Sequence[Cotangent]:
    """The cotangents of all copies of an element, added up."""
    rank, axis, picks = v.rank(0), v.axis(0, v.rank(0)), v.rank(1)
    single = v.value(1)
    length = v.lengths(0)[axis]
    if single is not None and single.size == 1 and length is not None:
        return [_one_row(v, axis, int(single.item()) % length, length)]
    front = list(range(axis, axis + picks))
    rest = [a for a in range(rank - 1 + picks) if a not in front]
    dy = v.dy.transpose(*front, *rest)
    others = [a for a in range(rank) if a != axis]
    shape = v.tape.concat([v.x().length(axis), *(v.x().length(a) for a in others)], 0)
    if v.opset >= _ADDING_SINCE:
        zeros = v.tape.zeros(shape, v.dtype)
        spots = v.x(1).cast(INT64).unsqueeze(picks)
        total = v.tape.emit("ScatterND", zeros, spots, dy, reduction="add")
    else:
        total = _by_one_hot(v, axis, dy).reshape(shape)
    order = [axis, *others]
    return [total.transpose(*(int(a) for a in np.argsort(order)))]


def _one_row(v: Vjp, axis: int, at: int, length: int) -> Tensor:
    """One element along an axis: zeros before and behind it."""
    rank = v.rank(0)
    picks = v.rank(1)
    dy = v.dy.unsqueeze(axis) if picks == 0 else v.dy.squeeze(*range(axis + 1, axis + picks))
    begins, ends = [0] * rank, [0] * rank
    begins[axis], ends[axis] = at, length - 1 - at
    return dy.pad([*begins, *ends])


def _by_one_hot(v: Vjp, axis: int, dy: Tensor) -> Tensor:
    """(length of the axis, others): a product with rows that are 1 at the index picked."""
    length = v.lengths(0)[axis]
    others = [n for a, n in enumerate(v.lengths(0)) if a != axis]
    if length is None or None in others:
        raise Undifferentiable("Gather of lengths that are not fixed, in an opset before 16")
    width = int(np.prod([n or 0 for n in others]))
    hot = v.tape.emit(
        "OneHot",
        v.x(1).cast(INT64).reshape([-1]),
        v.tape.ints([length]),
        v.tape.constant([0.0, 1.0], v.dtype),
        dtype=v.dtype,
    )
    return hot.transpose(1, 0).matmul(dy.reshape([-1, width]))


def gather_elements(v: Vjp) -> Sequence[Cotangent]:
    """Scattered back, and added.

    Raises:
        Undifferentiable: the opset has no Scatter that adds.
    """
    if v.opset < _ADDING_SINCE:
        raise Undifferentiable("GatherElements before opset 16, where no Scatter adds")
    axis = v.axis(0, v.rank(0))
    return [v.tape.emit("ScatterElements", v.zeros(), v.x(1), v.dy, axis=axis, reduction="add")]


def gather_nd(v: Vjp) -> Sequence[Cotangent]:
    """Scattered back, and added.

    Raises:
        Undifferentiable: the opset has no Scatter that adds.
    """
    if v.opset < _ADDING_SINCE:
        raise Undifferentiable("GatherND before opset 16, where no Scatter adds")
    spots = v.x(1).cast(INT64)
    for _ in range(v.attr("batch_dims", 0)):
        spots = _with_sample(v, spots)
    return [v.tape.emit("ScatterND", v.zeros(), spots, v.dy, reduction="add")]


def _with_sample(v: Vjp, spots: Tensor) -> Tensor:
    """Indices with the number of the sample in front: what `batch_dims` leaves out."""
    if v.attr("batch_dims", 0) != 1:
        raise Undifferentiable("GatherND with more than one axis of samples")
    rank = v.rank(1)
    count = spots.length(0).squeeze(0)
    numbers = v.tape.emit("Range", count.like(0), count, count.like(1), dtype=INT64)
    numbers = numbers.reshape([-1, *[1] * (rank - 1)])
    shape = v.tape.concat([spots.shape().slice([0], [rank - 1], [0]), v.tape.ints([1])], 0)
    return v.tape.concat([numbers.expand(shape), spots], rank - 1)


def scatter_nd(v: Vjp) -> Sequence[Cotangent]:
    """ScatterND: what is put there takes the cotangent, what was there keeps the rest."""
    adds = _adds(v)
    spots = v.x(1).cast(INT64)
    data = v.dy
    if not adds and v.wants(0):
        zeros = v.tape.zeros(v.x(2).shape(), v.dtype)
        data = v.tape.emit("ScatterND", v.dy, spots, zeros)
    return [
        data if v.wants(0) else None,
        None,
        v.tape.emit("GatherND", v.dy, spots) if v.wants(2) else None,
    ]


def scatter_elements(v: Vjp) -> Sequence[Cotangent]:
    """ScatterElements, as `scatter_nd`."""
    adds, axis = _adds(v), v.axis(0, v.rank(0))
    data = v.dy
    if not adds and v.wants(0):
        zeros = v.tape.zeros(v.x(2).shape(), v.dtype)
        data = v.tape.emit("ScatterElements", v.dy, v.x(1), zeros, axis=axis)
    return [
        data if v.wants(0) else None,
        None,
        v.tape.emit("GatherElements", v.dy, v.x(1), axis=axis) if v.wants(2) else None,
    ]


def _adds(v: Vjp) -> bool:
    reduction = v.attr("reduction", "none")
    if reduction not in ("none", "add"):
        raise Undifferentiable(f"{v.node.op} with reduction '{reduction}'")
    return bool(reduction == "add")


RULES: dict[str, Rule] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
}
