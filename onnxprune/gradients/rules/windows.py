"""Sliding windows: what convolutions and pools have in common."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...graph import Array
from ..lengths import Lengths
from ..tape import Tensor
from ..vjp import Undifferentiable, Vjp


@dataclass(frozen=True)
class Window:
    """A window that slides over the spatial axes (those from 2 on).

    Attributes:
        kernel: its lengths.
        strides: how far it moves.
        dilations: the distance of its taps.
        begin: zeros before the first position of each axis.
        end: zeros behind the last.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def taps(self) -> int:
        """The number of positions in it."""
        return int(np.prod(self.kernel))

    @property
    def reach(self) -> tuple[int, ...]:
        """How many positions it spans, besides one."""
        return tuple(d * (k - 1) for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def is_point(self) -> bool:
        """Whether it sees one position and pads nothing."""
        return self.taps == 1 and not any(self.begin) and not any(self.end)

    @property
    def tiles(self) -> bool:
        """Whether windows lie side by side, without padding."""
        dense = all(d == 1 for d in self.dilations)
        return dense and self.kernel == self.strides and not any(self.begin) and not any(self.end)

    def offsets(self) -> Iterator[tuple[int, ...]]:
        """Where each tap lies in the padded input, for the first window."""
        grid = itertools.product(*(range(k) for k in self.kernel))
        return (tuple(i * d for i, d in zip(tap, self.dilations, strict=True)) for tap in grid)

    @property
    def pads(self) -> list[int]:
        """Of all spatial axes, as the attribute has them."""
        return [*self.begin, *self.end]

    def attributes(self) -> dict[str, list[int]]:
        """Of a Conv."""
        return {
            "kernel_shape": list(self.kernel),
            "strides": list(self.strides),
            "dilations": list(self.dilations),
            "pads": self.pads,
        }


def window(v: Vjp, kernel: Sequence[int]) -> Window:
    """The window of a node that slides over its first input.

    Raises:
        Undifferentiable: what `auto_pad` pads depends on a length that isn't fixed.
    """
    rank = len(kernel)
    strides = tuple(v.attr("strides") or [1] * rank)
    dilations = tuple(v.attr("dilations") or [1] * rank)
    pads = list(v.attr("pads") or [0] * 2 * rank)
    auto = v.attr("auto_pad", "NOTSET")
    if auto == "VALID":
        pads = [0] * 2 * rank
    elif auto.startswith("SAME"):
        reach = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        total = _same(v, reach, strides)
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*less, *more] if auto == "SAME_UPPER" else [*more, *less]
    return Window(tuple(kernel), strides, dilations, tuple(pads[:rank]), tuple(pads[rank:]))


def _same(v: Vjp, reach: Sequence[int], strides: Sequence[int]) -> list[int]:
    """How much is padded on both sides together."""
    lengths = v.lengths(0)[2:]
    total = []
    for length, r, s in zip(lengths, reach, strides, strict=True):
        if s == 1:
            total.append(r)
        elif length is None:
            raise Undifferentiable(f"the padding of {v.node.op} depends on the size of its input")
        else:
            total.append(max(0, (-(-length // s) - 1) * s + r + 1 - length))
    return total


def spread(dy: Tensor, kernel: Tensor, w: Window, v: Vjp, out: Lengths, group: int, i: int = 0) -> Tensor:
    """A transposed convolution of a cotangent, in the shape of the input that a window slid over.

    Args:
        dy: the cotangent of what the windows gave.
        kernel: (channels of dy, channels of the result / group, *kernel).
        w: the window.
        v: the node.
        out: lengths of `dy`.
        group: of channels.
        i: the input.
    """
    lengths = v.lengths(i)
    more = _overhang(w, lengths[2:], out[2:])
    attrs: dict[str, Any] = {**w.attributes(), "group": group}
    if more is not None and _may_be_output_padding(more, w):
        if any(more):
            attrs["output_padding"] = more
        return dy.tape.emit("ConvTranspose", dy, kernel, attrs=attrs)
    del attrs["pads"]
    whole = dy.tape.emit("ConvTranspose", dy, kernel, attrs=attrs)
    if more is not None:
        ends = [m - e for m, e in zip(more, w.end, strict=True)]
        return whole.pad([0, 0, *(-b for b in w.begin), 0, 0, *ends])
    before = dy.tape.ints([0, 0, *(-b for b in w.begin)])
    gap = (v.x(i).shape() - whole.shape() - before) * dy.tape.ints([0, 0, *[1] * w.rank])
    return whole.pad(dy.tape.concat([before, gap], 0))


def _may_be_output_padding(more: Sequence[int], w: Window) -> bool:
    limits = [max(s, d) for s, d in zip(w.strides, w.dilations, strict=True)]
    return all(0 <= m < limit for m, limit in zip(more, limits, strict=True))


def _overhang(w: Window, source: Lengths, result: Lengths) -> list[int] | None:
    """How much longer the input is than what the windows cover, for each axis; `None` if not fixed."""
    more = []
    for axis in range(w.rank):
        n, m = source[axis], result[axis]
        if n is None or m is None:
            if w.strides[axis] != 1:
                return None
            more.append(0)
        else:
            covered = (m - 1) * w.strides[axis] + w.reach[axis] + 1
            more.append(n + w.begin[axis] + w.end[axis] - covered)
    return more


def picks(w: Window, channels: int) -> Array:
    """float32 (channels * taps, 1, *kernel): a grouped convolution that puts every tap in a channel."""
    eye = np.eye(w.taps, dtype=np.float32)
    return np.tile(eye, (channels, 1)).reshape(channels * w.taps, 1, *w.kernel)


def shifted(x: Tensor, w: Window, offset: Sequence[int], counts: Sequence[int]) -> Tensor:
    """What one tap sees: of a padded tensor, with spatial axes from 2 on."""
    ends = [o + (n - 1) * s + 1 for o, n, s in zip(offset, counts, w.strides, strict=True)]
    return x.slice(list(offset), ends, list(range(2, 2 + w.rank)), list(w.strides))
