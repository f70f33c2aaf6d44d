"""GridSample: values between the pixels of an image, at places that are computed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ..tape import INT64, Tensor
from ..vjp import Cotangent, Rule, Undifferentiable, Vjp


@dataclass(frozen=True)
class _Axis:
    """Where samples lie along one axis of an image, (samples, places).

    Attributes:
        corners: int64, the pixel before and the pixel behind, within the image.
        weights: of both; 0 outside of the image, where that is padded with zeros.
        inside: both likewise, 1 where the pixel is in the image.
        slope: of the position in pixels by the grid's coordinate.
    """

    corners: tuple[Tensor, Tensor]
    weights: tuple[Tensor, Tensor]
    inside: tuple[Tensor, Tensor]
    slope: Tensor | float


def grid_sample(v: Vjp) -> Sequence[Cotangent]:
    """Bilinear samples of images: back to the four pixels, and for the grid their differences.

    Raises:
        Undifferentiable: of other interpolations, reflections and volumes.
    """
    mode, padding = v.attr("mode", "linear"), v.attr("padding_mode", "zeros")
    if mode not in ("linear", "bilinear") or padding not in ("zeros", "border") or v.rank() != 4:
        raise Undifferentiable(f"GridSample with mode {mode} and padding {padding} of rank {v.rank()}")
    height, width = v.lengths()[2:]
    if height is None or width is None:
        raise Undifferentiable("GridSample of an image whose size is not fixed")
    aligned = bool(v.attr("align_corners", 0))
    grid = v.x(1)
    columns = _axis(grid, 0, width, aligned, padding)
    rows = _axis(grid, 1, height, aligned, padding)
    dy = v.dy.reshape([0, 0, -1])
    flat = v.x().reshape([0, 0, height * width])
    by_image: Tensor | None = None
    by_column: Tensor | None = None
    by_row: Tensor | None = None
    for r, c in itertools.product((0, 1), (0, 1)):
        place = (rows.corners[r] * rows.corners[r].like(width) + columns.corners[c]).unsqueeze(1)
        spots = place.expand(dy.shape())
        if v.wants(0):
            share = dy * (rows.weights[r] * columns.weights[c]).unsqueeze(1)
            target = v.tape.zeros(flat.shape(), v.dtype) if by_image is None else by_image
            by_image = v.tape.emit("ScatterElements", target, spots, share, axis=2, reduction="add")
        if v.wants(1):
            seen = v.tape.emit("GatherElements", flat, spots, axis=2)
            along = (dy * seen).sum([1]) * rows.inside[r] * columns.inside[c]
            side = along * rows.weights[r] * (1.0 if c else -1.0)
            up = along * columns.weights[c] * (1.0 if r else -1.0)
            by_column = side if by_column is None else by_column + side
            by_row = up if by_row is None else by_row + up
    by_grid = None
    if by_column is not None and by_row is not None:
        pair = [(by_column * columns.slope).unsqueeze(2), (by_row * rows.slope).unsqueeze(2)]
        by_grid = v.reshaped(v.tape.concat(pair, 2), 1)
    return [None if by_image is None else v.reshaped(by_image), by_grid]


def _axis(grid: Tensor, index: int, length: int, aligned: bool, padding: str) -> _Axis:
    at = grid.slice([index], [index + 1], [3]).reshape([0, -1])
    scale = (length - 1) / 2 if aligned else length / 2
    position = (at + 1.0) * scale - (0.0 if aligned else 0.5)
    slope: Tensor | float = scale
    last = float(length - 1)
    if padding == "border":
        slope = position.between(0.0, last) * scale
        position = _within(position, last)
    before = position.map("Floor")
    share = position - before
    pixels = (before, before + 1.0)
    inside = tuple(p.between(-0.5, last + 0.5) for p in pixels)
    corners = tuple(_within(p, last).cast(INT64) for p in pixels)
    return _Axis(
        (corners[0], corners[1]),
        ((1.0 - share) * inside[0], share * inside[1]),
        (inside[0], inside[1]),
        slope,
    )


def _within(position: Tensor, last: float) -> Tensor:
    return position.tape.emit("Clip", position, position.like(0.0), position.like(last))


RULES: dict[str, Rule] = {"GridSample": grid_sample}
