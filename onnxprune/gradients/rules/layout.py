"""What only rearranges, repeats or cuts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...graph import Array
from ..tape import BOOL, INT64, Tensor
from ..vjp import Cotangent, Rule, Undifferentiable, Vjp


def reshaped(v: Vjp) -> Sequence[Cotangent]:
    """What keeps the order of elements: back to the shape of the input."""
    return [v.reshaped(v.dy)]


def transpose(v: Vjp) -> Sequence[Cotangent]:
    """The inverse order."""
    order = v.attr("perm") or list(reversed(range(v.rank())))
    return [v.dy.transpose(*(int(a) for a in np.argsort(order)))]


def expand(v: Vjp) -> Sequence[Cotangent]:
    """The sum over what was repeated."""
    return [v.collapsed(v.dy, 0)]


def tile(v: Vjp) -> Sequence[Cotangent]:
    """The sum over all copies."""
    rank = v.rank()
    source = v.shape_tensor().unsqueeze(1)
    pairs = v.tape.concat([v.x(1).reshape([rank, 1]), source], 1).reshape([-1])
    return [v.dy.reshape(pairs).sum(range(0, 2 * rank, 2))]


def concat(v: Vjp) -> Sequence[Cotangent]:
    """Each its part."""
    axis, count = v.axis(-1), len(v.node.inputs)
    if sum(map(v.wants, range(count))) == 0:
        return []
    lengths = [v.lengths(i)[axis] for i in range(count)]
    fixed = [n for n in lengths if n is not None]
    if len(fixed) == count:
        parts = _some_parts(v, axis, fixed)
    else:
        if v.opset < 13:
            raise Undifferentiable("the lengths that Concat joins are not fixed, and the opset is before 13")
        sizes = v.tape.concat([v.x(i).length(axis) for i in range(count)], 0)
        parts = list(v.dy.split(sizes, axis, count))
    return [part if v.wants(i) else None for i, part in enumerate(parts)]


def _some_parts(v: Vjp, axis: int, lengths: Sequence[int]) -> list[Tensor | None]:
    if sum(map(v.wants, range(len(lengths)))) > 1:
        return list(v.dy.split(lengths, axis, len(lengths)))
    starts = np.cumsum([0, *lengths])
    return [
        v.dy.slice([int(starts[i])], [int(starts[i + 1])], [axis]) if v.wants(i) else None
        for i in range(len(lengths))
    ]


def split(v: Vjp) -> Sequence[Cotangent]:
    """Side by side again, with zeros where nothing arrives."""
    axis = v.axis(0)
    parts = [
        c if c is not None else v.tape.zeros(v.y(i).shape(), v.dtype)
        for i, c in enumerate(v.cotangents)
        if v.gives(i)
    ]
    return [v.tape.concat(parts, axis)]


def slice_(v: Vjp) -> Sequence[Cotangent]:
    """Zeros around it, and between its elements where it takes steps."""
    rank, dy = v.rank(), v.dy
    given = v.axes(3)
    axes = [a % rank for a in given] if given is not None else list(range(v.shape(1)[0]))
    steps = [int(s) for s in np.ravel(v.known(4, "steps"))] if v.has(4) else [1] * len(axes)
    fixed = all(None not in (v.lengths()[a], v.out_lengths()[a]) for a in axes)
    starts = v.value(1)
    if starts is None or not fixed:
        if any(s != 1 for s in steps):
            raise Undifferentiable("Slice takes steps along an axis whose length is not fixed")
        return [dy.pad(_computed_pads(v, axes))]
    begins, ends = [0] * rank, [0] * rank
    for axis, start, step in zip(axes, np.ravel(starts), steps, strict=True):
        n, m = v.shape()[axis], v.out_shape()[axis]
        first = int(start) + (n if start < 0 else 0)
        first = min(max(first, 0), n if step > 0 else n - 1)
        if step < 0:
            dy = dy.slice([-1], [-(2**31)], [axis], [-1])
            first += (m - 1) * step
        dy = _spaced(dy, axis, rank, m, abs(step))
        begins[axis], ends[axis] = first, n - first - m * abs(step)
    return [dy.pad([*begins, *ends])]


def _computed_pads(v: Vjp, axes: Sequence[int]) -> Tensor:
    """int64, the zeros around a slice whose place or size isn't fixed."""
    if v.opset < 12:
        raise Undifferentiable("the place of a Slice is computed, and the opset is before 12")
    ints, parts = v.tape.ints, {axis: k for k, axis in enumerate(axes)}
    starts, known = v.x(1).cast(INT64), v.value(1)
    begins, ends = [], []
    for axis in range(v.rank()):
        if axis not in parts:
            begins.append(ints([0]))
            ends.append(ints([0]))
            continue
        k, length = parts[axis], v.x().length(axis)
        if known is not None and np.ravel(known)[k] >= 0:
            begin = ints([int(np.ravel(known)[k])])
        else:
            start = starts.slice([k], [k + 1], [0])
            negative = v.tape.emit("Less", start, ints([0]), dtype=BOOL).cast(INT64)
            begin = v.tape.emit("Max", start + negative * length, ints([0]))
        begins.append(begin)
        ends.append(length - begin - v.y().length(axis))
    return v.tape.concat([*begins, *ends], 0)


def _spaced(x: Tensor, axis: int, rank: int, count: int, stride: int) -> Tensor:
    """`stride - 1` zeros behind each element along an axis."""
    if stride == 1:
        return x
    order = [*(a for a in range(rank) if a != axis), axis]
    last = x.transpose(*order).unsqueeze(rank).pad([0] * (2 * rank + 1) + [stride - 1])
    merged = last.reshape([*[0] * (rank - 1), count * stride])
    return merged.transpose(*(int(a) for a in np.argsort(order)))


def pad(v: Vjp) -> Sequence[Cotangent]:
    """What was added is cut off; what was a copy is added to its source."""
    mode, rank = v.attr("mode", "constant"), v.rank()
    if v.wants(2):
        raise Undifferentiable("the value that Pad fills in is no weight")
    given = v.axes(3)
    axes = [a % rank for a in given] if given is not None else list(range(rank))
    known = v.value(1)
    if mode == "constant":
        if known is None:
            more = [None, v.x(3)] if v.has(3) else []
            return [v.tape.emit("Pad", v.dy, -v.x(1), *more)]
        begins, ends = [0] * rank, [0] * rank
        for k, axis in enumerate(axes):
            begins[axis], ends[axis] = -int(known[k]), -int(known[len(axes) + k])
        return [v.dy.pad([*begins, *ends])]
    pads = v.known(1, "pads")
    dy = v.dy
    for k, axis in enumerate(axes):
        around = (int(pads[k]), int(pads[len(axes) + k]))
        length = v.lengths()[axis]
        if any(around):
            if length is None or min(around) < 0:
                raise Undifferentiable(f"Pad with mode {mode} of a length that is not fixed")
            spots = np.pad(np.arange(length), around, mode=_PAD_MODES[mode])
            dy = along(dy, axis, rank, np.eye(length)[:, spots])
    return [dy]


_PAD_MODES: dict[str, Literal["reflect", "edge", "wrap"]] = {
    "reflect": "reflect",
    "edge": "edge",
    "wrap": "wrap",
}


def along(x: Tensor, axis: int, rank: int, matrix: Array | Tensor) -> Tensor:
    """An axis multiplied by a matrix (length of the result, length of the axis)."""
    m = matrix if isinstance(matrix, Tensor) else x.like(matrix)
    if axis == rank - 2:
        return m.matmul(x)
    if axis == rank - 1:
        return x.matmul(m.transpose(1, 0))
    order = [*(a for a in range(rank) if a != axis), axis]
    moved = x.transpose(*order).matmul(m.transpose(1, 0))
    return moved.transpose(*(int(a) for a in np.argsort(order)))


def depth_to_space(v: Vjp) -> Sequence[Cotangent]:
    """SpaceToDepth, with channels in the order of the mode."""
    block = v.attr("blocksize")
    back = v.tape.emit("SpaceToDepth", v.dy, blocksize=block)
    if v.attr("mode", "DCR") == "DCR":
        return [back]
    grid = back.reshape([0, block * block, -1, *_one(v)])
    return [v.reshaped(grid.transpose(0, 2, 1, 3))]


def _one(v: Vjp) -> list[int]:
    """The positions of the input, as the last axis."""
    lengths = v.lengths()[2:]
    if None in lengths:
        raise Undifferentiable("DepthToSpace of positions that are not fixed")
    return [int(np.prod(v.shape()[2:]))]


def space_to_depth(v: Vjp) -> Sequence[Cotangent]:
    """DepthToSpace."""
    return [v.tape.emit("DepthToSpace", v.dy, blocksize=v.attr("blocksize"), mode="DCR")]


RULES: dict[str, Rule] = {
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": reshaped,
    "Pad": pad,
    "Reshape": reshaped,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": reshaped,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": reshaped,
}
