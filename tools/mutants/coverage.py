"""Which tests run which line, and how long they take: recorded once, a file of tests at a time."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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

    def tests(self, path: str, source: str, line: int) -> frozenset[str]:
        """The tests that run the statement of a line.

        What runs when a file is imported belongs to no test: then all that run anything of the file.
        """
        own = self.lines.get(path, {})
        lines, imported = statement(source, line)
        return frozenset(name for k in (own if imported else lines) for name in own.get(k, ()))

    def within(self, tests: Iterable[str], seconds: float) -> list[str]:
        """Some of these tests, in the order in which they shall run: one at least, and no more than fit.

        Cases of one test are much alike: the quickest case of each test comes first, then the second ones.
        Of these, tests of one file run together, and files of quick tests first.

        Args:
            tests: to choose from.
            seconds: that the chosen ones take together.
        """
        ranks: dict[str, int] = {}
        seen: Counter[str] = Counter()
        for name in sorted(tests, key=lambda n: (self.seconds[n], n)):
            ranks[name] = seen[_function(name)]
            seen[_function(name)] += 1
        chosen, total = list[str](), 0.0
        for name in sorted(ranks, key=lambda n: (ranks[n], self.seconds[n], n)):
            if not chosen or total + self.seconds[name] <= seconds:
                chosen.append(name)
                total += self.seconds[name]
        files: dict[str, list[float]] = {}
        for name in chosen:
            files.setdefault(_file(name), []).append(self.seconds[name])
        means = {file: sum(found) / len(found) for file, found in files.items()}
        return sorted(chosen, key=lambda n: (ranks[n] > 0, means[_file(n)], _file(n), self.seconds[n], n))


def _file(test: str) -> str:
    return test.partition("::")[0]


def _function(test: str) -> str:
    return test.partition("[")[0]


def read(folder: Path) -> Coverage:
    """All recordings of a folder."""
    found = Coverage()
    for recording in _recordings(folder):
        found.add(recording)
    return found


def _recordings(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.json")):
        yield json.loads(file.read_text("utf-8"))
