"""Settings: find the configuration file, check it against the published schema, and read it."""

from __future__ import annotations

import difflib
import importlib.resources
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..graph import contents, text
from . import limits
from .limits import Rules

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

FILE = "onnxprune.toml"
PROJECT = "pyproject.toml"
BASELINE = "onnxprune-baseline.json"


@dataclass(frozen=True)
class Entry:
    """One of the `models`.

    Attributes:
        where: the entry in its file, for messages.
        paths: globs, relative to the folder of the configuration.
        name: what to call the model.
        dims: sizes of symbolic dimensions.
        rules: its limits.
    """

    where: str
    paths: tuple[str, ...]
    name: str | None
    dims: Mapping[str, int]
    rules: Rules


@dataclass(frozen=True)
class Settings:
    """A configuration file.

    Attributes:
        source: the file; `None` when there is none.
        root: the folder that its paths are relative to.
        entries: in the order of the file.
        exclude: globs of files to leave out.
        baseline: the file of recorded measurements.
        baseline_ref: the git revision to compare with instead.
    """

    source: Path | None
    root: Path
    entries: tuple[Entry, ...]
    exclude: tuple[str, ...]
    baseline: Path
    baseline_ref: str | None


def find(folder: Path) -> Path | None:
    """The nearest configuration: `onnxprune.toml`, or a `pyproject.toml` that has the table."""
    for parent in [folder, *folder.parents]:
        if (parent / FILE).is_file():
            return parent / FILE
        project = parent / PROJECT
        # Cheap, and right: a table that isn't named in the file isn't in it.
        if project.is_file() and b"onnxprune" in contents(project) and _table(project) is not None:
            return project
    return None


def read(source: Path | None, folder: Path) -> Settings:
    """Read a configuration file.

    Args:
        source: the file; `None` for no configuration at all.
        folder: the root where there is no file.

    Raises:
        InputError: it can't be read, isn't TOML, or holds something that the schema doesn't allow.
    """
    table = {} if source is None else _table(source)
    if table is None:
        hint = "add [tool.onnxprune.check]" if source and source.name == PROJECT else "add [check]"
        raise InputError("has no settings for 'onnxprune check'", where=str(source), hint=hint)
    root = folder if source is None else source.parent
    _validate(table, str(source))
    entries = tuple(_entry(e, f"{source}: models[{i}]") for i, e in enumerate(table.get("models", [])))
    return Settings(
        source,
        root,
        entries,
        tuple(table.get("exclude", ())),
        root / table.get("baseline", BASELINE),
        table.get("baseline-ref"),
    )


def _entry(entry: Mapping[str, Any], where: str) -> Entry:
    path = entry["path"]
    paths = (path,) if isinstance(path, str) else tuple(path)
    return Entry(where, paths, entry.get("name"), entry.get("dims", {}), limits.parse(entry, where))


def _table(source: Path) -> dict[str, Any] | None:
    """The table of `check` in a file, if it has one."""
    try:
        data = tomllib.loads(text(source))
    except RecursionError:
        raise InputError("is not TOML (nested too deep)", where=str(source)) from None
    except ValueError as error:  # numbers of too many digits are no decoding error
        raise InputError(f"is not TOML: {error}", where=str(source)) from None
    if source.name != PROJECT and "tool" not in data:
        _refuse_unknown(data, ["check"], str(source))
        table = data.get("check")
    else:
        ours = _inner(_inner(data, "tool"), "onnxprune")
        _refuse_unknown(ours, ["check"], f"{source}: tool.onnxprune")
        table = ours.get("check")
    if table is not None and not isinstance(table, dict):
        raise InputError("'check' is not a table", where=str(source))
    return table


def _inner(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = data.get(key, {})
    return inner if isinstance(inner, Mapping) else {}


def _validate(table: Mapping[str, Any], source: str) -> None:
    if not table:
        return
    from jsonschema import Draft202012Validator

    schema = importlib.resources.files("onnxprune") / "schemas" / "check.schema.json"
    validator = Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
    first = min(validator.iter_errors(table), key=lambda e: list(map(str, e.absolute_path)), default=None)
    if first is None:
        return
    error = max(_leaves(first), key=_meant)
    place = _place(error.absolute_path)
    where = f"{source}: {place}" if place else source
    keys = error.instance
    if error.validator == "additionalProperties" and isinstance(keys, Mapping):
        _refuse_unknown(list(map(str, keys)), _properties(error), where)
    raise InputError(error.message, where=where)


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """The errors of alternatives, and of alternatives within these."""
    if not error.context:
        yield error
    for inner in error.context or ():
        yield from _leaves(inner)


def _meant(error: ValidationError) -> tuple[bool, int, int]:
    """How likely an alternative was meant: it has the right type, gets far, and knows the keys."""
    known = _properties(error)
    keys = error.instance if known and isinstance(error.instance, Mapping) else ()
    near = sum(bool(difflib.get_close_matches(str(key), known)) for key in keys)
    return error.validator not in ("type", "const"), len(error.absolute_path), near


def _properties(error: ValidationError) -> list[str]:
    return list(error.schema.get("properties", ())) if isinstance(error.schema, Mapping) else []


def _place(path: Iterable[str | int]) -> str:
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return text.removeprefix(".")


def _refuse_unknown(given: Iterable[str], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            raise InputError(f"unknown key '{key}'", where=where, hint=hint)
