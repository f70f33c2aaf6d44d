"""Baselines: what a model measured before, from a committed file, another model or a git revision."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError
from ..graph import alone, contents, parsed, write_atomic
from .git import Revision
from .measure import Measurement, Subject, measure, open_model
from .metrics import METRICS, SETS
from .selection import Model, absolute, shown

VERSION = 1

_LARGEST = 2.0**63


@dataclass(frozen=True)
class Before:
    """A model's baseline.

    Attributes:
        measurement: what it measured.
        source: where that is from, for people.
        subject: the model itself, if it is at hand to be run.
        note: what people should know about it.
        key: under which a baseline file has it.
    """

    measurement: Measurement
    source: str
    subject: Subject | None = None
    note: str | None = None
    key: str | None = None


class Baseline(Protocol):
    """Where baselines come from."""

    @property
    def source(self) -> str:
        """For people."""

    def find(self, model: Model, now: Measurement) -> Before | None:
        """The baseline of a model, if it has one.

        Raises:
            InputError: it has one that can't be read.
        """

    def gone(self, keys: Collection[str]) -> tuple[str, ...]:
        """Models that have a baseline and aren't among those checked."""

    def deleted(self, meant: Callable[[Path], bool]) -> tuple[str, ...]:
        """Messages on models that were there and aren't any more.

        Args:
            meant: whether the configuration would mean a file.
        """


# ---------------------------------------------------------------- a committed file


@dataclass(frozen=True)
class Recorded:
    """A file of measurements.

    Attributes:
        source: its path.
        models: key -> what it measured.
        exists: whether there is such a file.
        free: keys of recorded models whose files are gone: they may have been renamed.
    """

    source: str
    models: Mapping[str, Measurement]
    exists: bool = True
    free: frozenset[str] = frozenset()

    def find(self, model: Model, now: Measurement) -> Before | None:
        """The record under the model's key, or that of a model that is gone and had the same graph."""
        found = self.models.get(model.key)
        if found is not None:
            return Before(found, self.source, key=model.key)
        same = [k for k in sorted(self.free) if self.models[k].structure == now.structure]
        if len(same) != 1:
            return None
        note = f"taken for '{same[0]}' under a new name"
        return Before(self.models[same[0]], self.source, note=note, key=same[0])

    def gone(self, keys: Collection[str]) -> tuple[str, ...]:
        """Recorded models that aren't among those checked."""
        return tuple(sorted(self.models.keys() - set(keys)))

    def deleted(self, meant: Callable[[Path], bool]) -> tuple[str, ...]:  # noqa: ARG002
        """Nothing: what has a record is gone, not deleted."""
        return ()


def recorded(file: Path, keys: Collection[str]) -> Recorded:
    """Read a file of measurements; a missing one has no models.

    Args:
        file: the file.
        keys: of all models that are there now.

    Raises:
        InputError: it isn't a baseline.
    """
    if not file.exists():
        return Recorded(str(file), {}, exists=False)
    models = loads(contents(file), str(file))
    return Recorded(str(file), models, free=frozenset(models.keys() - set(keys)))


def loads(data: bytes, where: str) -> dict[str, Measurement]:
    """Read measurements from JSON.

    Raises:
        InputError: it is not JSON, or not a baseline of this version.
    """
    hint = "solve the conflict, or delete it and write it anew with 'onnxprune check --update'"
    content = parsed(data, where, hint)
    try:
        if content["version"] != VERSION:
            raise InputError(
                f"is a baseline of version {content['version']}, not {VERSION}", where=where, hint=hint
            )
        return {str(key): _measurement(entry) for key, entry in content["models"].items()}
    except KeyError as error:
        raise InputError(f"is not a baseline (it has no {error})", where=where, hint=hint) from None
    except (AttributeError, TypeError, ValueError) as error:
        reason = error if isinstance(error, ValueError) else "it has another structure"
        raise InputError(f"is not a baseline ({reason})", where=where, hint=hint) from None


def _measurement(entry: Mapping[str, Any]) -> Measurement:
    numbers = {key: entry[key] for key in METRICS if key in entry}
    sets = {key: entry[key] for key in SETS if key in entry}
    for key, value in numbers.items():
        # A value that compares with nothing, such as NaN, would pass any limit.
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
            raise ValueError(f"'{key}' is {value!r}")
    for key, names in sets.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"'{key}' is {names!r}")
    return Measurement(numbers, {k: tuple(v) for k, v in sets.items()}, str(entry.get("structure", "")))


def dumps(models: Mapping[str, Measurement]) -> bytes:
    """Measurements as JSON: sorted, one number a line, so that changes read well and merge."""
    content = {key: _entry(m) for key, m in sorted(models.items())}
    return (json.dumps({"version": VERSION, "models": content}, indent=2) + "\n").encode()


def _entry(measured: Measurement) -> dict[str, Any]:
    recorded = (key for key, metric in METRICS.items() if metric.recorded and key in measured.numbers)
    numbers = {key: int(measured.numbers[key]) for key in recorded}
    return {**numbers, **{k: list(v) for k, v in measured.sets.items()}, "structure": measured.structure}


def update(file: Path, keys: Collection[str], records: Mapping[str, Measurement]) -> bool:
    """Put measurements into a file; returns whether it changed.

    It is read again, and nobody else may write it meanwhile: two runs that update different models at once
    lose nothing.

    Args:
        file: the file.
        keys: of all models that are there now; others go.
        records: what was measured, by key.

    Raises:
        InputError: it can't be read or written.
    """
    with alone(file.parent):
        kept = {key: value for key, value in recorded(file, keys).models.items() if key in keys}
        data = dumps({**kept, **records})
        if file.is_file() and file.read_bytes() == data:
            return False
        write_atomic(file, data)
        return True


def tightened(old: Measurement, new: Measurement) -> Measurement:
    """The old measurement, with what became less; a ratchet that never loosens."""
    numbers = {k: min(v, new.numbers.get(k, v)) for k, v in old.numbers.items()}
    sets = {k: tuple(name for name in v if name in new.sets.get(k, v)) for k, v in old.sets.items()}
    return replace(old, numbers=numbers, sets=sets, structure=new.structure)


# ---------------------------------------------------------------- another model


@dataclass(frozen=True)
class Another:
    """One other file, whatever model is compared with it.

    Attributes:
        path: the file.
        costly: the metrics of weights to measure.
    """

    path: Path
    costly: frozenset[str]

    @property
    def source(self) -> str:
        """For people."""
        return str(self.path)

    def find(self, model: Model, now: Measurement) -> Before | None:  # noqa: ARG002
        """The other file."""
        subject = open_model(self.path, model.dims)
        return Before(measure(subject, self.costly), self.source, subject)

    def gone(self, keys: Collection[str]) -> tuple[str, ...]:  # noqa: ARG002
        """None."""
        return ()

    def deleted(self, meant: Callable[[Path], bool]) -> tuple[str, ...]:  # noqa: ARG002
        """Nothing."""
        return ()


# ---------------------------------------------------------------- a git revision


@dataclass(frozen=True)
class AtRevision:
    """The same models, as they were in a git revision.

    Attributes:
        revision: the revision.
        costly: the metrics of weights to measure.
        folder: a folder for copies, which must outlive the comparison.
        renames: new -> old file name.
        accepted: key -> measurements that the change under test wrote into the committed baseline.
    """

    revision: Revision
    costly: frozenset[str]
    folder: Path
    renames: Mapping[Path, Path]
    accepted: Mapping[str, Measurement]

    @property
    def source(self) -> str:
        """For people."""
        return self.revision.name

    def find(self, model: Model, now: Measurement) -> Before | None:  # noqa: ARG002
        """The model at that revision, unless the change under test has accepted other values."""
        if model.key in self.accepted:
            note = "compared with the baseline file, which differs from that revision's: an accepted change"
            return Before(self.accepted[model.key], "the baseline file", note=note)
        file, note = absolute(model.path), ""
        revision = self.revision.holding(file)
        if revision is None:
            return None
        if not revision.has(file):
            renames = self.renames if revision is self.revision else revision.renames()
            if file not in renames:
                return None
            file = renames[file]
            note = f"renamed from '{file.name}'"
        copy = Path(tempfile.mkdtemp(dir=self.folder))
        with revision.named(file, copy):
            subject = open_model(revision.extract(file, copy), model.dims)
            measured = measure(subject, self.costly)
        return Before(measured, self.source, subject, note or None)

    def gone(self, keys: Collection[str]) -> tuple[str, ...]:  # noqa: ARG002
        """None: git knows what was deleted."""
        return ()

    def deleted(self, meant: Callable[[Path], bool]) -> tuple[str, ...]:
        """Models of the revision that are in the work tree no more, under no name."""
        lost = [file for file in self.revision.deleted() if meant(file)]
        return tuple(f"'{shown(file)}' was deleted since {self.revision.name}" for file in sorted(lost))


@contextmanager
def at_revision(
    revision: Revision, file: Path, current: Recorded, costly: frozenset[str], models: Sequence[Model]
) -> Iterator[AtRevision]:
    """A revision's models; copies of them are deleted in the end.

    Args:
        revision: the revision.
        file: the committed baseline.
        current: what it holds in the work tree.
        costly: the metrics of weights to measure.
        models: all models that will be asked for.

    Raises:
        InputError: the revision's own baseline can't be read.
    """
    before = loads(revision.read(file), f"{revision.name}:{file.name}") if revision.has(file) else {}
    # A pull request that rightly grows says so by changing the baseline: without this, it could never pass.
    accepted = {m.key: current.models[m.key] for m in models if m.key in current.models}
    accepted = {key: value for key, value in accepted.items() if before.get(key) != value}
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        yield AtRevision(revision, costly, Path(folder), revision.renames(), accepted)
