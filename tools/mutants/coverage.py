"""Which tests run which line, and how long they take: recorded once, a file of tests at a time."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .positions import statement


class _Contexts:
    """Tells coverage which test runs, and notes how long each takes and whether it passes."""

    def __init__(self, measured: Any) -> None:
        self._measured = measured
        self._began = 0.0
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self._measured.switch_context(nodeid)
        self._began = time.process_time()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """It has ended."""
        self.seconds[nodeid] = round(time.process_time() - self._began, 4)
        self._measured.switch_context("")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """How it went."""
        if not report.passed:
            self.failed.add(report.nodeid)


def recorded(root: Path, files: Sequence[str], tests: str) -> dict[str, Any]:
    """Seconds of each test that passes, and for every line of some files which of these run it.

    Args:
        root: of the repository.
        files: whose lines matter, from there.
        tests: a file of tests, from there.
    """
    # Beside the tool there is a file of the library's name.
    sys.path[:] = [str(root), *(folder for folder in sys.path if Path(folder) != root / "tools")]
    os.chdir(root)
    import pytest

    coverage = importlib.import_module("coverage")
    measured = coverage.Coverage(
        data_file=None, config_file=False, include=[str(root / file) for file in files]
    )
    contexts = _Contexts(measured)
    measured.start()
    pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", tests], plugins=[contexts])
    measured.stop()
    data = measured.get_data()
    names = [name for name in contexts.seconds if name not in contexts.failed]
    number = {name: k for k, name in enumerate(names)}
    lines = {
        file: {
            line: sorted(number[one] for one in found if one in number)
            for line, found in data.contexts_by_lineno(str(root / file)).items()
        }
        for file in files
    }
    return {"tests": [[name, contexts.seconds[name]] for name in names], "lines": lines}


@dataclass
class Coverage:
    """What was recorded.

    Attributes:
        seconds: of each test.
        lines: file -> line -> tests that run it.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)

    def add(self, recording: dict[str, Any]) -> None:
        """Take in what one file of tests runs."""
        names = [name for name, _ in recording["tests"]]
        self.seconds.update(dict(recording["tests"]))
        for file, lines in recording["lines"].items():
            own = self.lines.setdefault(file, {})
            for line, found in lines.items():
                own.setdefault(int(line), set()).update(names[k] for k in found)

    def tests(self, path: str, source: str, line: int) -> list[str]:
        """The tests that run the statement of a line, quick files first.

        What runs when a file is imported belongs to no test: then all that run anything of the file.
        """
        own = self.lines.get(path, {})
        lines, imported = statement(source, line)
        found = {name for k in (own if imported else lines) for name in own.get(k, ())}
        files: dict[str, list[str]] = {}
        for name in sorted(found, key=lambda n: (self.seconds[n], n)):
            files.setdefault(name.partition("::")[0], []).append(name)

        def mean(file: str) -> float:
            return sum(self.seconds[name] for name in files[file]) / len(files[file])

        return [name for file in sorted(files, key=mean) for name in files[file]]

    def within(self, tests: Sequence[str], seconds: float) -> list[str]:
        """The quickest of some tests, in their order, that take no longer together; one at least."""
        chosen, total = set[str](), 0.0
        for name in sorted(tests, key=lambda n: self.seconds[n]):
            total += self.seconds[name]
            if chosen and total > seconds:
                break
            chosen.add(name)
        return [name for name in tests if name in chosen]


def read(folder: Path) -> Coverage:
    """All recordings of a folder."""
    found = Coverage()
    for recording in _recordings(folder):
        found.add(recording)
    return found


def _recordings(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.json")):
        yield json.loads(file.read_text("utf-8"))
