"""Samples of a model's inputs: from arrays in files, folders of images, ONNX test data, or Python objects.

In: a path or an object, and the graph that the samples are for. Out: `Samples`, read one by one when they
are needed, so that a folder of a million images takes no more memory than one of ten. Nothing is ever
unpickled.

- `core`: `Samples` (batches, splits, subsets) and the check that they fit the model;
- `arrays`: `.npz`, `.npy`, test data; `images`: presets and preprocessing; `objects`: readers, iterables,
  arrays.

A new source is a function here that gives `Samples`, a case in `load`, and a row in
`tests/test_samples.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..contracts.sampling import Preprocessing
from ..errors import InputError
from ..graph import Array, Graph, InputSpec, input_specs, mapped, reason_of, require_file
from ..runtime import random_strings, require_room
from .arrays import Held, from_arrays, from_npy, from_npz, from_records
from .core import Feeds, Samples
from .images import SUFFIXES, from_images
from .objects import DataReader, Objects, from_objects

__all__ = ["DataReader", "Feeds", "Objects", "Preprocessing", "Samples", "files", "load", "random"]


def load(
    source: str | os.PathLike[str] | Objects, graph: Graph, *, preprocessing: Preprocessing | None = None
) -> Samples:
    """Samples from anything that can hold them.

    Args:
        source: an `.npz` or `.npy` file; a folder of those (one `.npy` for each input, named as it, or files
            of samples), of images, of ONNX test data (`test_data_set_*/input_*.pb`); an array for the only
            input, or arrays by input name; a reader with `get_next`; or dicts of arrays by input name, each
            of one or more samples.
        graph: the model.
        preprocessing: for images.

    Raises:
        InputError: the source can't be read, or doesn't fit the model's inputs; the message names the input.
        UsageError: the preprocessing doesn't fit the model.

    Example:
        >>> from onnxprune.graph import load as load_graph
        >>> found = load("models/digits-calib.npz", load_graph("models/digits-plain.onnx"))
        >>> found.count
        512
        >>> next(iter(found.batches(32)))["image"].shape
        (32, 1, 28, 28)
    """
    specs = input_specs(graph)
    if not isinstance(source, str | os.PathLike):
        return from_objects(source, specs)
    path, how = Path(source), preprocessing or Preprocessing()
    if path.is_dir():
        return _from_folder(path, specs, how)
    if not os.path.lexists(path):
        raise InputError("no such file or folder", where=str(path))
    require_file(path)
    if path.suffix == ".npy":
        return from_npy(path, specs)
    if path.suffix == ".npz":
        return from_npz(path, specs)
    if path.suffix == ".pb":
        return from_records([[path]], specs, str(path))
    if path.suffix.lower() in SUFFIXES:
        return from_images([path], specs, how, str(path))
    hint = "give an .npz, a folder of .npy, .npz, .pb or image files"
    raise InputError("is not a file of samples", where=str(path), hint=hint)


def files(source: str | os.PathLike[str]) -> Iterator[Path]:
    """The files that samples may be read from: the source itself, or all that a folder holds of them."""
    path = Path(source)
    yield path
    if path.is_dir():
        known = {".npy", ".npz", ".pb", *SUFFIXES}
        yield from (p for p in path.rglob("*") if p.suffix.lower() in known)


def _from_folder(folder: Path, specs: tuple[InputSpec, ...], how: Preprocessing) -> Samples:
    try:
        files = sorted(p for p in folder.iterdir() if p.is_file())
    except OSError as error:
        raise InputError(f"can't be read ({reason_of(error)})", where=str(folder)) from None
    arrays = [p for p in files if p.suffix in (".npy", ".npz")]
    images = [p for p in files if p.suffix.lower() in SUFFIXES]
    sets = sorted((p for p in folder.glob("test_data_set_*") if p.is_dir()), key=_number)
    inputs = [sorted(s.glob("input_*.pb"), key=_number) for s in sets or [folder]]
    if arrays:
        if len(specs) > 1 and {p.name for p in arrays} == {f"{s.name}.npy" for s in specs}:
            return from_arrays({p.stem: Held(mapped(p)) for p in arrays}, specs, str(folder))
        return from_records([[p] for p in arrays], specs, str(folder))
    if any(inputs):
        return from_records([i for i in inputs if i], specs, str(folder))
    if not images:
        images = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if images:
        return from_images(images, specs, how, str(folder))
    hint = "it should hold .npy, .npz or image files, or test_data_set_*/input_*.pb"
    raise InputError("there are no samples in the folder", where=str(folder), hint=hint)


def _number(path: Path) -> int:
    """The number in `input_7.pb` or `test_data_set_7`."""
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1


def random(graph: Graph, count: int, seed: int = 0) -> Samples:
    """Random samples: good to try things out, worth nothing for calibration.

    Floats are standard normal; integers 0 or 1, but uint8 covers its range. Axes without a fixed size get 64
    if they look like those of an image, else 16.
    """
    specs = input_specs(graph)

    def read(indices: Sequence[int]) -> Iterator[Feeds]:
        for index in indices:
            rng = np.random.default_rng([seed, index])
            yield {s.name: _drawn(s, rng) for s in specs}

    return Samples(specs, "random", np.arange(count), read)


def _drawn(spec: InputSpec, rng: np.random.Generator) -> Array:
    open_size = 64 if len(spec.shape) >= 4 else 16
    shape = [
        d if isinstance(d, int) else 1 if a == 0 else open_size if a > 1 or len(spec.shape) < 4 else 3
        for a, d in enumerate(spec.shape)
    ]
    require_room(
        shape, max(spec.dtype, np.dtype(np.float64), key=lambda d: d.itemsize), f"input '{spec.name}'"
    )
    if spec.dtype == object:
        return random_strings(shape, rng)
    if spec.dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if spec.dtype.kind in "iu":
        return rng.integers(0, 256 if spec.dtype == np.uint8 else 2, shape).astype(spec.dtype)
    return np.asarray(rng.standard_normal(shape)).astype(spec.dtype)
