"""Files that appear whole or not at all, several of them together.

A file is written beside its target under a name that no other program uses, made to last (fsync), and then
renamed. While it is written it is locked: a lock ends with its process, however that ends. So the next run in
a folder can distinguish what a killed run left there from what a running one is writing.

Between the renames of several files a run can be killed, too. A journal in each folder says what is to be
renamed there: the next run in the folder goes on with it, as far as the targets are still what they were.
With several folders one journal leads, the last that is written: without it, the others say nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ..errors import InputError
from .reading import reason_of

if os.name == "posix":
    import fcntl

_PART, _JOURNAL = ".onnxprune-part", ".onnxprune-journal"
_OURS = re.compile(rf"\..+\.[0-9a-f]{{12}}({re.escape(_PART)}|{re.escape(_JOURNAL)})", re.DOTALL)
_UNLOCKED_AGE = (
    24 * 3600.0
)  # seconds; where nothing can be locked (some network folders), what is older is debris

_Signature = list[int] | None


@dataclass
class Staged:
    """A file on its way.

    Attributes:
        file: to write to; locked.
        temporary: where it is.
        target: where it shall appear.
    """

    file: BinaryIO
    temporary: Path
    target: Path


class Delivery:
    """Files of one output: all of them appear, or none does.

    Used as a context: they appear at its end, in the order in which they were staged; an exception throws
    them away. What others refer to comes first, so that what refers to it is never there alone.

        with Delivery() as delivery:
            delivery.write(Path("plan.json"), plan)
            delivery.write(Path("small.onnx"), model)
    """

    def __init__(self) -> None:
        self._staged: list[Staged] = []
        self._swept: set[Path] = set()
        self._after: list[Callable[[], None]] = []

    def __enter__(self) -> Delivery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
                for step in self._after:
                    step()
        finally:
            for staged in self._staged:
                _remove(staged.temporary)
                with contextlib.suppress(OSError):  # what a full disk could not take is lost in any case
                    staged.file.close()
            self._staged.clear()

    def write(self, target: Path, data: bytes) -> int:
        """Stage a file with these bytes; returns their number.

        Raises:
            InputError: it can't be written.
        """
        with self.open(target) as staged:
            staged.file.write(data)
        return len(data)

    @contextlib.contextmanager
    def open(self, target: Path) -> Iterator[Staged]:
        """Stage a file that is written piece by piece; its target may still be changed while it is.

        Args:
            target: where it shall appear. A link stays one: the file that it leads to is replaced.

        Raises:
            InputError: it can't be written, or something else than a file is there.
        """
        real = _real(target)
        if real.parent not in self._swept:
            sweep(real.parent)
            self._swept.add(real.parent)
        with _named(target):
            staged = _locked(real, _PART)
            self._staged.append(staged)
            yield staged
            staged.file.flush()
            os.fsync(staged.file.fileno())
            staged.temporary.chmod(0o666 & ~_umask())
            if os.name != "posix":
                staged.file.close()  # an open file can't be renamed

    def after(self, step: Callable[[], None]) -> None:
        """What to do when all files have appeared."""
        self._after.append(step)

    def _commit(self) -> None:
        folders = list(dict.fromkeys(_home(staged) for staged in self._staged))
        journals: list[Staged] = []
        moves = [_Move(staged, _signature(staged.target) is not None) for staged in self._staged]
        try:
            if len(moves) > 1:
                self._note(folders, journals)
            for move in moves:
                with _named(move.staged.target):
                    move.old = _second_name(move.staged.target) if journals else None
                    move.staged.temporary.replace(move.staged.target)
        except BaseException:
            _forget(journals)
            for move in moves:
                move.undo()
            raise
        finally:
            _forget(journals)
            for move in moves:
                if move.old is not None:
                    _remove(move.old)
        for folder in folders:
            _sync(folder)

    def _note(self, folders: list[Path], journals: list[Staged]) -> None:
        """Write down what is about to be renamed, for whoever has to go on with it; what leads comes last."""
        for folder in folders:
            with _named(folder):
                journals.append(_locked(folder / "delivery", _JOURNAL))
        leading = str(journals[-1].temporary)
        others = [str(journal.temporary) for journal in journals[:-1]]
        for folder, journal in zip(folders, journals, strict=True):
            last = journal is journals[-1]
            moves = [
                [staged.temporary.name, staged.target.name, _signature(staged.target)]
                for staged in self._staged
                if _home(staged) == folder
            ]
            told = {"moves": moves, "leading": None if last else leading, "others": others if last else []}
            with _named(folder):
                journal.file.write(json.dumps(told).encode())
                journal.file.flush()
                os.fsync(journal.file.fileno())
                _sync(folder)


@dataclass
class _Move:
    """A file that is renamed together with others.

    Attributes:
        staged: the file.
        replaces: whether there was a file at its target.
        old: another name of that, to put it back.
    """

    staged: Staged
    replaces: bool
    old: Path | None = None

    def undo(self) -> None:
        """Put back what was there before, if it was replaced and can be put back."""
        if self.staged.temporary.exists():
            return
        with contextlib.suppress(OSError):
            if self.old is not None:
                self.old.replace(self.staged.target)
            elif not self.replaces:
                self.staged.target.unlink()


def _forget(journals: list[Staged]) -> None:
    for journal in journals:
        _remove(journal.temporary)
        with contextlib.suppress(OSError):
            journal.file.close()
    journals.clear()


def write_atomic(file: Path, data: bytes) -> int:
    """Write bytes so that the file appears whole or not at all; returns their number.

    Raises:
        InputError: it can't be written.
    """
    with Delivery() as delivery:
        return delivery.write(file, data)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Exclusive access to a folder among processes, where the system supports locks.

    Raises:
        InputError: there is no such folder, or it can't be read.
    """
    if os.name != "posix":
        yield
        return
    with _named(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not on all network folders
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Clear a folder of what killed runs left: finish what was being renamed, remove what was being written.

    Only files of our own names are looked at, and only those that no running process has locked. What can't
    be removed stays.
    """
    with contextlib.suppress(OSError):
        names = [
            e.name for e in os.scandir(folder) if _OURS.fullmatch(e.name) and e.is_file(follow_symlinks=False)
        ]
        for name in sorted(names, key=lambda n: not n.endswith(_JOURNAL)):
            with contextlib.suppress(OSError), (folder / name).open("r+b") as file:
                if _is_left(file) and not (name.endswith(_JOURNAL) and _is_needed(folder, file.read())):
                    (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Journal:
    """What a journal says.

    Attributes:
        moves: names of a file that has been written and of its target in the same folder, and what tells the
            target from its successor.
        leading: the journal without which this one says nothing.
        others: those that say nothing without this one.
    """

    moves: tuple[tuple[str, str, _Signature], ...]
    leading: Path | None
    others: tuple[Path, ...]


def _read(journal: bytes) -> _Journal | None:
    """What a journal says; `None` while it is being written, when nothing has been renamed."""
    try:
        told = json.loads(journal)
        moves = tuple((str(part), str(target), was) for part, target, was in told["moves"])
        leading, others = told["leading"], told["others"]
        return _Journal(moves, None if leading is None else Path(leading), tuple(map(Path, others)))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _is_needed(folder: Path, journal: bytes) -> bool:
    """Do what is left of a journal; returns whether journals of other folders still wait for it."""
    found = _read(journal)
    if found is None or not (found.leading is None or _leads(found.leading)):
        return False
    for part, target, was in found.moves:
        if _OURS.fullmatch(part) and {part, target} <= {Path(part).name, Path(target).name}:
            file = folder / target
            if (folder / part).is_file() and not file.is_symlink() and _signature(file) == was:
                (folder / part).replace(file)
    return any(_OURS.fullmatch(other.name) and other.is_file() for other in found.others)


def _leads(journal: Path) -> bool:
    """Whether a journal of another folder is there, and was finished before anything was renamed."""
    if not _OURS.fullmatch(journal.name) or not journal.is_file():
        return False
    return _read(journal.read_bytes()) is not None


def _home(staged: Staged) -> Path:
    """The folder of a target, in one spelling."""
    return Path(os.path.realpath(staged.target.parent))


def _second_name(target: Path) -> Path | None:
    """Another name for a file that is about to be replaced, to put it back; `None` where there is no file."""
    name = _beside(target, _PART)
    try:
        os.link(target, name)
    except OSError:
        return None
    return name


def _real(target: Path) -> Path:
    """Where a file is written: a link leads there.

    Raises:
        InputError: something else than a file is there.
    """
    with _named(target):
        real = Path(os.path.realpath(target)) if target.is_symlink() else target
        if real.exists() and not real.is_file():  # root could put a file in the place of /dev/null
            reason = "is a directory" if real.is_dir() else "is a device, not a file"
            raise InputError(reason, where=str(target), hint="name a file")
        return real


def _locked(target: Path, suffix: str) -> Staged:
    """A new file beside a target, locked before anybody could take it for debris."""
    while True:
        temporary = _beside(target, suffix)
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            file = os.fdopen(handle, "w+b")
            if os.name == "posix":
                with contextlib.suppress(OSError):  # not on all network folders
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            _remove(temporary)
            raise
        if temporary.exists():
            return Staged(file, temporary, target)
        file.close()


def _is_left(file: BinaryIO) -> bool:
    """Whether the process that wrote a file is gone."""
    if os.name == "posix":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        else:
            return True
    return time.time() - os.fstat(file.fileno()).st_mtime > _UNLOCKED_AGE


def _remove(file: Path) -> None:
    """Remove what only the next run would have to sweep otherwise."""
    with contextlib.suppress(OSError):
        file.unlink()


def _beside(target: Path, suffix: str) -> Path:
    start = target.name.encode("utf-8", "surrogateescape")[:100].decode("utf-8", "ignore")
    return target.with_name(f".{start}.{secrets.token_hex(6)}{suffix}")


def _signature(file: Path) -> _Signature:
    """What distinguishes a file from its successor; `None` where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _sync(folder: Path) -> None:
    """Make renames in a folder last, where a system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _named(target: Path) -> Iterator[None]:
    """Errors of the system as ours, of this file."""
    try:
        yield
    except OSError as error:
        raise InputError(f"can't be written ({reason_of(error)})", where=str(target)) from None
