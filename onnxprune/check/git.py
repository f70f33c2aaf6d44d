"""Files of a git revision, read from git's object store: the work tree stays as it is."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from subprocess import PIPE, CompletedProcess, run
from typing import IO

from ..errors import InputError
from ..graph import external_files
from .files import Pointer, pointer

_SMALL = 1024
_COMPUTED = re.compile(r"[~^:]|@\{")
"""What makes a revision out of another one: `HEAD~3`, `main@{1}`."""

_OF_HOOKS = frozenset({"GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"})


@dataclass(frozen=True)
class Revision:
    """A commit of a repository.

    Attributes:
        name: as the user wrote it.
        commit: its hash.
        top: the folder of the work tree, without links.
    """

    name: str
    commit: str
    top: Path

    def holding(self, file: Path) -> Revision | None:
        """The same state of the repository that a file belongs to: this one, or a submodule within it.

        Args:
            file: a file of the work tree.

        Returns:
            A revision of that repository; `None` where the submodule wasn't there yet.

        Raises:
            InputError: the file belongs to a repository that isn't a submodule, or the submodule's clone
                lacks the commit.
        """
        top = _top(file.parent)
        if top is None or top == self.top or not top.is_relative_to(self.top):
            return self
        outer = self.holding(top)
        if outer is None:
            return None
        inside = _relative(top, outer.top).as_posix()
        entry = (
            _git(outer.top, "ls-tree", outer.commit, "--", inside).stdout.decode("utf-8", "replace").split()
        )
        if not entry:
            ignored = _git(outer.top, "ls-files", "--stage", "--", inside).stdout
            if ignored.startswith(b"160000"):
                return None
            reason = f"belongs to the repository in '{inside}', which is no submodule"
            raise InputError(reason, where=str(file), hint="compare with a baseline file")
        if entry[0] != "160000":
            return None
        if _git(top, "cat-file", "-e", f"{entry[2]}^{{commit}}").returncode != 0:
            reason = f"commit {entry[2][:12]} of submodule '{inside}' isn't in this clone"
            raise InputError(reason, where=self.name, hint=f"run 'git -C {inside} fetch origin {entry[2]}'")
        return Revision(self.name, entry[2], top)

    def has(self, file: Path) -> bool:
        """Whether the revision holds a file, named as in the work tree; its contents may be missing."""
        return _git(self.top, "rev-parse", "--verify", "--quiet", self._name(file)).returncode == 0

    def read(self, file: Path) -> bytes:
        """The bytes of a small file.

        Raises:
            InputError: the revision doesn't hold it.
        """
        return _git(self.top, "cat-file", "blob", self._blob(file)).stdout

    def extract(self, file: Path, folder: Path) -> Path:
        """Copy a model and its external data into a folder; those in git-lfs come from its local store.

        Raises:
            InputError: one of them isn't there.
        """
        model = self._copy(file, folder, PurePosixPath(file.name))
        for name in external_files(model):
            location = PurePosixPath(name)
            if location.is_absolute() or ".." in location.parts:
                where = f"{self.name}:{file.name}"
                raise InputError(f"external data '{name}' lies outside the model's folder", where=where)
            self._copy(file.parent / name, folder, location)
        return model

    def renames(self) -> Mapping[Path, Path]:
        """New -> old name of files that were renamed between the revision and the work tree."""
        done = _git(self.top, "diff", "--name-status", "-z", "--find-renames", "--diff-filter=R", self.commit)
        fields = iter(done.stdout.decode("utf-8", "surrogateescape").split("\0"))
        return {self.top / new: self.top / old for _, old, new in zip(fields, fields, fields, strict=False)}

    def deleted(self) -> tuple[Path, ...]:
        """Files of the revision that aren't in the work tree any more, under no name."""
        options = ("--name-only", "-z", "--find-renames", "--diff-filter=D")
        done = _git(self.top, "diff", *options, self.commit)
        names = done.stdout.decode("utf-8", "surrogateescape").split("\0")
        return tuple(self.top / name for name in names if name)

    @contextmanager
    def named(self, file: Path, folder: Path) -> Iterator[None]:
        """Errors about the copy of a file in a folder name the file of the revision instead."""
        try:
            yield
        except InputError as error:
            where = (error.where or "").replace(str(folder / file.name), self.shown(file))
            raise InputError(error.reason, where=where, hint=error.hint) from None

    def shown(self, file: Path) -> str:
        """A file of the revision, for people."""
        return f"{self.name}:{_relative(file, self.top).as_posix()}"

    def _name(self, file: Path) -> str:
        return f"{self.commit}:{_relative(file, self.top).as_posix()}"

    def _blob(self, file: Path) -> str:
        """The object that holds a file's contents; links within the repository are followed.

        Raises:
            InputError: there is none, or it isn't in this clone.
        """
        if not self.has(file):
            raise InputError("isn't in that revision", where=self.shown(file))
        options = ("cat-file", "--batch-check=%(objecttype) %(objectname)", "--follow-symlinks")
        kind, _, name = (
            _git(self.top, *options, asked=self._name(file)).stdout.decode().strip().partition(" ")
        )
        if kind == "blob":
            return name
        if kind == "tree":
            raise InputError("is a directory; name an .onnx file", where=self.shown(file))
        if kind in ("symlink", "dangling", "loop", "notdir"):
            raise InputError("is a link that leads nowhere in the repository", where=self.shown(file))
        raise InputError("isn't in this clone", where=self.shown(file), hint="run 'git fetch' and try again")

    def _copy(self, file: Path, folder: Path, name: PurePosixPath) -> Path:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        blob, where = self._blob(file), self.shown(file)
        with target.open("wb") as sink:
            done = _git(self.top, "cat-file", "blob", blob, stdout=sink)
        if done.returncode != 0:
            raise InputError("can't be read from git", where=where, hint="run 'git fsck'")
        if target.stat().st_size <= _SMALL and (found := pointer(target.read_bytes())) is not None:
            stored = self._stored(found)
            if not stored.is_file():
                reason = f"is a git-lfs pointer to {found.size} bytes that aren't on this machine"
                raise InputError(reason, where=where, hint=f"run 'git lfs fetch origin {self.commit}'")
            shutil.copyfile(
                stored, target
            )  # not a hard link: onnx refuses weights in files that have several
        return target

    def _stored(self, found: Pointer) -> Path:
        """Where git-lfs keeps a file."""
        common = _git(self.top, "rev-parse", "--git-common-dir").stdout.decode().strip()
        return self.top / common / "lfs" / "objects" / found.oid[:2] / found.oid[2:4] / found.oid


def revision(name: str, folder: Path) -> Revision:
    """Look a revision up.

    Args:
        name: a branch, tag or commit.
        folder: any folder of the work tree.

    Raises:
        InputError: there is no git, no repository or no such revision; for a shallow clone, with the way out.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top.returncode != 0:
        said = top.stderr.decode(errors="replace").strip().splitlines()
        # Git refuses repositories of other owners, as in containers, and says what to do in its last line.
        hint = f"run '{said[-1].strip()}'" if said and "safe.directory" in said[-1] else None
        reason = f"git can't be asked: {said[0] if said else 'it failed'}"
        raise InputError(reason, where=str(folder), hint=hint)
    root = Path(top.stdout.decode().removesuffix("\n")).resolve()
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode == 0:
        return Revision(name, found.stdout.decode().strip(), root)
    shallow = _git(root, "rev-parse", "--is-shallow-repository").stdout.strip() == b"true"
    if _COMPUTED.search(name):  # nothing that a remote could be asked for
        reason = "no such revision in this shallow clone" if shallow else "no such revision"
        hint = (
            "run 'git fetch --unshallow' (GitHub: 'fetch-depth: 0' for actions/checkout)" if shallow else None
        )
        raise InputError(reason, where=name, hint=hint or "see 'git log'")
    remote, _, branch = name.partition("/")
    remotes = _git(root, "remote").stdout.decode().split()
    if not remotes:
        raise InputError("no such revision", where=name, hint="see 'git branch --all'")
    known = branch and remote in remotes
    fetch = f"{remote} {branch}:refs/remotes/{name}" if known else f"{remotes[0]} {name}"
    hint = f"run 'git fetch --depth=1 {fetch}'" + (
        " (GitHub: 'fetch-depth: 0' for actions/checkout)" if shallow else ""
    )
    reason = "no such revision in this shallow clone" if shallow else "no such revision"
    raise InputError(reason, where=name, hint=hint)


def _top(folder: Path) -> Path | None:
    """The top of the repository of a folder that may be gone; `None` where there is none."""
    there = next((p for p in (folder, *folder.parents) if p.is_dir()), folder)
    found = _git(there, "rev-parse", "--show-toplevel")
    return Path(found.stdout.decode().removesuffix("\n")).resolve() if found.returncode == 0 else None


def _relative(file: Path, top: Path) -> Path:
    """A file's path within the work tree; the file itself may be gone."""
    absolute = file.parent.resolve() / file.name
    try:
        return absolute.relative_to(top)
    except ValueError:
        raise InputError("lies outside the git repository", where=str(file)) from None


def _git(
    folder: Path, *arguments: str, asked: str = "", stdout: int | IO[bytes] = PIPE
) -> CompletedProcess[bytes]:
    """Run git; `asked` is its input."""
    # Hooks run with GIT_DIR: with that, git would take any folder for the top of the work tree.
    environment = {key: value for key, value in os.environ.items() if key not in _OF_HOOKS}
    given = f"{asked}\n".encode("utf-8", "surrogateescape") if asked else b""
    command = ["git", *arguments]
    try:
        return run(command, cwd=folder, env=environment, input=given, stdout=stdout, stderr=PIPE, check=False)
    except FileNotFoundError:
        raise InputError("git isn't installed", hint="install it, or compare with a baseline file") from None
