"""Convolutions.

The gradient with respect to the input is a transposed convolution. With respect to the weights it is a
product of matrices: the cotangent (filters, samples x positions) with what each tap sees of the input
(samples x positions, channels). How that product is put is a question of speed alone; `weight_gradient` says
which way is taken when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...graph import Array
from ..lengths import Lengths
from ..tape import Tape, Tensor
from ..vjp import Cotangent, Rule, Undifferentiable, Vjp
from .linear import swapped
from .windows import Window, picks, shifted, spread, window

_MANY_TAPS = 49
"""With more, one product over patches is faster than one for each tap."""
_FEW_POSITIONS = 1024
"""Up to so many a product is faster with the longer side as columns."""
_FEW_CHANNELS = 8
"""With fewer in a group, a product for each tap is too narrow."""
_LONG_ROW, _LONG_SOURCE = 48, 64
"""Rows longer than this (of the result, of the input) are too wasteful to correlate whole."""
_TILES = (14, 16, 15, 13, 12, 18, 10, 9, 8, 20, 7)
"""Lengths of stretches, the best first."""


def conv(v: Vjp) -> Sequence[Cotangent]:
    """Conv with any group, stride, dilation and padding."""
    weight = v.shape(1)
    w = window(v, weight[2:])
    group = v.attr("group", 1)
    sides = Sides(group, v.lengths(0), v.out_lengths(), weight[0], weight[1])
    return [
        _input_gradient(v, w, sides) if v.wants(0) else None,
        weight_gradient(v.tape, v.x(0), v.dy, w, sides) if v.wants(1) else None,
        v.dy.sum([0, *range(2, 2 + w.rank)]) if v.wants(2) else None,
    ]


def conv_transpose(v: Vjp) -> Sequence[Cotangent]:
    """ConvTranspose: a Conv with the roles of input and output exchanged."""
    weight = v.shape(1)
    w, group = _transposed_window(v, weight[2:]), v.attr("group", 1)
    # What no window reaches (of output_padding beyond the pads) is cut off: a Conv takes no negative pads.
    spare = [*(min(0, p) for p in w.begin), *(min(0, p) for p in w.end)]
    inner = v.dy.pad([0, 0, *spare[: w.rank], 0, 0, *spare[w.rank :]])
    w = replace(w, begin=tuple(max(0, p) for p in w.begin), end=tuple(max(0, p) for p in w.end))
    cut = [a + b for a, b in zip(spare[: w.rank], spare[w.rank :], strict=True)]
    spatial = (None if n is None else n + c for n, c in zip(v.out_lengths()[2:], cut, strict=True))
    sides = Sides(group, (*v.out_lengths()[:2], *spatial), v.lengths(0), weight[0], weight[1])
    by_input = v.tape.emit("Conv", inner, v.x(1), attrs=w.attributes(), group=group) if v.wants(0) else None
    return [
        by_input,
        weight_gradient(v.tape, inner, v.x(0), w, sides) if v.wants(1) else None,
        v.dy.sum([0, *range(2, 2 + w.rank)]) if v.wants(2) else None,
    ]


def _transposed_window(v: Vjp, kernel: Sequence[int]) -> Window:
    """The window that slides over the output, so that there are as many windows as the input is long.

    Raises:
        Undifferentiable: pads depend on a length that isn't fixed, or on the runtime.
    """
    rank = len(kernel)
    computed = bool(v.attr("output_shape")) or v.attr("auto_pad", "NOTSET").startswith("SAME")
    pads = v.attr("pads") or [0] * 2 * rank
    w = Window(
        tuple(kernel),
        tuple(v.attr("strides") or [1] * rank),
        tuple(v.attr("dilations") or [1] * rank),
        tuple(pads[:rank]),
        tuple(pads[rank:]),
    )
    more = v.attr("output_padding") or [0] * rank
    begin, end = list(w.begin), list(w.end)
    for axis, (n, m) in enumerate(zip(v.out_lengths()[2:], v.lengths(0)[2:], strict=True)):
        if not computed:
            end[axis] -= more[axis]
            continue
        if n is None or m is None:
            raise Undifferentiable("ConvTranspose pads by the size of its input")
        total = (m - 1) * w.strides[axis] + w.reach[axis] + 1 - n
        if (total + more[axis]) % 2:
            raise Undifferentiable("on which side ConvTranspose pads more depends on the runtime")
        begin[axis] = (total + more[axis]) // 2
        end[axis] = total - begin[axis]
    return Window(w.kernel, w.strides, w.dilations, tuple(begin), tuple(end))


@dataclass(frozen=True)
class Sides:
    """What a convolution connects.

    Attributes:
        group: of channels.
        source: lengths of what windows slide over.
        result: lengths of what they give.
        filters: channels of the result.
        width: channels of the source in each group.
    """

    group: int
    source: Lengths
    result: Lengths
    filters: int
    width: int

    @property
    def height(self) -> int:
        """Filters in each group."""
        return self.filters // self.group

    @property
    def positions(self) -> list[int] | None:
        """Spatial lengths of the result, if they are fixed."""
        fixed = [n for n in self.result[2:] if n is not None]
        return fixed if len(fixed) == len(self.result) - 2 else None

    @property
    def is_fixed(self) -> bool:
        """Whether all spatial lengths are."""
        return None not in self.source[2:] and None not in self.result[2:]


def _input_gradient(v: Vjp, w: Window, sides: Sides) -> Tensor:
    """A transposed convolution, or a plain one with a flipped kernel.

    ONNX Runtime runs a Conv of constant weights in a blocked layout, up to five times as fast; of other
    weights only kernels of one tap gain.
    """
    pads = [r - p for r, p in zip((*w.reach, *w.reach), w.pads, strict=True)]
    dense = all(s == 1 for s in w.strides)
    if not dense or min(pads, default=0) < 0 or not (w.is_point or v.is_fixed(1)):
        return spread(v.dy, v.x(1), w, v, sides.result, sides.group)
    turned = _turned(v.x(1), w, sides)
    return v.tape.emit("Conv", v.dy, turned, attrs=w.attributes(), pads=pads, group=sides.group)


def _turned(weight: Tensor, w: Window, sides: Sides) -> Tensor:
    """The flipped kernel, with input and output channels exchanged within each group."""
    g, kernel = sides.group, list(w.kernel)
    if sides.width == sides.height == 1:
        turned = weight
    else:
        grouped = weight.reshape([g, sides.height, sides.width, *kernel])
        order = (0, 2, 1, *range(3, 3 + w.rank))
        turned = grouped.transpose(*order).reshape([g * sides.width, sides.height, *kernel])
    axes = [2 + a for a, k in enumerate(kernel) if k > 1]
    if not axes:
        return turned
    n = len(axes)
    return turned.slice([-1] * n, [-(2**31)] * n, axes, [-1] * n)


# ---------------------------------------------------------------- weights


def weight_gradient(tape: Tape, x: Tensor, dy: Tensor, w: Window, sides: Sides) -> Tensor:
    """The cotangent of a kernel, (filters, channels / group, *kernel).

    Args:
        tape: where it goes.
        x: what windows slide over, (samples, channels, *positions).
        dy: the cotangent of what they give, (samples, filters, *positions).
        w: the window.
        sides: what it connects.
    """
    shape = [sides.filters, sides.width, *w.kernel]
    if w.is_point and all(s == 1 for s in w.strides):
        return _by_positions(x, dy, sides).reshape(shape)
    if not sides.is_fixed:
        return _by_patches(tape, x, dy, w, sides).reshape(shape)
    if w.tiles and w.taps > 1 and not sides.width == sides.height == 1:
        return _by_tiles(x, dy, w, sides).reshape(shape)
    if sides.width == sides.height == 1:
        tile = _tile(w, sides)
        if tile is not None:
            return _by_rows(tape, x, dy, w, sides, tile).reshape(shape)
        return _by_patches(tape, x, dy, w, sides).reshape(shape)
    if w.taps > _MANY_TAPS or sides.width < _FEW_CHANNELS:
        return _by_patches(tape, x, dy, w, sides).reshape(shape)
    return _by_taps(tape, x, dy, w, sides)


def _by_positions(x: Tensor, dy: Tensor, sides: Sides) -> Tensor:
    """One tap: positions are summed over in each sample, then samples, unless that makes large sums."""
    g, width, height = sides.group, sides.width, sides.height
    positions = None if sides.positions is None else int(np.prod(sides.positions))
    rank = len(sides.source) - 2
    if positions is not None and width * height > positions * (width + height):
        left, right = (_channels_first(t, g, n, rank) for t, n in ((dy, height), (x, width)))
        return left.matmul(swapped(right, 3))
    left, right = (t.reshape([0, g, n, -1]) for t, n in ((dy, height), (x, width)))
    if positions is not None and positions <= _FEW_POSITIONS and height > width:  # long rows are faster
        return swapped(right.matmul(swapped(left, 4)).sum([0]), 3)
    return left.matmul(swapped(right, 4)).sum([0])


def _channels_first(x: Tensor, group: int, width: int, rank: int) -> Tensor:
    """(group, channels, samples x positions)."""
    return x.transpose(1, 0, *range(2, 2 + rank)).reshape([group, width, -1])


def _by_taps(tape: Tape, x: Tensor, dy: Tensor, w: Window, sides: Sides) -> Tensor:
    """A product for each tap, over samples and positions together."""
    g, rank = sides.group, w.rank
    counts = sides.positions or []
    turned = x.transpose(1, 0, *range(2, 2 + rank)).pad([0, 0, *w.begin, 0, 0, *w.end])
    left = _channels_first(dy, g, sides.height, rank)
    products = []
    for offset in w.offsets():
        seen = shifted(turned, w, offset, counts).reshape([g, sides.width, -1])
        products.append(left.matmul(swapped(seen, 3)))
    stacked = tape.concat([p.unsqueeze(3) for p in products], 3)
    return stacked.reshape([sides.filters, sides.width, *w.kernel])


def _by_tiles(x: Tensor, dy: Tensor, w: Window, sides: Sides) -> Tensor:
    """Windows side by side: all taps in one product, for they are a Reshape of the input."""
    rank, g = w.rank, sides.group
    counts = sides.positions or []
    covered = [n * k for n, k in zip(counts, w.kernel, strict=True)]
    whole = x.slice([0] * rank, covered, list(range(2, 2 + rank))) if covered != list(sides.source[2:]) else x
    split = [n for pair in zip(counts, w.kernel, strict=True) for n in pair]
    cells = whole.reshape([0, g * sides.width, *split])
    positions, taps = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
    right = cells.transpose(1, *taps, 0, *positions).reshape([g, sides.width * w.taps, -1])
    return _channels_first(dy, g, sides.height, rank).matmul(swapped(right, 3))


def _by_patches(tape: Tape, x: Tensor, dy: Tensor, w: Window, sides: Sides) -> Tensor:
    """All taps as channels of their own, by a convolution that picks them; works for any size."""
    g, columns = sides.group, sides.width * w.taps
    kernel = tape.constant(picks(w, g * sides.width), x.dtype)
    patches = tape.emit("Conv", x, kernel, attrs=w.attributes(), group=g * sides.width)
    left = patches.reshape([0, g, columns, -1])
    right = dy.reshape([0, g, sides.height, -1]).transpose(0, 1, 3, 2)
    return left.matmul(right).sum([0]).transpose(0, 2, 1)


def _by_rows(tape: Tape, x: Tensor, dy: Tensor, w: Window, sides: Sides, tile: int) -> Tensor:
    """Depthwise, two axes: stretches of rows of the cotangent against those of the input, diagonals summed.

    That multiplies more than it needs to, but as matrices: a sum over two tensors for each tap takes twice as
    long.
    """
    channels = sides.group
    height, width = sides.positions or []
    turned = x.transpose(1, 0, 2, 3).pad([0, 0, w.begin[0], 0, 0, 0, w.end[0], 0])
    seen_by = _stretches(turned, w, sides.source[3] or 0, width, tile)
    left = dy.transpose(1, 0, 2, 3).reshape([channels, -1, tile]).transpose(0, 2, 1)
    sums = tape.constant(seen_by.diagonals.reshape(tile * seen_by.length, -1), x.dtype)
    rows = []
    for tap in range(w.kernel[0]):
        start = tap * w.dilations[0]
        end = start + (height - 1) * w.strides[0] + 1
        seen = seen_by.value.slice([start], [end], [2], [w.strides[0]]).reshape(
            [channels, -1, seen_by.length]
        )
        rows.append(left.matmul(seen).reshape([channels, tile * seen_by.length]).matmul(sums))
    return tape.concat(rows, 1)


@dataclass(frozen=True)
class _Stretches:
    """What stretches of rows of the result see.

    Attributes:
        value: (channels, samples, rows, stretches, length), or without the axis of stretches if there is one.
        length: of what one sees.
        diagonals: (positions of a stretch, length, taps), 1 where a tap connects them.
    """

    value: Tensor
    length: int
    diagonals: Array


def _stretches(rows: Tensor, w: Window, source: int, width: int, tile: int) -> _Stretches:
    """Cut (channels, samples, rows, positions) into what stretches of `tile` positions of the result see."""
    stride, kernel, dilation = w.strides[1], w.kernel[1], w.dilations[1]
    begin, length = w.begin[1], source
    value = rows
    if tile < width:
        padded = rows.pad([0, 0, 0, begin, 0, 0, 0, w.end[1]])
        begin, length = 0, (tile - 1) * stride + w.reach[1] + 1
        starts = range(0, width * stride, tile * stride)
        value = rows.tape.concat([padded.slice([s], [s + length], [3]).unsqueeze(3) for s in starts], 3)
    diagonals = np.zeros((tile, length, kernel))
    for tap in range(kernel):
        at = np.arange(tile) * stride + tap * dilation - begin
        inside = (at >= 0) & (at < length)
        diagonals[np.arange(tile)[inside], at[inside], tap] = 1
    return _Stretches(value, length, diagonals)


def _tile(w: Window, sides: Sides) -> int | None:
    """How long stretches of rows should be; `None` where rows are no good."""
    if w.rank != 2 or sides.positions is None:
        return None
    width = sides.positions[1]
    if width <= _LONG_ROW and (sides.source[3] or 0) <= _LONG_SOURCE:
        return width
    return next((t for t in _TILES if width % t == 0), None) if w.strides[1] == 1 else None


RULES: dict[str, Rule] = {"Conv": conv, "ConvTranspose": conv_transpose}
