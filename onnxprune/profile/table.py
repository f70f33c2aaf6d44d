"""Times that were measured once, by layer and machine: in the user's cache, or in a file of their own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..graph import parsed, text, write_atomic
from ..runtime import ExecutionOptions, version

VERSION = 1
"""Of the file."""


@dataclass(frozen=True)
class MachineSetting:
    """What times depend on beside the layer."""

    provider: str
    threads: int
    optimize: bool
    runtime: str
    cpu: str

    @classmethod
    def here(cls, options: ExecutionOptions) -> MachineSetting:
        """This machine."""
        return cls(options.provider, options.threads, options.optimize, version(), cpu_name())


@dataclass(frozen=True)
class Table:
    """Measured times.

    Attributes:
        setting: where they were measured.
        seconds: by `Layer.key`.
    """

    setting: MachineSetting
    seconds: Mapping[str, float] = field(default_factory=dict)

    def with_times(self, seconds: Mapping[str, float]) -> Table:
        """A table that has these, too."""
        return Table(self.setting, {**self.seconds, **seconds})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            InputError: the folder can't be written to.
        """
        data = {
            "version": VERSION,
            "setting": asdict(self.setting),
            "seconds": dict(sorted(self.seconds.items())),
        }
        write_atomic(Path(path), (json.dumps(data, indent=1) + "\n").encode())


def load(path: str | os.PathLike[str]) -> Table:
    """Read a table that `Table.save` wrote.

    Raises:
        InputError: there is none, or it isn't one.
    """
    where = os.fspath(path)
    data: Any = parsed(text(path), where)
    try:
        if data["version"] != VERSION:
            raise InputError(f"is a latency table of version {data['version']}, not {VERSION}", where=where)
        seconds = {str(key): float(value) for key, value in data["seconds"].items()}
        if not all(0 <= value < math.inf for value in seconds.values()):
            raise ValueError("a time that is none")
        return Table(MachineSetting(**data["setting"]), seconds)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise InputError("is not a latency table", where=where, hint="make one with --profile-out") from None


def cached(setting: MachineSetting) -> Table:
    """What the cache knows of this machine; an unreadable cache is an empty one."""
    with contextlib.suppress(InputError):
        found = load(_file(setting))
        if found.setting == setting:
            return found
    return Table(setting)


def remember(table: Table) -> None:
    """Add to the cache; without a place to write to, nothing is remembered."""
    file = _file(table.setting)
    with contextlib.suppress(InputError, OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        cached(table.setting).with_times(table.seconds).save(file)


def cache_folder() -> Path:
    """`$ONNXPRUNE_CACHE`, else `onnxprune` in the user's cache folder."""
    if own := os.environ.get("ONNXPRUNE_CACHE"):
        return Path(own)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "onnxprune"
    if local := os.environ.get("LOCALAPPDATA"):
        return Path(local) / "onnxprune" / "cache"
    return Path.home() / ".cache" / "onnxprune"


def _file(setting: MachineSetting) -> Path:
    digest = hashlib.sha256(json.dumps(asdict(setting), sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / "latency" / f"{digest}.json"


def cpu_name() -> str:
    """The processor's name and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
