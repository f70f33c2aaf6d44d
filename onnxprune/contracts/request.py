"""What to gather from the tensors of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..graph import Shape
from ..types import Floats

SumKind = Literal["sum", "squares", "zeros", "gram", "norms", "pooled", "kernels"]


@dataclass(frozen=True)
class Kernel:
    """Which convolution to take the per-kernel norms of; its input is the request's tensor.

    Attributes:
        weight: float (T, S, *taps), groups written out as zeros or, for a matrix product, (T, S).
        attrs: attributes of the Conv that say where its taps fall: kernel_shape, strides, pads, dilations.
    """

    weight: Floats
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """What to gather from one tensor.

    Attributes:
        tensor: its name.
        axis: of its channels, not negative. All other axes are positions; axis 0 counts samples, too,
            unless it is the channel axis.
        shape: of the tensor; only its rank and the length of `axis` are relied on.
        kinds: what to gather, as the attributes of `Moments`: `gram` brings `sum`; `norms` and `kernels`
            bring their squares.
        positions: look at this many positions of each sample, drawn evenly from all; `None`: at all. What
            is gathered for each sample always sees all.
        kernel: for `kernels`.
        length: positions of each sample, if that is always the same number.
        turn: turn the whole tensor to channels-last before looking at some positions: that costs nothing
            where it has to leave the layout of convolutions anyway.
    """

    tensor: str
    axis: int
    shape: Shape
    kinds: frozenset[SumKind]
    positions: int | None = None
    kernel: Kernel | None = None
    length: int | None = None
    turn: bool = False
