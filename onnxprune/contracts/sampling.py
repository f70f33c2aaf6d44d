"""Which samples calibrate a run, and how images become inputs."""

# Annotations are evaluated here: they hold what `contracts.options` reads.

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

from ..errors import UsageError
from .choices import Layout, Preset
from .options import Option

Source = str | os.PathLike[str] | Iterable[Mapping[str, Any]] | Any
"""A path, `random`, `Samples`, a reader with `get_next()`, or arrays by input name: see `samples.load`."""


def _size(text: str) -> tuple[int, int]:
    high, _, wide = text.lower().partition("x")
    try:
        size = int(high), int(wide or high)
    except ValueError:
        size = 0, 0
    if min(size) < 1:
        raise UsageError(f"'{text}' is no image size", where="--image-size", hint="such as 224 or 192x256")
    return size


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3) or (option == "--std" and 0 in numbers):
        raise UsageError(f"'{text}' is not 1 or 3 numbers", where=option, hint="such as 0.485,0.456,0.406")
    return numbers


_FOR_SAMPLES = ("calib",)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input: resized, scaled, then (x - mean) / std for each colour.

    Attributes:
        preset: Preprocessing of images; what else is given changes it.
        size: Size of images, (height, width); by default as the model says.
        scale: What pixels (0 to 255) are multiplied by; 1/255, but 1 for inputs of integers.
        mean: Taken from each colour after scaling.
        std: What each colour is divided by after that.
        layout: Axis order of images; by default as the model suggests.
        crop: Resize to so many times the size and cut out the middle; 1: the whole image, whatever its shape.
    """

    TITLE: ClassVar[str] = "Samples"

    preset: Annotated[Preset, Option(requires=_FOR_SAMPLES)] = "unit"
    size: Annotated[
        tuple[int, int] | None,
        Option(flag="--image-size", cli=str, read=_size, metavar="N or HxW", requires=_FOR_SAMPLES),
    ] = None
    scale: Annotated[float | None, Option(requires=_FOR_SAMPLES)] = None
    mean: Annotated[
        tuple[float, ...] | None,
        Option(cli=str, read=partial(_numbers, "--mean"), metavar="M[,M,M]", requires=_FOR_SAMPLES),
    ] = None
    std: Annotated[
        tuple[float, ...] | None,
        Option(cli=str, read=partial(_numbers, "--std"), metavar="S[,S,S]", requires=_FOR_SAMPLES),
    ] = None
    layout: Annotated[Layout | None, Option(requires=_FOR_SAMPLES)] = None
    crop: Annotated[float | None, Option(hidden=True)] = None


@dataclass(frozen=True, eq=False)
class Calibration:
    """Which samples, and how they are read.

    Attributes:
        source: Samples: .npz, a folder of .npy, .npz, .pb or image files; 'random' to try things out.
        count: Use at most so many samples, drawn at random; 'random' makes 64.
        preprocessing: Of images.
    """

    TITLE: ClassVar[str] = "Samples"

    source: Annotated[Source, Option(flag="--calib", cli=str, metavar="PATH")]
    count: Annotated[int | None, Option(flag="--samples", low=1, requires=("calib",))] = None
    preprocessing: Preprocessing | None = None
