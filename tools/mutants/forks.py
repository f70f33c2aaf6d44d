"""Tests in processes of their own, which start with all libraries loaded and without the package."""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_LIBRARIES = (
    *("numpy", "scipy.linalg", "scipy.optimize", "scipy.sparse.csgraph", "scipy.stats", "onnx.reference"),
    *("onnxruntime", "onnx_graphsurgeon", "onnxslim", "hypothesis.strategies", "msgspec", "jsonschema"),
    *("rich.console", "rich.table", "cyclopts", "threadpoolctl", "PIL.Image", "pytest", "ml_dtypes"),
)

_HUNG = 120
"""Seconds in which no thread of a process wants the processor: it waits for what never comes."""


def warm() -> None:
    """Load what tests need, other than the package: each fork starts with it."""
    for name in _LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:  # what needs it will say so
            continue
    from hypothesis import settings

    settings.register_profile("mutation", database=None, derandomize=True)
    settings.load_profile("mutation")
    gc.collect()
    gc.freeze()


def run(job: Callable[[], Any], seconds: float) -> Any:
    """What a job returns, as JSON, in a fork of this process; `None` where it ends without, or takes longer.

    Time is that of the processor, so that a busy machine is no reason to give up; who only waits, and for
    long, is ended as well.

    Args:
        job: what to do.
        seconds: that it may take.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read)
            _isolate(seconds)
            os.write(write, json.dumps(job()).encode())
        finally:
            os._exit(0)
    os.close(write)
    try:
        return _answer(child, read)
    finally:
        os.close(read)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _isolate(seconds: float) -> None:
    os.setsid()
    limit = max(1, int(seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)


def _answer(child: int, read: int) -> Any:
    parts: list[bytes] = []
    asleep = 0.0
    while True:
        ready, _, _ = select.select([read], [], [], 1)
        if not ready:
            asleep = time.monotonic() if not asleep or not _is_asleep(child) else asleep
            if time.monotonic() - asleep > _HUNG:
                return None
            continue
        part = os.read(read, 1 << 16)
        parts.append(part)
        try:
            return json.loads(b"".join(parts))
        except ValueError:
            if not part:
                return None


def _is_asleep(child: int) -> bool:
    """Whether no thread of a process runs, or waits for the processor."""
    try:
        tasks = list(Path(f"/proc/{child}/task").iterdir())
        states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks]
    except OSError:
        return True
    return all(state not in ("R", "D") for state in states)


class Replaced(MetaPathFinder):
    """Imports one module from another text.

    Args:
        root: of the repository.
        path: of the module, from there.
        source: the text.
    """

    def __init__(self, root: Path, path: str, source: str) -> None:
        self._file, self._source = root / path, source
        self._name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Where the module comes from."""
        if name != self._name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _Loader(name, str(self._file), self._source)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._text = source

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _FirstFailure:
    """Remembers which test fails first."""

    def __init__(self) -> None:
        self.test = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A report of a test."""
        if report.failed and not self.test:
            self.test = report.nodeid


def tested(root: Path, path: str, source: str, tests: Sequence[str]) -> dict[str, Any]:
    """What comes of tests where one file has another text: pytest's exit code, and the first that fails."""
    import pytest

    os.chdir(root)
    sys.path.insert(0, str(root))
    sys.meta_path.insert(0, Replaced(root, path, source))
    first = _FirstFailure()
    options = ["-x", "-q", "--no-header", "--no-summary", "-p", "no:cacheprovider", "-p", "no:randomly"]
    code = pytest.main([*options, *tests], plugins=[first])
    return {"code": int(code), "by": first.test}
