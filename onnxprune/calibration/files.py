"""Statistics in files."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.stats import Moments, Slopes, Stats
from ..errors import InputError
from ..graph import Array, Facts, Graph, Npz, parsed, write_atomic
from ..runtime import require_room
from .sound import misfit, unsound

FORMAT = 1

_SUMS = ("sum", "magnitude", "squares", "curvature")
"""What slopes hold, apart from numbers."""


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
    felt: dict[str, dict[str, Any]] = {}
    for index, (key, slopes) in enumerate(stats.slopes.items()):
        felt[key] = {"index": index, "samples": slopes.samples, "labelled": slopes.labelled}
        for name in _SUMS:
            if (value := getattr(slopes, name)) is not None:
                arrays[f"slopes{index}.{name}"] = value
    about = {
        "format": FORMAT,
        "fingerprint": stats.fingerprint,
        "samples": stats.samples,
        "source": stats.source,
        "tensors": entries,
        "sensitivities": {
            key: [list(point) for point in found] for key, found in stats.sensitivities.items()
        },
        **({"slopes": felt} if felt else {}),
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
    hint = "'onnxprune calibrate' writes them"
    file = Npz(path)
    if "about" not in file.arrays:
        raise InputError("is not a file of statistics", where=where, hint=hint)
    about = parsed(file.read("about").tobytes(), where)
    try:
        if about["format"] != FORMAT:
            raise InputError(f"has format {about['format']}, not {FORMAT}", where=where)
        moments = {}
        for index, entry in enumerate(about["tensors"]):
            moments[_key(entry)] = _loaded(file, index, entry)
        known = {
            str(key): tuple((int(kept), float(loss)) for kept, loss in found)
            for key, found in about.get("sensitivities", {}).items()
        }
        slopes = {
            str(key): Slopes(
                entry["samples"], labelled=bool(entry["labelled"]), **_sums(file, int(entry["index"]))
            )
            for key, entry in about.get("slopes", {}).items()
        }
        names = (_text(about["fingerprint"]), about["samples"], _text(about["source"]))
        stats = Stats(*names, moments, known, slopes)
    except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError("is not a file of statistics", where=where, hint=hint) from None
    if wrong := unsound(stats):
        raise InputError(f"these are no statistics: {wrong}", where=where, hint="calibrate again")
    return stats


def _loaded(file: Npz, index: int, entry: Mapping[str, Any]) -> Moments:
    arrays: dict[str, Array] = {}
    for field in fields(Moments):
        name = f"{index}.{field.name}"
        if name in file.arrays:
            require_room(file.arrays[name].shape, file.arrays[name].dtype, f"array '{name}'")
            arrays[field.name] = file.read(name)
    return Moments(rows=entry["rows"], samples=entry["samples"], **arrays)


def _sums(file: Npz, index: int) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for field in _SUMS:
        name = f"slopes{index}.{field}"
        if name in file.arrays:
            require_room(file.arrays[name].shape, file.arrays[name].dtype, f"array '{name}'")
            found[field] = file.read(name)
    return found


def _key(entry: Mapping[str, Any]) -> tuple[str, int]:
    axis = entry["axis"]
    if not isinstance(axis, int) or axis < -1:
        raise ValueError(axis)
    return _text(entry["tensor"]), axis


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def require_same(stats: Stats, graph: Graph, where: str, facts: Facts | None = None) -> None:
    """Refuse statistics of another graph.

    Args:
        stats: the statistics.
        graph: the graph.
        where: what messages call the statistics.
        facts: the graph's shapes, to compare widths with.

    Raises:
        InputError: they are.
    """
    if stats.fingerprint != graph.digest():
        hint = "calibrate again; with the same --no-simplify, if it was given"
        raise InputError("these statistics are of another model", where=where, hint=hint)
    if facts is not None and (wrong := misfit(stats, facts)):
        raise InputError(
            f"these statistics don't fit the model: {wrong}", where=where, hint="calibrate again"
        )
