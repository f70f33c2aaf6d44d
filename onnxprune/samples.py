"""Samples from where users have them: arrays in files, folders of images, test data, or Python objects.

Samples are read one by one when they are needed and are never all in memory, so that a folder of a million
images is as good as one of ten. Nothing is ever unpickled.
"""

from __future__ import annotations

import itertools
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, UsageError
from .graph import Array, Graph, InputSpec, input_specs, read_tensor

Feeds = dict[str, Array]
Read = Callable[[Sequence[int]], Iterator[Feeds]]
"""From ascending indices to these samples, each with a first axis of length 1 (if it has a batch axis)."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
SPOOL_LIMIT = 64 << 20
"""Bytes of a one-shot iterable that are kept in memory; what is more goes to a temporary file."""


@dataclass(frozen=True)
class Samples:
    """Samples of a model's inputs, checked against them.

    Attributes:
        specs: the inputs.
        source: where the samples came from, in words.
        indices: int64 (count,), which of the source's samples these are, ascending.
        read: reads samples of the source.
    """

    specs: tuple[InputSpec, ...]
    source: str
    indices: NDArray[np.int64]
    read: Read

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.indices)

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the model takes; `None` if it takes any."""
        sizes = [s.shape[0] for s in self.specs if s.shape and isinstance(s.shape[0], int)]
        return max(sizes) if sizes else None

    def __iter__(self) -> Iterator[Feeds]:
        """One sample at a time, as often as wanted."""
        return self.read(self.indices.tolist())

    def batches(self, size: int = 32) -> Iterator[Feeds]:
        """Samples of equal shapes together, at most `size` of them, or as many as the model is fixed to.

        What is left over of a model with a fixed batch above 1 is left out.

        Raises:
            InputError: a sample doesn't fit the model, or can't be read.
        """
        fixed = self.fixed_batch
        size = fixed or size
        pending: list[Feeds] = []
        for feeds in self:
            checked = _checked(feeds, self.specs, self.source)
            if pending and (len(pending) == size or _shapes(checked) != _shapes(pending[0])):
                if fixed in (None, len(pending)):
                    yield self._joined(pending)
                pending = []
            pending.append(checked)
        if pending and fixed in (None, len(pending)):
            yield self._joined(pending)

    def _joined(self, feeds: Sequence[Feeds]) -> Feeds:
        if len(feeds) == 1:
            return feeds[0]
        batched = {s.name: bool(s.shape) for s in self.specs}
        return {
            n: np.concatenate([f[n] for f in feeds]) if many else feeds[0][n] for n, many in batched.items()
        }

    def first(self, count: int) -> Samples:
        """At most so many, from the start."""
        return replace(self, indices=self.indices[:count])

    def split(self, fraction: float, seed: int = 0) -> tuple[Samples, Samples]:
        """Two disjoint parts, drawn at random: about `fraction` of the samples, and the rest; none is empty.

        Raises:
            InputError: there is only one sample.
        """
        if self.count < 2:
            raise InputError("one sample can't be split into two parts", where=self.source)
        size = min(max(round(fraction * self.count), 1), self.count - 1)
        mixed = np.random.default_rng(seed).permutation(self.indices)
        return replace(self, indices=np.sort(mixed[:size])), replace(self, indices=np.sort(mixed[size:]))


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input: resized, scaled, then (x - mean) / std for each colour.

    Attributes:
        size: (height, width); `None`: as the model says.
        scale: what pixels (0 to 255) are multiplied by.
        mean: for each colour, after scaling.
        std: for each colour, after scaling.
        layout: where the colours go; `None`: as the model's shape suggests.
        crop: resize to so many times the size and cut out the middle.
    """

    size: tuple[int, int] | None = None
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["NCHW", "NHWC"] | None = None
    crop: float = 1.0


PRESETS: Mapping[str, Preprocessing] = MappingProxyType(
    {
        "unit": Preprocessing(),
        "imagenet": Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=256 / 224),
        "symmetric": Preprocessing(mean=(0.5,), std=(0.5,)),
        "raw": Preprocessing(scale=1.0),
    }
)
"""`unit`: 0 to 1. `imagenet`: as torchvision does. `symmetric`: -1 to 1. `raw`: 0 to 255."""


class DataReader(Protocol):
    """What ONNX Runtime calls a CalibrationDataReader."""

    def get_next(self) -> Mapping[str, Array] | None:
        """The next sample, `None` after the last."""


def load(
    source: str | os.PathLike[str] | DataReader | Iterable[Mapping[str, Array]],
    graph: Graph,
    *,
    preprocessing: Preprocessing | None = None,
) -> Samples:
    """Samples from anything that can hold them.

    Args:
        source: an `.npz` or `.npy` file; a folder of those, of images, of ONNX test data
            (`test_data_set_*/input_*.pb`); a reader with `get_next`; or dicts of arrays by input name, each
            of one or more samples.
        graph: the model.
        preprocessing: for images.

    Raises:
        InputError: the source can't be read, or doesn't fit the model's inputs; the message names the input.
    """
    specs = input_specs(graph)
    if not isinstance(source, str | os.PathLike):
        return _from_python(source, specs)
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, specs, preprocessing or Preprocessing())
    if not path.is_file():
        raise InputError("no such file or folder", where=str(path))
    if path.suffix == ".npy":
        return _from_arrays(_npy(path, specs), specs, str(path))
    if path.suffix == ".npz":
        return _from_arrays(_npz(path, specs), specs, str(path))
    if path.suffix == ".pb":
        return _from_records([[path]], specs, str(path))
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _from_images([path], specs, preprocessing or Preprocessing(), str(path))
    hint = "give an .npz, a folder of .npy, .npz, .pb or image files"
    raise InputError("is not a file of samples", where=str(path), hint=hint)


def random(graph: Graph, count: int, seed: int = 0) -> Samples:
    """Random samples: good to try things out, worth nothing for calibration.

    Floats are standard normal; integers 0 or 1, but uint8 covers its range.
    """
    specs = input_specs(graph)

    def read(indices: Sequence[int]) -> Iterator[Feeds]:
        for index in indices:
            rng = np.random.default_rng([seed, index])
            yield {s.name: _drawn(s, rng) for s in specs}

    return Samples(specs, "random", np.arange(count), read)


def _drawn(spec: InputSpec, rng: np.random.Generator) -> Array:
    shape = [d if isinstance(d, int) else 1 if a == 0 else 16 for a, d in enumerate(spec.shape)]
    if spec.dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if spec.dtype.kind in "iu":
        return rng.integers(0, 256 if spec.dtype == np.uint8 else 2, shape).astype(spec.dtype)
    return np.asarray(rng.standard_normal(shape)).astype(spec.dtype)


# ---------------------------------------------------------------- checks


def _checked(feeds: Mapping[str, Array], specs: Sequence[InputSpec], source: str) -> Feeds:
    """One sample in the model's dtypes.

    Raises:
        InputError: a name, dtype or shape doesn't fit.
    """
    names = [s.name for s in specs]
    for name in feeds:
        if name not in names:
            raise InputError(
                f"the model has no input '{name}'", where=source, hint=f"it has: {', '.join(names)}"
            )
    result = {}
    for spec in specs:
        if spec.name not in feeds:
            raise InputError(f"there is no array for input '{spec.name}'", where=source)
        array = np.asarray(feeds[spec.name])
        if not _fits_dtype(array.dtype, spec.dtype):
            reason = f"input '{spec.name}' needs {spec.dtype}, the array has {array.dtype}"
            raise InputError(reason, where=source)
        if not _fits_shape(array.shape, spec.shape):
            wanted = ", ".join("?" if d is None else str(d) for d in spec.shape)
            reason = f"input '{spec.name}' needs shape ({wanted}), the samples have {_spelled(array.shape)}"
            raise InputError(reason, where=source)
        result[spec.name] = array.astype(spec.dtype, copy=False)
    return result


def _fits_dtype(have: np.dtype[Any], need: np.dtype[Any]) -> bool:
    """Whether nothing but precision is lost: float to float, integer to integer; strings to nothing."""
    kinds = {"f": "f", "V": "f", "i": "i", "u": "i", "b": "b"}  # bfloat16 and float8 have kind V
    return have == need or (have.kind in kinds and kinds.get(have.kind) == kinds.get(need.kind, "none"))


def _fits_shape(have: tuple[int, ...], need: Sequence[int | str | None]) -> bool:
    """Whether a sample fits; its first axis is of samples, any number of which may be put together."""
    if len(have) != len(need):
        return False
    return all(not isinstance(n, int) or h == n for h, n in zip(have[1:], need[1:], strict=True))


def _spelled(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _shapes(feeds: Feeds) -> list[tuple[int, ...]]:
    return [a.shape[1:] for a in feeds.values()]


def _only(specs: Sequence[InputSpec], where: str) -> str:
    """The name of the only input.

    Raises:
        InputError: there are several, so an array without a name could be for any.
    """
    if len(specs) != 1:
        names = ", ".join(s.name for s in specs)
        reason = "the array has no input's name, and the model has several inputs"
        raise InputError(reason, where=where, hint=f"name arrays: {names}")
    return specs[0].name


# ---------------------------------------------------------------- arrays


class Rows(Protocol):
    """An array on disk that can be read sample by sample."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""

    def read(self, indices: Sequence[int]) -> Iterator[Array]:
        """These rows, ascending, each with a first axis of length 1."""


@dataclass(frozen=True)
class _Mapped:
    """Rows of an array in memory, or mapped into it."""

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def read(self, indices: Sequence[int]) -> Iterator[Array]:
        for index in indices:
            yield np.array(self.array[index : index + 1])


@dataclass(frozen=True)
class _Zipped:
    """Rows of an array in an npz file, which is read through from the start: it may be compressed."""

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, indices: Sequence[int]) -> Iterator[Array]:
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
            _header(file)
            at = 0
            for index in indices:
                _skip(file, (index - at) * row)
                data = file.read(row)
                at = index + 1
                yield np.frombuffer(data, self.dtype).reshape(1, *self.shape[1:])


def _skip(file: IO[bytes], count: int) -> None:
    while count > 0:
        count -= len(file.read(min(count, 1 << 20)))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _npz(path: Path, specs: Sequence[InputSpec]) -> dict[str, Rows]:
    """The arrays of an npz file by input name; a single unnamed one is for the single input."""
    found: dict[str, Rows] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.namelist() if m.endswith(".npy")]
            for member in members:
                with archive.open(member) as file:
                    shape, fortran, dtype = _header(file)
                if dtype.hasobject:
                    reason = f"array '{member[:-4]}' holds Python objects, which are never loaded"
                    raise InputError(reason, where=str(path))
                if fortran or not shape:
                    with archive.open(member) as file:
                        found[member[:-4]] = _Mapped(np.lib.format.read_array(file, allow_pickle=False))
                else:
                    found[member[:-4]] = _Zipped(path, member, shape, dtype)
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise InputError(f"is not an npz file ({error})", where=str(path)) from None
    names = {s.name for s in specs}
    if set(found) == {"arr_0"} and "arr_0" not in names:
        return {_only(specs, str(path)): found["arr_0"]}
    if "labels" not in names:  # a labelled set may serve as samples
        found.pop("labels", None)
    return found


def _npy(path: Path, specs: Sequence[InputSpec]) -> dict[str, Rows]:
    return {_only(specs, str(path)): _Mapped(_opened(path))}


def _opened(path: Path) -> Array:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"is not an npy file without Python objects ({error})", where=str(path)) from None


def _from_arrays(arrays: Mapping[str, Rows], specs: tuple[InputSpec, ...], source: str) -> Samples:
    """Samples along the first axes of arrays, equally long; inputs without axes are for all samples."""
    if not arrays:
        raise InputError("holds no arrays", where=source)
    ranks = {s.name: len(s.shape) for s in specs}
    lengths = {name: rows.shape[0] for name, rows in arrays.items() if rows.shape and ranks.get(name) != 0}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
        raise InputError(f"its arrays have different numbers of samples: {said}", where=source)
    count = max(lengths.values(), default=1)

    def read(indices: Sequence[int]) -> Iterator[Feeds]:
        alone = {n: r.array for n, r in arrays.items() if n not in lengths and isinstance(r, _Mapped)}
        readers = [arrays[name].read(indices) for name in lengths]
        if not readers:
            yield from (dict(alone) for _ in indices)
        for values in zip(*readers, strict=True):
            yield {**alone, **dict(zip(lengths, values, strict=True))}

    return _ready(Samples(specs, source, np.arange(count), read))


def _ready(samples: Samples) -> Samples:
    """Samples whose first one fits: a wrong file shall be refused before anything slow begins."""
    for feeds in samples.first(1):
        _checked(feeds, samples.specs, samples.source)
    if samples.count == 0:
        raise InputError("holds no samples", where=samples.source)
    return samples


# ---------------------------------------------------------------- folders


def _from_folder(folder: Path, specs: tuple[InputSpec, ...], preprocessing: Preprocessing) -> Samples:
    files = sorted(p for p in folder.iterdir() if p.is_file())
    arrays = [p for p in files if p.suffix in (".npy", ".npz")]
    images = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
    sets = sorted(p for p in folder.glob("test_data_set_*") if p.is_dir())
    inputs = [sorted(s.glob("input_*.pb"), key=_number) for s in sets or [folder]]
    if arrays:
        return _from_records([[p] for p in arrays], specs, str(folder))
    if any(inputs):
        return _from_records([i for i in inputs if i], specs, str(folder))
    if not images:
        images = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if images:
        return _from_images(images, specs, preprocessing, str(folder))
    hint = "it should hold .npy, .npz or image files, or test_data_set_*/input_*.pb"
    raise InputError("there are no samples in the folder", where=str(folder), hint=hint)


def _number(path: Path) -> int:
    """The number in `input_7.pb`."""
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1


def _from_records(records: Sequence[Sequence[Path]], specs: tuple[InputSpec, ...], source: str) -> Samples:
    """Samples from many files (or sets of files), each with one or more of them."""
    counts = [_count(_record(record, specs), specs) for record in records]
    ends = np.cumsum(counts)

    def read(indices: Sequence[int]) -> Iterator[Feeds]:
        which = np.searchsorted(ends, np.asarray(indices), side="right")
        for k, group in itertools.groupby(
            zip(which.tolist(), indices, strict=True), key=lambda pair: pair[0]
        ):
            feeds = _record(records[k], specs)
            for _, index in group:
                yield _sample(feeds, specs, index - int(ends[k]) + counts[k])

    return _ready(Samples(specs, source, np.arange(sum(counts)), read))


def _record(files: Sequence[Path], specs: Sequence[InputSpec]) -> Feeds:
    first = files[0]
    if first.suffix == ".pb":
        named = [read_tensor(path) for path in files]
        names = {s.name for s in specs}
        by_order = [spec.name for spec in specs]
        return {n if n in names else by_order[min(k, len(by_order) - 1)]: a for k, (n, a) in enumerate(named)}
    rows = _npz(first, specs) if first.suffix == ".npz" else _npy(first, specs)
    feeds = {}
    for name, found in rows.items():
        whole = (
            found.array
            if isinstance(found, _Mapped)
            else np.concatenate([*found.read(range(found.shape[0]))])
        )
        rank = next((len(s.shape) for s in specs if s.name == name), whole.ndim)
        feeds[name] = whole[None] if whole.ndim == rank - 1 else whole  # one sample needs no batch axis
    return feeds


def _count(feeds: Feeds, specs: Sequence[InputSpec]) -> int:
    batched = {s.name for s in specs if s.shape}
    lengths = {len(a) for n, a in feeds.items() if n in batched and a.ndim}
    return lengths.pop() if len(lengths) == 1 else 1  # unequal ones are no batch: they go in as they are


def _sample(feeds: Feeds, specs: Sequence[InputSpec], index: int) -> Feeds:
    if _count(feeds, specs) == 1:
        return feeds
    batched = {s.name for s in specs if s.shape}
    return {n: np.asarray(a[index : index + 1]) if n in batched else a for n, a in feeds.items()}


# ---------------------------------------------------------------- images


def _from_images(
    files: Sequence[Path], specs: tuple[InputSpec, ...], preprocessing: Preprocessing, source: str
) -> Samples:
    spec = next((s for s in specs if s.name == _only(specs, source)), specs[0])
    last = spec.shape[-1] if spec.shape else None
    layout = preprocessing.layout or ("NHWC" if last in (1, 3) else "NCHW")
    if len(spec.shape) != 4:
        raise InputError(f"input '{spec.name}' is no batch of images", where=source)
    channels, height, width = (spec.shape[a] for a in ((1, 2, 3) if layout == "NCHW" else (3, 1, 2)))
    size = preprocessing.size
    if size is None:
        if not isinstance(height, int) or not isinstance(width, int):
            raise UsageError("the model takes images of any size", where=source, hint="give --image-size")
        size = (height, width)
    colours = channels if isinstance(channels, int) else 3
    if colours not in (1, 3):
        raise InputError(f"input '{spec.name}' has {colours} channels, images have 1 or 3", where=source)

    def read(indices: Sequence[int]) -> Iterator[Feeds]:
        for index in indices:
            yield {spec.name: _image(files[index], preprocessing, size, colours, layout, spec.dtype)}

    return _ready(Samples(specs, source, np.arange(len(files)), read))


def _image(
    file: Path, how: Preprocessing, size: tuple[int, int], colours: int, layout: str, dtype: np.dtype[Any]
) -> Array:
    """An image as (1, colours, height, width) or (1, height, width, colours)."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        hint = "pip install 'onnxprune[images]'"
        raise InputError("decoding images needs Pillow", where=str(file), hint=hint) from None
    height, width = size
    wide, high = round(width * how.crop), round(height * how.crop)
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened).convert("L" if colours == 1 else "RGB")
    except (OSError, ValueError) as error:
        raise InputError(f"is not an image ({error})", where=str(file)) from None
    if how.crop > 1:  # as torchvision: the shorter side to the larger size, then the middle
        image = ImageOps.fit(image, (wide, high), Image.Resampling.BILINEAR)
        left, top = (wide - width) // 2, (high - height) // 2
        image = image.crop((left, top, left + width, top + height))
    else:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32).reshape(height, width, colours)
    values = (pixels * how.scale - np.asarray(how.mean, np.float32)) / np.asarray(how.std, np.float32)
    if np.dtype(dtype).kind in "iu":
        values = np.rint(values)
    return np.ascontiguousarray(values if layout == "NHWC" else values.transpose(2, 0, 1))[None].astype(dtype)


# ---------------------------------------------------------------- Python


def _from_python(source: DataReader | Iterable[Mapping[str, Array]], specs: tuple[InputSpec, ...]) -> Samples:
    """Samples from an iterable, which may be a generator: it is gone through once and kept."""
    items = iter(source.get_next, None) if hasattr(source, "get_next") else source
    spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_LIMIT)  # noqa: SIM115  (lives as long as the samples)
    places: list[list[tuple[int, tuple[int, ...]]]] = []
    where = type(source).__name__
    for item in items:
        if not isinstance(item, Mapping):
            raise InputError(f"gives {type(item).__name__}, not dicts of arrays by input name", where=where)
        checked = _checked({name: np.asarray(array) for name, array in item.items()}, specs, where)
        for index in range(_count(checked, specs)):
            sample = _sample(checked, specs, index)
            places.append([])
            for spec in specs:
                places[-1].append((spool.tell(), sample[spec.name].shape))
                spool.write(sample[spec.name].tobytes())

    def read(indices: Sequence[int]) -> Iterator[Feeds]:
        for index in indices:
            feeds = {}
            for spec, (start, shape) in zip(specs, places[index], strict=True):
                spool.seek(start)
                data = spool.read(math.prod(shape) * spec.dtype.itemsize)
                feeds[spec.name] = np.frombuffer(data, spec.dtype).reshape(shape)
            yield feeds

    return _ready(Samples(specs, where, np.arange(len(places)), read))
