"""Which files are checked, under which names, by which limits."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .limits import NO_RULES, Rules
from .settings import Entry, Settings


@dataclass(frozen=True)
class Model:
    """A file to check.

    Attributes:
        key: what it is called in reports and in the baseline: its name, else its path in the project.
        path: the file, relative to the working folder where it lies below it.
        dims: sizes of symbolic dimensions.
        rules: its limits.
        configured: whether an entry of the configuration means it.
    """

    key: str
    path: Path
    dims: Mapping[str, int]
    rules: Rules
    configured: bool = True


def select(settings: Settings, named: Sequence[Path]) -> tuple[Model, ...]:
    """The models to check, sorted by key.

    Args:
        settings: the configuration.
        named: files to check; by default all that the configuration means.

    Raises:
        InputError: an entry means no file, a name stands for several files, or two models share a key.
    """
    configured = _configured(settings, strict=not named)
    if not named:
        chosen: Iterable[Model] = configured.values()
    else:
        chosen = [configured.get(absolute(p)) or _free(settings, p) for p in named]
    unique = {absolute(m.path): m for m in chosen}
    return tuple(sorted(unique.values(), key=lambda m: m.key))


def _free(settings: Settings, path: Path) -> Model:
    return Model(_key(settings.root, absolute(path)), path, {}, NO_RULES, configured=False)


def known(settings: Settings) -> set[str]:
    """Keys of all models that the configuration means, as far as they are there."""
    return {m.key for m in _configured(settings, strict=False).values()}


def matches(settings: Settings, file: Path) -> bool:
    """Whether an entry of the configuration would mean a file of this name if it were there."""
    root = settings.root.resolve()
    if not file.is_relative_to(root):
        return False
    name = file.relative_to(root).as_posix()
    patterns = (pattern for entry in settings.entries for pattern in entry.paths)
    return not _excluded(name, settings.exclude) and any(_glob(p).fullmatch(name) for p in patterns)


def _glob(pattern: str) -> re.Pattern[str]:
    """A pattern of `glob` with `**`, for names that are no files."""
    parts = []
    for piece in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern):
        known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        if piece in known:
            parts.append(known[piece])
        elif piece.startswith("[") and piece.endswith("]"):
            parts.append("[" + piece[1:-1].replace("\\", "\\\\").replace("!", "^", 1) + "]")
        else:
            parts.append(re.escape(piece))
    return re.compile("".join(parts))


def _configured(settings: Settings, *, strict: bool) -> dict[Path, Model]:
    """The models that the configuration means; `strict`: each of its patterns must mean one."""
    matched: dict[Path, list[tuple[Entry, bool]]] = {}
    for entry in settings.entries:
        files = _match(settings, entry, strict=strict)
        for file in files:
            matched.setdefault(file, []).append((entry, len(files) == 1))
    models: dict[Path, Model] = {}
    owner: dict[str, Path] = {}
    for file, found in sorted(matched.items()):
        model = _merged(settings, file, found)
        if model.key in owner:
            raise InputError(
                f"stands for {owner[model.key].name} and {file.name}", where=f"name '{model.key}'"
            )
        owner[model.key] = file
        models[file] = model
    return models


def _merged(settings: Settings, file: Path, found: Sequence[tuple[Entry, bool]]) -> Model:
    """As in .gitattributes, later entries win: each limit is taken from the last entry that has it."""
    key, dims, rules = _key(settings.root, file), dict[str, int](), NO_RULES
    for entry, alone in found:
        if entry.name is not None:
            # One name for many files would mix up their baselines.
            key = entry.name if alone else f"{entry.name}/{_key(settings.root, file)}"
        dims |= entry.dims
        rules = rules.refined(entry.rules)
    return Model(key, shown(file), dims, rules)


def _match(settings: Settings, entry: Entry, *, strict: bool) -> list[Path]:
    """Files that an entry means, absolute; hidden folders only where a pattern names them.

    Raises:
        InputError: one of its patterns means none: a typing error would leave models unwatched.
    """
    root = settings.root.resolve()
    files: set[Path] = set()
    for pattern in entry.paths:
        if "\0" in pattern:
            raise InputError("a path holds a character that no path can", where=entry.where)
        names = glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207
        found = {absolute(root / name) for name in names if not _excluded(name, settings.exclude)}
        found = {file for file in found if file.is_file()}
        if not found and strict:
            hint = "correct the path, or remove it if the model is gone"
            if (root / pattern).is_dir():
                hint = f"for the models below that folder, write '{pattern.rstrip('/')}/**/*.onnx'"
            raise InputError(f"no file matches '{pattern}'", where=entry.where, hint=hint)
        files |= found
    return sorted(files)


def _excluded(name: str, patterns: Sequence[str]) -> bool:
    posix = Path(name).as_posix()
    return any(fnmatch.fnmatchcase(posix, pattern) for pattern in patterns)


def absolute(file: Path) -> Path:
    """The one way to write a file's path; a link to a file, as stores of models make them, stays one."""
    return file.parent.resolve() / file.name


def repository(folder: Path) -> Path | None:
    """The top of the repository that a folder belongs to, without links; `None` where there is none."""
    here = folder.resolve()
    return next((p for p in (here, *here.parents) if os.path.lexists(p / ".git")), None)


def _key(root: Path, file: Path) -> str:
    """The path from the project's folder, the same on every machine."""
    folder = root.resolve()
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()


def shown(file: Path) -> Path:
    """The path for people: from the working folder where the file lies below it."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file
