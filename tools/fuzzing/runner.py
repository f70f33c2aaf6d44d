"""Run commands in processes of their own, within limits of time and memory.

Importing takes longer than most commands do. So one process imports everything once and forks for each run.
It must stay alone: no thread of ONNX Runtime may run in it, as threads don't survive a fork.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GIGABYTE = 1 << 30


@dataclass(frozen=True)
class Limits:
    """What a run may take.

    Attributes:
        seconds: of wall-clock time.
        memory: bytes of address space.
    """

    seconds: float = 60.0
    memory: int = 8 * GIGABYTE


@dataclass(frozen=True)
class Run:
    """What became of a command.

    Attributes:
        arguments: of the command.
        code: its exit code; minus the signal that ended it; `None` where it took too long.
        out: what it said on stdout.
        err: what it said on stderr.
        seconds: how long it took.
        memory: the most bytes that it held.
        left: files that it made, relative to its folder.
    """

    arguments: tuple[str, ...]
    code: int | None
    out: bytes
    err: bytes
    seconds: float
    memory: int
    left: tuple[str, ...] = ()


def command(arguments: Sequence[str]) -> None:
    """The command line, as its entry point starts it."""
    from onnxprune.cli import main

    sys.argv = ["onnxprune", *arguments]
    main()


def run(
    arguments: Sequence[str],
    folder: Path,
    limits: Limits | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    body: Callable[[Sequence[str]], None] = command,
) -> Run:
    """Run a command in a fork of this process.

    Args:
        arguments: of the command.
        folder: to run in.
        limits: what it may take.
        environment: variables to set.
        body: what to run in place of the command line.
    """
    limits = limits or Limits()
    before = _files(folder)
    (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        for end in (out_read, err_read):
            os.close(end)
        _become(arguments, folder, limits, environment or {}, body, out_write, err_write)
    for end in (out_write, err_write):
        os.close(end)
    said = _read((out_read, err_read), start + limits.seconds)
    code: int | None = None
    if said is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    if said is not None:
        code = os.waitstatus_to_exitcode(status)
    out, err = said or (b"", b"")
    left = tuple(sorted(_files(folder) - before))
    return Run(tuple(arguments), code, out, err, time.monotonic() - start, used.ru_maxrss * 1024, left)


def _become(
    arguments: Sequence[str],
    folder: Path,
    limits: Limits,
    environment: Mapping[str, str],
    body: Callable[[Sequence[str]], None],
    out: int,
    err: int,
) -> None:
    """Be the command; never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((null, 0), (out, 1), (err, 2)):
            os.dup2(old, new)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", write_through=True)
        os.environ.update(environment)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        body(arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def _read(ends: tuple[int, int], until: float) -> tuple[bytes, bytes] | None:
    """What comes out of two pipes until both are closed; `None` where that takes too long."""
    parts: dict[int, list[bytes]] = {end: [] for end in ends}
    open_ends = set(ends)
    late = False
    while open_ends and not late:
        ready, _, _ = select.select(list(open_ends), [], [], max(0.0, until - time.monotonic()))
        late = not ready
        for end in ready:
            data = os.read(end, 1 << 16)
            parts[end].append(data)
            if not data:
                open_ends.discard(end)
    for end in ends:
        os.close(end)
    return None if late else (b"".join(parts[ends[0]]), b"".join(parts[ends[1]]))


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
