"""Samples in image files, decoded by Pillow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts.choices import Layout, Preset
from ..contracts.sampling import Preprocessing
from ..errors import InputError, UsageError
from ..graph import InputSpec
from .core import Feeds, Samples, ready

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})

_MODES: Mapping[int, str] = MappingProxyType({1: "L", 3: "RGB", 4: "RGBA"})
"""What Pillow calls images of so many channels."""

_CHANNELS: Mapping[int, str] = MappingProxyType(
    {1: "one colour", 3: "three colours", 4: "three colours and opacity"}
)


@dataclass(frozen=True)
class _Base:
    """What a preset says; `scale` is open where it depends on the input's dtype."""

    scale: float | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    crop: float = 1.0


_PRESETS: Mapping[Preset, _Base] = MappingProxyType(
    {
        "unit": _Base(),
        "imagenet": _Base(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256 / 224),
        "symmetric": _Base(1 / 255, (0.5,), (0.5,)),
        "raw": _Base(1.0),
    }
)


@dataclass(frozen=True)
class _Recipe:
    """Preprocessing with nothing left open."""

    size: tuple[int, int]
    colours: int
    layout: Layout
    scale: float
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    crop: float
    dtype: np.dtype[Any]


def from_images(
    files: Sequence[Path], specs: tuple[InputSpec, ...], how: Preprocessing, source: str
) -> Samples:
    """Samples that are images, for a model whose only input is a batch of them.

    Raises:
        UsageError: the preprocessing doesn't fit the model.
        InputError: the model takes something else, or an image can't be read.
    """
    if len(specs) != 1:
        names = ", ".join(s.name for s in specs)
        hint = "give an .npz of arrays by input name"
        raise InputError(f"images are for one input, the model has {names}", where=source, hint=hint)
    (spec,) = specs
    recipe = _recipe(spec, how, source)

    def read(indices: Sequence[int]) -> Iterator[Feeds]:
        for index in indices:
            yield {spec.name: _image(files[index], recipe)}

    return ready(specs, source, len(files), read)


def _recipe(spec: InputSpec, how: Preprocessing, source: str) -> _Recipe:
    if len(spec.shape) != 4:
        raise InputError(f"input '{spec.name}' is no batch of images", where=source)
    last_has_colours = spec.shape[3] in _MODES and spec.shape[1] not in _MODES
    layout = how.layout or ("NHWC" if last_has_colours else "NCHW")
    channels, height, width = (spec.shape[a] for a in ((1, 2, 3) if layout == "NCHW" else (3, 1, 2)))
    colours = channels if isinstance(channels, int) else 3
    if colours not in _MODES:
        raise InputError(f"input '{spec.name}' has {colours} channels, images have 1, 3 or 4", where=source)
    base = _PRESETS[how.preset]
    means, stds = how.mean or base.mean, how.std or base.std
    for option, values in (("--mean", means), ("--std", stds)):
        if len(values) not in (1, colours):
            hint = "give one number" if colours == 1 else f"give one number, or {colours}"
            reason = f"{len(values)} numbers for images of {_CHANNELS[colours]}"
            raise UsageError(reason, where=option, hint=hint)
    size = how.size
    if size is None:
        if not isinstance(height, int) or not isinstance(width, int):
            raise UsageError("the model takes images of any size", where=source, hint="give --image-size")
        size = (height, width)
    whole = spec.dtype.kind in "iu"
    wanted = base.scale if how.scale is None else how.scale
    scale = wanted if wanted is not None else 1.0 if whole else 1 / 255
    mean, std = np.asarray(means, np.float32), np.asarray(stds, np.float32)
    if whole:
        _require_range(spec, (-mean / std).min(), ((255 * scale - mean) / std).max())
    return _Recipe(size, colours, layout, scale, mean, std, how.crop or base.crop, spec.dtype)


def _require_range(spec: InputSpec, low: float, high: float) -> None:
    """Refuse preprocessing that leaves little of images in integers.

    Raises:
        UsageError: it does.
    """
    info = np.iinfo(spec.dtype)
    if low < info.min or high > info.max or high - low < 100:
        reason = f"pixels would go from {low:g} to {high:g}, and input '{spec.name}' holds {spec.dtype}"
        raise UsageError(reason, where="--scale, --mean, --std", hint="try --preset raw")


def _image(file: Path, recipe: _Recipe) -> NDArray[Any]:
    """An image as (1, colours, height, width) or (1, height, width, colours)."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        hint = "pip install 'onnxprune[images]'"
        raise InputError("decoding images needs Pillow", where=str(file), hint=hint) from None
    height, width = recipe.size
    try:
        with warnings.catch_warnings(), Image.open(file) as found:
            warnings.simplefilter("ignore")  # of large images, and of metadata that nobody asked for
            image = ImageOps.exif_transpose(found)
            if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
                image = Image.fromarray(np.rint(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
            elif image.mode == "F":
                raise ValueError("its pixels are floats; save it as .npy")
            image = image.convert(_MODES[recipe.colours])
    except Exception as error:  # decoders of damaged files raise whatever comes up
        raise InputError(f"is not an image ({error})", where=str(file)) from None
    if recipe.crop > 1:  # as torchvision: the shorter side to the larger size, then the middle
        wide, high = round(width * recipe.crop), round(height * recipe.crop)
        image = ImageOps.fit(image, (wide, high), Image.Resampling.BILINEAR)
        left, top = (wide - width) // 2, (high - height) // 2
        image = image.crop((left, top, left + width, top + height))
    else:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32).reshape(height, width, recipe.colours)
    values = (pixels * np.float32(recipe.scale) - recipe.mean) / recipe.std
    if recipe.dtype.kind in "iu":
        values = np.rint(values)
    ordered = values if recipe.layout == "NHWC" else values.transpose(2, 0, 1)
    return np.ascontiguousarray(ordered)[None].astype(recipe.dtype)
