"""Options that say where samples are and how images become inputs; for every command that takes `--calib`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from ..errors import UsageError
from ..pipeline import Calibration
from ..samples import PRESETS, Preprocessing

Calib: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Samples: .npz, a folder of .npy, .npz, .pb or image files; 'random' to try things out.",
    ),
]
Labels: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="An .npz of inputs and 'labels', to measure accuracy on."),
]
Count: TypeAlias = Annotated[
    int | None,
    typer.Option("--samples", min=1, help="Use at most so many samples, drawn at random; 'random' makes 64."),
]
BatchSize: TypeAlias = Annotated[
    int, typer.Option("--batch", min=1, help="Samples that run together, if the model allows it.")
]
Preset: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"Preprocessing of images: {', '.join(PRESETS)}.")
]
ImageSize: TypeAlias = Annotated[
    str | None, typer.Option(metavar="N or HxW", help="Size of images; by default as the model says.")
]
Mean: TypeAlias = Annotated[
    str | None, typer.Option(metavar="M[,M,M]", help="Taken from each colour after scaling.")
]
Std: TypeAlias = Annotated[
    str | None, typer.Option(metavar="S[,S,S]", help="What each colour is divided by after that.")
]
Layout: TypeAlias = Annotated[
    Literal["NCHW", "NHWC"] | None,
    typer.Option(help="Axis order of images; by default as the model suggests."),
]
Scale: TypeAlias = Annotated[
    float | None,
    typer.Option(help="What pixels (0 to 255) are multiplied by; 1/255, but 1 for inputs of integers."),
]


def calibration(
    calib: Calib = None,
    count: Count = None,
    preset: Preset = None,
    image_size: ImageSize = None,
    mean: Mean = None,
    std: Std = None,
    layout: Layout = None,
    scale: Scale = None,
) -> Calibration | None:
    """What these options say of samples; `None` without `--calib`.

    Raises:
        UsageError: an option can't be read.
    """
    how = preprocessing(preset, image_size, mean, std, layout, scale)
    return None if calib is None else Calibration(calib, count, how)


def sampled(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of `calibration` in place of its parameter `calib`."""
    own, shared = (inspect.signature(f, eval_str=True).parameters for f in (command, calibration))
    options = [o for name, one in own.items() for o in (shared.values() if name == "calib" else [one])]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        calib = calibration(**{name: given.pop(name) for name in shared})
        command(**given, calib=calib)

    named = [o.replace(kind=inspect.Parameter.KEYWORD_ONLY) for o in options]
    vars(with_options)["__signature__"] = inspect.Signature(named)
    with_options.__annotations__ = {o.name: o.annotation for o in options}
    return with_options


def preprocessing(
    preset: str | None = None,
    image_size: str | None = None,
    mean: str | None = None,
    std: str | None = None,
    layout: Literal["NCHW", "NHWC"] | None = None,
    scale: float | None = None,
) -> Preprocessing:
    """A preset (by default `unit`: 0 to 1) with what the other options change of it.

    Raises:
        UsageError: an option can't be read.
    """
    if preset is not None and preset not in PRESETS:
        hint = f"there are: {', '.join(PRESETS)}"
        raise UsageError("there is no such preset", where=f"--preset {preset}", hint=hint)
    base = PRESETS[preset or "unit"]
    return Preprocessing(
        size=base.size if image_size is None else _size(image_size),
        scale=base.scale if scale is None else scale,
        mean=base.mean if mean is None else _numbers("--mean", mean),
        std=base.std if std is None else _numbers("--std", std),
        layout=layout or base.layout,
        crop=base.crop,
    )


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
