"""Linear operators as what they are: y = W p + b for every row, p being what an output position reads."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from ...graph import Array, Shape

Rows = NDArray[np.int64]
"""Which rows to take, as positions among all of them."""

Entries = NDArray[np.int64] | None
"""Which entries of an axis to take; `None`: all."""


class Layout(ABC):
    """Where the patches, outputs and weights of one node are.

    Arrays have a leading axis of groups, G: 1 but for grouped convolutions.
    """

    @abstractmethod
    def rows(self, y: Shape) -> int:
        """How many rows an output of this shape has."""

    @abstractmethod
    def sample(self, y: Shape, rows: Rows) -> Rows:
        """Which sample of the batch each of these rows is of."""

    @abstractmethod
    def patches(self, x: Array, y: Shape, rows: Rows) -> Array:
        """(G, rows, F): what these rows read of the input `x` that gives an output of shape `y`."""

    @property
    def groups(self) -> int:
        """How many groups of outputs read inputs of their own."""
        return 1

    @property
    def taps(self) -> int:
        """How many weights of an output meet one channel of the input; they are neighbours in `matrix`."""
        return 1

    @property
    def apart(self) -> int:
        """Of so many taps of a kernel one meets an input at a position: 1 but where they are transposed."""
        return 1

    @property
    @abstractmethod
    def summed(self) -> int:
        """The axis of the input that is summed over, apart from taps of a kernel."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """The axis of an output along which there is a row of the weight for each entry."""

    @abstractmethod
    def targets(self, y: Array, rows: Rows, entries: Entries = None) -> Array:
        """(G, rows, O): what these rows give; only some entries along the axis of outputs, if so asked."""

    @abstractmethod
    def fan_in(self, weight: Shape) -> int:
        """F: how many values each output sums over."""

    @abstractmethod
    def matrix(self, weight: Array) -> Array:
        """(G, O, F): the weight."""

    @abstractmethod
    def restored(self, matrix: Array, weight: Shape) -> Array:
        """The weight, of shape `weight`, from its matrix."""
