"""Where a run is, in a file: one that was killed goes on from there and comes to the same bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..graph import Array, Npz, parsed, write_atomic

FORMAT = 1


@dataclass(frozen=True, eq=False)
class State:
    """Where a run is.

    Attributes:
        key: of what is done: another run has another one.
        about: numbers and texts, as JSON has them.
        arrays: kind -> tensor -> values.
    """

    key: str
    about: Mapping[str, Any]
    arrays: Mapping[str, Mapping[str, Array]]


def save(state: State, path: Path) -> None:
    """Write a state, whole or not at all.

    Raises:
        InputError: the folder can't be written to.
    """
    arrays: dict[str, Array] = {}
    names: dict[str, list[str]] = {}
    for kind, found in state.arrays.items():
        names[kind] = list(found)
        arrays |= {f"{kind}.{k}": value for k, value in enumerate(found.values())}
    about = {"format": FORMAT, "key": state.key, "about": dict(state.about), "names": names}
    arrays["state"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())


def load(path: Path, key: str) -> State | None:
    """The state in a file, if there is one.

    Args:
        path: the file.
        key: of what is done.

    Raises:
        InputError: it holds something else, or is of another run.
    """
    if not path.exists():
        return None
    where, hint = str(path), "name another file, or remove this one"
    file = Npz(path)
    if "state" not in file.arrays:
        raise InputError("is no checkpoint of a fine-tuning", where=where, hint=hint)
    said = parsed(file.read("state").tobytes(), where)
    try:
        if said["format"] != FORMAT:
            raise InputError(f"has format {said['format']}, not {FORMAT}", where=where, hint=hint)
        if said["key"] != key:
            raise InputError("is of another run: models, samples or options differ", where=where, hint=hint)
        arrays = {
            str(kind): {str(name): file.read(f"{kind}.{k}") for k, name in enumerate(names)}
            for kind, names in said["names"].items()
        }
        return State(key, dict(said["about"]), arrays)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError("is no checkpoint of a fine-tuning", where=where, hint=hint) from None
