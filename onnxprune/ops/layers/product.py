"""Gemm, MatMul and the input of recurrent layers as matrix products."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...graph import Array, Shape
from .layout import Entries, Layout, Rows


@dataclass(frozen=True)
class Product(Layout):
    """Gemm and MatMul with a constant matrix on either side.

    Attributes:
        right: whether the weight is on the right.
        turned_x: whether the data is transposed.
        turned_w: whether the weight is transposed.
        factor: what the product is multiplied by.
    """

    right: bool
    turned_x: bool = False
    turned_w: bool = False
    factor: float = 1.0

    @property
    def summed(self) -> int:
        """See `Layout.summed`."""
        return -1 if self.right != self.turned_x else -2

    def rows(self, y: Shape) -> int:
        """See `Layout.rows`."""
        return math.prod(y) // y[-1 if self.right else -2]

    def sample(self, y: Shape, rows: Rows) -> Rows:
        """See `Layout.sample`."""
        return rows // (self.rows(y) // y[0]) if len(y) > 2 else rows

    def patches(self, x: Array, _y: Shape, rows: Rows) -> Array:
        """See `Layout.patches`."""
        flat = x if self.right != self.turned_x else x.swapaxes(-1, -2)
        return flat.reshape(-1, flat.shape[-1])[rows][None]

    @property
    def outputs(self) -> int:
        """See `Layout.outputs`."""
        return -1 if self.right else -2

    def targets(self, y: Array, rows: Rows, entries: Entries = None) -> Array:
        """See `Layout.targets`."""
        flat = y if self.right else y.swapaxes(-1, -2)
        taken = flat.reshape(-1, flat.shape[-1])[rows]
        return (taken if entries is None else taken[:, entries])[None]

    def fan_in(self, weight: Shape) -> int:
        """See `Layout.fan_in`."""
        return weight[1 if self.right == self.turned_w else 0]

    def matrix(self, weight: Array) -> Array:
        """See `Layout.matrix`."""
        outputs_first = self.right == self.turned_w
        return (weight if outputs_first else weight.T)[None] * self.factor

    def restored(self, matrix: Array, _weight: Shape) -> Array:
        """See `Layout.restored`."""
        outputs_first = self.right == self.turned_w
        return np.asarray((matrix[0] if outputs_first else matrix[0].T) / self.factor)


@dataclass(frozen=True)
class Gates(Layout):
    """What LSTM, GRU and RNN make of their input before time comes in: W (directions, gates * H, I).

    There is no tensor of it: targets (T, B, directions * gates * H) are computed from what the original read.

    Attributes:
        batch_first: whether samples come before time, instead.
    """

    batch_first: bool = False

    @property
    def summed(self) -> int:
        """See `Layout.summed`."""
        return -1

    def rows(self, y: Shape) -> int:
        """See `Layout.rows`."""
        return math.prod(y[:-1])

    def sample(self, y: Shape, rows: Rows) -> Rows:
        """See `Layout.sample`."""
        return rows // y[1] if self.batch_first else rows % y[1]

    def patches(self, x: Array, _y: Shape, rows: Rows) -> Array:
        """See `Layout.patches`."""
        return x.reshape(-1, x.shape[-1])[rows][None]

    @property
    def outputs(self) -> int:
        """See `Layout.outputs`."""
        return -1

    def targets(self, y: Array, rows: Rows, entries: Entries = None) -> Array:
        """See `Layout.targets`."""
        taken = y.reshape(-1, y.shape[-1])[rows]
        return (taken if entries is None else taken[:, entries])[None]

    def fan_in(self, weight: Shape) -> int:
        """See `Layout.fan_in`."""
        return weight[-1]

    def matrix(self, weight: Array) -> Array:
        """See `Layout.matrix`."""
        return weight.reshape(1, -1, weight.shape[-1])

    def restored(self, matrix: Array, weight: Shape) -> Array:
        """See `Layout.restored`."""
        return matrix.reshape(weight)
