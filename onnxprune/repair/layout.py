"""Linear operators as what they are: y = W p + b for every row, where p is the patch that an output position reads.

A layout says, for one node, where the patches, the outputs and the weights of that form are. Arrays have a leading
axis of groups G (1 but for grouped convolutions). Zero padding is part of the patches, so a regression on them is
exact at the borders, too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..graph import Array, Node, Shape

Rows = NDArray[np.int64]
"""Which rows to take, as positions in all of them."""


class Layout(ABC):
    """One linear node."""

    data: int = 0
    """Which input is read."""
    weight: int = 1
    """Which input is the weight."""
    bias: int | None = None
    """Which input is the bias, if there may be one."""
    channels: int
    """Which axis of the output holds the outputs."""

    @abstractmethod
    def rows(self, y: Shape) -> int:
        """How many rows an output of this shape has."""

    @abstractmethod
    def patches(self, x: Array, y: Shape, rows: Rows) -> Array:
        """(G, rows, F): what these rows read, of the input `x` that gives an output of shape `y`."""

    @abstractmethod
    def targets(self, y: Array, rows: Rows) -> Array:
        """(G, rows, O): what these rows give."""

    @abstractmethod
    def matrix(self, weight: Array) -> Array:
        """(G, O, F): the weight."""

    @abstractmethod
    def restored(self, matrix: Array, weight: Shape) -> Array:
        """A weight of shape `weight` from its matrix."""


@dataclass(frozen=True)
class Convolution(Layout):
    """Conv of any kernel, stride, dilation and group.

    Attributes:
        kernel: taps along each spatial axis.
        strides: of the output positions.
        dilations: of the taps.
        pads: before and after each spatial axis.
        groups: how many.
    """

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: tuple[tuple[int, int], ...]
    groups: int
    bias = 2
    channels = 1

    @classmethod
    def of(cls, node: Node, weight: Shape, x: Shape) -> Convolution:
        """The layout of a node that reads an `x` of this shape."""
        kernel = weight[2:]
        ones = (1,) * len(kernel)
        strides = tuple(node.attrs.get("strides", ones))
        dilations = tuple(node.attrs.get("dilations", ones))
        pads = _pads(node, kernel, strides, dilations, x[2:])
        return cls(kernel, strides, dilations, pads, node.attrs.get("group", 1))

    def rows(self, y: Shape) -> int:
        return y[0] * math.prod(y[2:])

    def patches(self, x: Array, y: Shape, rows: Rows) -> Array:
        padded = np.pad(x, ((0, 0), (0, 0), *self.pads))
        axes = tuple(range(2, x.ndim))
        extent = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        windows = sliding_window_view(padded, extent, axis=axes)
        windows = windows[(..., *(slice(None, None, d) for d in self.dilations))]
        sample, *positions = np.unravel_index(rows, (y[0], *y[2:]))
        starts = (p * s for p, s in zip(positions, self.strides, strict=True))
        taken = windows[(sample, slice(None), *starts)]  # (rows, C, *kernel)
        return taken.reshape(len(rows), self.groups, -1).swapaxes(0, 1)

    def targets(self, y: Array, rows: Rows) -> Array:
        sample, *positions = np.unravel_index(rows, (y.shape[0], *y.shape[2:]))
        return y[(sample, slice(None), *positions)].reshape(len(rows), self.groups, -1).swapaxes(0, 1)

    def matrix(self, weight: Array) -> Array:
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)

    def restored(self, matrix: Array, weight: Shape) -> Array:
        return matrix.reshape(weight)


@dataclass(frozen=True)
class Transposed(Layout):
    """ConvTranspose: a convolution of its input with zeros in between, kernel turned around.

    Attributes:
        strides: how far apart the inputs are put.
        inner: that convolution.
    """

    strides: Shape
    inner: Convolution
    bias = 2
    channels = 1

    @classmethod
    def of(cls, node: Node, weight: Shape, x: Shape, y: Shape) -> Transposed:
        """The layout of a node with inputs and outputs of these shapes."""
        kernel = weight[2:]
        ones = (1,) * len(kernel)
        strides = tuple(node.attrs.get("strides", ones))
        dilations = tuple(node.attrs.get("dilations", ones))
        extra = node.attrs.get("output_padding", (0,) * len(kernel))
        given = node.attrs.get("pads", (0,) * (2 * len(kernel)))
        mode = node.attrs.get("auto_pad", "NOTSET")
        pads = []
        for a, (n, k, s, d, e) in enumerate(zip(x[2:], kernel, strides, dilations, extra, strict=True)):
            reach = (k - 1) * d
            before = given[a]
            if mode != "NOTSET" or "output_shape" in node.attrs:
                whole = max(0, s * (n - 1) + e + reach + 1 - y[2 + a])
                before = whole - whole // 2 if mode == "SAME_LOWER" else whole // 2
            before = reach - before
            pads.append((before, y[2 + a] + reach - before - (s * (n - 1) + 1)))
        inner = Convolution(kernel, ones, dilations, tuple(pads), node.attrs.get("group", 1))
        return cls(strides, inner)

    def rows(self, y: Shape) -> int:
        return self.inner.rows(y)

    def patches(self, x: Array, y: Shape, rows: Rows) -> Array:
        lengths = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], self.strides, strict=True)]
        apart = np.zeros((*x.shape[:2], *lengths), x.dtype)
        apart[(..., *(slice(None, None, s) for s in self.strides))] = x
        cropped = tuple(
            slice(max(0, -before), n + min(0, after)) for n, (before, after) in self._around(lengths)
        )
        pads = tuple((max(0, b), max(0, a)) for b, a in self.inner.pads)
        inner = Convolution(
            self.inner.kernel, self.inner.strides, self.inner.dilations, pads, self.inner.groups
        )
        return inner.patches(apart[(..., *cropped)], y, rows)

    def _around(self, lengths: list[int]) -> zip[tuple[int, tuple[int, int]]]:
        return zip(lengths, self.inner.pads, strict=True)

    def targets(self, y: Array, rows: Rows) -> Array:
        return self.inner.targets(y, rows)

    def matrix(self, weight: Array) -> Array:
        turned = np.flip(weight, tuple(range(2, weight.ndim)))
        split = turned.reshape(self.inner.groups, -1, *weight.shape[1:]).swapaxes(1, 2)
        return split.reshape(self.inner.groups, weight.shape[1], -1)

    def restored(self, matrix: Array, weight: Shape) -> Array:
        split = matrix.reshape(self.inner.groups, weight[1], -1, *weight[2:]).swapaxes(1, 2)
        return np.flip(split.reshape(weight), tuple(range(2, len(weight))))


@dataclass(frozen=True)
class Product(Layout):
    """Gemm and MatMul with a constant matrix on either side.

    Attributes:
        right: whether the weight is on the right.
        turned_x: whether the data is transposed.
        turned_w: whether the weight is transposed.
        factor: what the product is multiplied by.
        bias: input of the bias.
    """

    right: bool
    turned_x: bool = False
    turned_w: bool = False
    factor: float = 1.0
    bias: int | None = None

    @property
    def data(self) -> int:  # type: ignore[override]
        """Which input is read."""
        return 0 if self.right else 1

    @property
    def weight(self) -> int:  # type: ignore[override]
        """Which input is the weight."""
        return 1 if self.right else 0

    @property
    def channels(self) -> int:  # type: ignore[override]
        """Which axis of the output holds the outputs."""
        return -1 if self.right else -2

    def rows(self, y: Shape) -> int:
        return math.prod(y) // y[self.channels] if len(y) > 1 else 1

    def patches(self, x: Array, y: Shape, rows: Rows) -> Array:
        inner_last = self.right != self.turned_x
        flat = x if x.ndim == 1 or inner_last else x.swapaxes(-1, -2)
        return flat.reshape(-1, flat.shape[-1])[rows][None]

    def targets(self, y: Array, rows: Rows) -> Array:
        flat = y if self.right else y.swapaxes(-1, -2)
        return flat.reshape(-1, flat.shape[-1])[rows][None]

    def matrix(self, weight: Array) -> Array:
        return self.factor * (weight if self.right == self.turned_w else weight.T)[None]

    def restored(self, matrix: Array, weight: Shape) -> Array:
        flat = matrix[0] / self.factor
        return flat if self.right == self.turned_w else flat.T


def layout(node: Node, side: int, weight: Shape, x: Shape, y: Shape) -> Layout | None:
    """The layout of a node, if there is one.

    Args:
        node: the node.
        side: which input is the weight.
        weight: its shape.
        x: shape of the data.
        y: shape of the output.
    """
    if node.op == "Conv" and side == 1:
        return Convolution.of(node, weight, x)
    if node.op == "ConvTranspose" and side == 1:
        return Transposed.of(node, weight, x, y)
    if node.op == "Gemm":
        turned = bool(node.attrs.get("transA", 0)), bool(node.attrs.get("transB", 0))
        alpha = float(node.attrs.get("alpha", 1.0))
        return (
            Product(side == 1, turned[1 - side], turned[side], alpha, 2 if side == 1 else None)
            if alpha
            else None
        )
    if node.op == "MatMul" and len(weight) == 2 and len(x) > 1:
        return Product(side == 1)
    return None


def _pads(
    node: Node, kernel: Shape, strides: Shape, dilations: Shape, x: Shape
) -> tuple[tuple[int, int], ...]:
    mode = node.attrs.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        given = node.attrs.get("pads", (0,) * (2 * len(kernel)))
        return tuple(zip(given[: len(kernel)], given[len(kernel) :], strict=True))
    if mode == "VALID":
        return ((0, 0),) * len(kernel)
    pads = []
    for n, k, s, d in zip(x, kernel, strides, dilations, strict=True):
        whole = max(0, (math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n)
        small, large = whole // 2, whole - whole // 2
        pads.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return tuple(pads)
