"""Statistics in files."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.stats import Moments, Stats
from ..errors import InputError
from ..graph import Array, Graph, write_atomic
from .run import identity

FORMAT = 1


def save(stats: Stats, path: str | os.PathLike[str]) -> int:
    """Write statistics as an npz file without pickles, whole or not at all; returns the bytes written.

    Raises:
        InputError: the folder can't be written to.
    """
    entries: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    for index, ((tensor, axis), moments) in enumerate(stats.moments.items()):
        entries.append({"tensor": tensor, "axis": axis, "rows": moments.rows, "samples": moments.samples})
        for field in fields(Moments):
            value = getattr(moments, field.name)
            if isinstance(value, np.ndarray):
                arrays[f"{index}.{field.name}"] = value
    about = {
        "format": FORMAT,
        "fingerprint": stats.fingerprint,
        "samples": stats.samples,
        "source": stats.source,
        "tensors": entries,
    }
    buffer = io.BytesIO()
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return write_atomic(Path(path), buffer.getvalue())


def load(path: str | os.PathLike[str]) -> Stats:
    """Read statistics that `save` wrote.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    where = os.fspath(path)
    try:
        with np.load(where, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            if about["format"] != FORMAT:
                raise InputError(f"has format {about['format']}, not {FORMAT}", where=where)
            moments = {
                (entry["tensor"], entry["axis"]): _loaded(file, index, entry)
                for index, entry in enumerate(about["tensors"])
            }
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror or error})", where=where) from None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
        hint = "'onnxprune calibrate' writes them"
        raise InputError("is not a file of statistics", where=where, hint=hint) from None
    return Stats(about["fingerprint"], about["samples"], about["source"], moments)


def _loaded(file: Mapping[str, Array], index: int, entry: Mapping[str, Any]) -> Moments:
    arrays = {f.name: file[name] for f in fields(Moments) if (name := f"{index}.{f.name}") in file}
    return Moments(rows=entry["rows"], samples=entry["samples"], **arrays)


def require_same(stats: Stats, graph: Graph, where: str) -> None:
    """Refuse statistics of another graph.

    Raises:
        InputError: they are.
    """
    if stats.fingerprint != identity(graph):
        hint = "calibrate again; with the same --no-simplify, if it was given"
        raise InputError("these statistics are of another model", where=where, hint=hint)
