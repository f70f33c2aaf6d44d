"""Faults for tests: processes that are killed, or fail, at each of their calls to the file system."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

KILLED = -signal.SIGKILL
CALLS = ("open", "fdopen", "fsync", "replace", "rename", "link", "unlink", "chmod", "write")


class Countdown:
    """What happens at the n-th call that changes files.

    Args:
        left: calls that pass.
        then: what happens at the next one.
    """

    def __init__(self, left: int, then: Callable[[], None]) -> None:
        self.left, self.then = left, then
        self.stopped_at: str | None = None

    def step(self, name: str) -> None:
        self.left -= 1
        if self.left == -1:
            self.stopped_at = name
            self.then()

    def install(self) -> None:
        """Count calls of this process from now on; only for one that ends soon."""
        for name in CALLS:
            real = getattr(os, name)

            def counted(*given: Any, name: str = name, real: Any = real, **named: Any) -> Any:
                self.step(name)
                made = real(*given, **named)
                return _Counted(made, self) if real is _FDOPEN else made

            setattr(os, name, counted)


_FDOPEN = os.fdopen


class _Counted:
    """A file whose writes count."""

    def __init__(self, file: Any, countdown: Countdown) -> None:
        self._file, self._countdown = file, countdown

    def write(self, data: Any) -> int:
        self._countdown.step("write")
        view = memoryview(data).cast("B")
        self._file.write(view[: len(view) // 2])
        self._file.flush()
        self._countdown.step("write")  # half of it is on the disk
        return int(self._file.write(view[len(view) // 2 :]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def fileno(self) -> int:
        return int(self._file.fileno())


def in_child(task: Callable[[], None]) -> int:
    """Run a task in a fork of this process; returns its exit code, minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            task()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at_each_call(task: Callable[[], None], prepare: Callable[[], None]) -> Iterator[int]:
    """Run a task again and again, each time killed one call later, until it ends by itself.

    Args:
        task: what to run.
        prepare: makes things as they are before.

    Yields:
        The number of calls that passed, after each run.
    """
    for calls in range(10_000):
        prepare()

        def dying(calls: int = calls) -> None:
            Countdown(calls, lambda: os.kill(os.getpid(), signal.SIGKILL)).install()
            task()

        code = in_child(dying)
        yield calls
        if code == 0:
            return
        assert code == KILLED


def limit_protobuf(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """As if protobuf held no more than so many bytes."""
    for name, module in list(sys.modules.items()):
        if name.startswith("onnxprune.") and hasattr(module, "PROTOBUF_LIMIT"):
            monkeypatch.setattr(module, "PROTOBUF_LIMIT", limit)
