"""Samples changed at random, so that few of them say more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..contracts.finetuning import Augment
from ..graph import Array

_REACH = 1 / 14
"""How far images are shifted, as a share of their size."""

_NOISE = 0.1
"""Of the standard deviation of a batch."""

_COLOURS = 4
_SMALL = 8


def positions(array: Array) -> tuple[int, int] | None:
    """The axes of height and width of a batch of images; `None` if it isn't one."""
    if array.ndim != 4 or array.dtype.kind not in "fu":
        return None
    for channels, axes in ((1, (2, 3)), (3, (1, 2))):
        if array.shape[channels] <= _COLOURS and min(array.shape[a] for a in axes) >= _SMALL:
            return axes
    return None


def augmented(
    feeds: Mapping[str, Array], ways: Sequence[Augment], rng: np.random.Generator
) -> dict[str, Array]:
    """A batch, changed: each sample in its own way.

    Args:
        feeds: inputs by name, the first axis samples.
        ways: what is done; `shift` and `flip` are for images alone, `mix` and `noise` for all floats.
        rng: draws.
    """
    found = dict(feeds)
    for way in ways:
        share = rng.uniform(0, 1, 4096).astype(np.float32)
        for name, array in found.items():
            axes = positions(array)
            if way == "shift" and axes is not None:
                found[name] = _shifted(array, axes, rng)
            elif way == "flip" and axes is not None:
                turned = np.flip(array, axes[1])
                found[name] = np.where(_each(rng.random(len(array)) < 0.5, array), turned, array)
            elif way == "mix" and array.dtype.kind == "f" and array.ndim > 1:
                own = _each(share[: len(array)].astype(array.dtype), array)
                found[name] = own * array + (1 - own) * np.roll(array, 1, 0)
            elif way == "noise" and array.dtype.kind == "f" and array.ndim > 1:
                drawn = rng.standard_normal(array.shape) * _NOISE * float(array.std())
                found[name] = array + drawn.astype(array.dtype)
    return found


def _shifted(array: Array, axes: tuple[int, int], rng: np.random.Generator) -> Array:
    """Images moved by some pixels; what comes in at an edge is what was there."""
    reach = [max(1, round(array.shape[a] * _REACH)) for a in axes]
    pads = [(0, 0)] * array.ndim
    for a, far in zip(axes, reach, strict=True):
        pads[a] = (far, far)
    wide = np.pad(array, pads, mode="edge")
    result = np.empty_like(array)
    for k in range(len(array)):
        cut: list[slice | int] = [k, *[slice(None)] * (array.ndim - 1)]
        for a, far in zip(axes, reach, strict=True):
            start = int(rng.integers(0, 2 * far + 1))
            cut[a] = slice(start, start + array.shape[a])
        result[k] = wide[tuple(cut)]
    return result


def _each(values: Array, array: Array) -> Array:
    return values.reshape(-1, *[1] * (array.ndim - 1))
