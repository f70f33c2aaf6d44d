"""Conv and ConvTranspose as matrix products; zero padding is part of the patches, so borders are exact."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ...graph import Array, Node, Shape
from .layout import Entries, Layout, Rows

Pads = tuple[tuple[int, int], ...]
"""Before and after each spatial axis; negative ones crop."""


@dataclass(frozen=True)
class Convolution(Layout):
    """Conv of any kernel, stride, dilation and group: X (N, C, ...), W (O, C/group, ...).

    Attributes:
        kernel: taps along each spatial axis.
        strides: of the output positions.
        dilations: of the taps.
        pads: of the input, unless they follow from its size.
        group: how many groups.
        auto_pad: how they follow from its size: `SAME_UPPER` or `SAME_LOWER`; otherwise `NOTSET`.
    """

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: Pads
    group: int
    auto_pad: str = "NOTSET"

    @classmethod
    def of(cls, node: Node, weight: Shape) -> Convolution:
        """The layout of a node."""
        kernel = weight[2:]
        ones = (1,) * len(kernel)
        mode = node.attrs.get("auto_pad", "NOTSET")
        given = tuple(node.attrs.get("pads", (0,) * (2 * len(kernel)))) if mode == "NOTSET" else ()
        pads = tuple(zip(given[: len(kernel)], given[len(kernel) :], strict=True)) or ((0, 0),) * len(kernel)
        return cls(
            kernel,
            tuple(node.attrs.get("strides", ones)),
            tuple(node.attrs.get("dilations", ones)),
            pads,
            node.attrs.get("group", 1),
            "NOTSET" if mode == "VALID" else mode,
        )

    @property
    def groups(self) -> int:
        """See `Layout.groups`."""
        return self.group

    @property
    def taps(self) -> int:
        """See `Layout.taps`."""
        return math.prod(self.kernel)

    @property
    def summed(self) -> int:
        """See `Layout.summed`."""
        return 1

    def rows(self, y: Shape) -> int:
        """See `Layout.rows`."""
        return y[0] * math.prod(y[2:])

    def sample(self, y: Shape, rows: Rows) -> Rows:
        """See `Layout.sample`."""
        return rows // math.prod(y[2:])

    def patches(self, x: Array, y: Shape, rows: Rows) -> Array:
        """See `Layout.patches`."""
        padded = _padded(x, self._padding(x.shape[2:]))
        reach = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        windows = sliding_window_view(padded, reach, axis=tuple(range(2, x.ndim)))
        taps: Any = (..., *(slice(None, None, d) for d in self.dilations))
        sample, *positions = np.unravel_index(rows, (y[0], *y[2:]))
        starts: Any = (p * s for p, s in zip(positions, self.strides, strict=True))
        taken: Array = windows[taps][(sample, slice(None), *starts)]  # (rows, C, *kernel)
        return taken.reshape(len(rows), self.group, -1).swapaxes(0, 1)

    @property
    def outputs(self) -> int:
        """See `Layout.outputs`."""
        return 1

    def targets(self, y: Array, rows: Rows, entries: Entries = None) -> Array:
        """See `Layout.targets`."""
        sample, *positions = np.unravel_index(rows, (y.shape[0], *y.shape[2:]))
        index: Any = (sample, slice(None), *positions)
        taken: Array = y[index] if entries is None else y[index][:, entries]
        return taken.reshape(len(rows), self.group, -1).swapaxes(0, 1)

    def fan_in(self, weight: Shape) -> int:
        """See `Layout.fan_in`."""
        return math.prod(weight[1:])

    def matrix(self, weight: Array) -> Array:
        """See `Layout.matrix`."""
        return weight.reshape(self.groups, weight.shape[0] // self.group, -1)

    def restored(self, matrix: Array, weight: Shape) -> Array:
        """See `Layout.restored`."""
        return matrix.reshape(weight)

    def _padding(self, x: Shape) -> Pads:
        if self.auto_pad == "NOTSET":
            return self.pads
        pads = []
        for n, k, s, d in zip(x, self.kernel, self.strides, self.dilations, strict=True):
            whole = max(0, (math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n)
            less, more = whole // 2, whole - whole // 2
            pads.append((less, more) if self.auto_pad == "SAME_UPPER" else (more, less))
        return tuple(pads)


@dataclass(frozen=True)
class Transposed(Layout):
    """ConvTranspose: X (N, C, ...), W (C, O/group, ...); a Conv of X with zeros in between, kernel turned.

    Attributes:
        strides: how far apart the inputs are put.
        inner: that Conv, but for its pads, which follow from what is cut off the output.
        begins: how much of the full output is cut off at the beginning of each axis, unless that follows from
            its size.
        auto_pad: how it follows from its size: `SAME_LOWER` takes more of it; otherwise, less.
        extra: what the full output has more at the end of each axis.
    """

    strides: Shape
    inner: Convolution
    begins: Shape | None
    auto_pad: str = "NOTSET"
    extra: Shape = ()

    @classmethod
    def of(cls, node: Node, weight: Shape) -> Transposed:
        """The layout of a node."""
        kernel = weight[2:]
        ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
        dilations = tuple(node.attrs.get("dilations", ones))
        inner = Convolution(kernel, ones, dilations, ((0, 0),) * len(kernel), node.attrs.get("group", 1))
        mode = node.attrs.get("auto_pad", "NOTSET")
        explicit = mode in ("NOTSET", "VALID") and "output_shape" not in node.attrs
        return cls(
            tuple(node.attrs.get("strides", ones)),
            inner,
            tuple(node.attrs.get("pads", zeros * 2))[: len(kernel)] if explicit else None,
            mode,
            tuple(node.attrs.get("output_padding", zeros)),
        )

    @property
    def groups(self) -> int:
        """See `Layout.groups`."""
        return self.inner.group

    @property
    def taps(self) -> int:
        """See `Layout.taps`."""
        return math.prod(self.inner.kernel)

    @property
    def apart(self) -> int:
        """See `Layout.apart`."""
        return math.prod(self.strides)

    @property
    def summed(self) -> int:
        """See `Layout.summed`."""
        return 1

    def rows(self, y: Shape) -> int:
        """See `Layout.rows`."""
        return self.inner.rows(y)

    def sample(self, y: Shape, rows: Rows) -> Rows:
        """See `Layout.sample`."""
        return self.inner.sample(y, rows)

    def patches(self, x: Array, y: Shape, rows: Rows) -> Array:
        """See `Layout.patches`."""
        lengths = ((n - 1) * s + 1 for n, s in zip(x.shape[2:], self.strides, strict=True))
        apart = np.zeros((*x.shape[:2], *lengths), x.dtype)
        steps: Any = (..., *(slice(None, None, s) for s in self.strides))
        apart[steps] = x
        return replace(self.inner, pads=self._padding(x.shape[2:], y[2:])).patches(apart, y, rows)

    @property
    def outputs(self) -> int:
        """See `Layout.outputs`."""
        return 1

    def targets(self, y: Array, rows: Rows, entries: Entries = None) -> Array:
        """See `Layout.targets`."""
        return self.inner.targets(y, rows, entries)

    def fan_in(self, weight: Shape) -> int:
        """See `Layout.fan_in`."""
        return weight[0] // self.groups * math.prod(weight[2:])

    def matrix(self, weight: Array) -> Array:
        """See `Layout.matrix`."""
        groups = self.groups
        turned = np.flip(weight, tuple(range(2, weight.ndim)))
        outward = turned.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
        return outward.reshape(groups, weight.shape[1], -1)

    def restored(self, matrix: Array, weight: Shape) -> Array:
        """See `Layout.restored`."""
        inward = matrix.reshape(self.inner.group, weight[1], -1, *weight[2:]).swapaxes(1, 2)
        return np.flip(inward.reshape(weight), tuple(range(2, len(weight))))

    def _padding(self, x: Shape, y: Shape) -> Pads:
        pads = []
        for axis, (n, out, k, s, d) in enumerate(
            zip(x, y, self.inner.kernel, self.strides, self.inner.dilations, strict=True)
        ):
            reach = (k - 1) * d
            if self.begins is not None:
                begin = self.begins[axis]
            else:
                whole = max(0, s * (n - 1) + self.extra[axis] + reach + 1 - out)
                begin = whole - whole // 2 if self.auto_pad == "SAME_LOWER" else whole // 2
            pads.append((reach - begin, out + begin - (s * (n - 1) + 1)))
        return tuple(pads)


def _padded(x: Array, pads: Pads) -> Array:
    if not any(map(any, pads)):
        return x
    inside: Any = (
        ...,
        *(slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(x.shape[2:], pads, strict=True)),
    )
    part = x[inside]
    around = [(max(0, a), max(0, b)) for a, b in pads]
    sizes = (n + a + b for n, (a, b) in zip(part.shape[2:], around, strict=True))
    padded = np.zeros((*x.shape[:2], *sizes), x.dtype)
    middle: Any = (..., *(slice(a, a + n) for n, (a, _) in zip(part.shape[2:], around, strict=True)))
    padded[middle] = part
    return padded
