"""Commands under faults: killed while they write, on a full disk, without rights, short of memory."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from faults import in_child
from projects import network

from onnxprune.errors import InputError
from onnxprune.execution.prefix import Shelf

HERE = Path(__file__).parent
ROOT = HERE.parent


def killed(command: str, step: int) -> dict[str, object]:
    told = subprocess.run(
        [sys.executable, str(HERE / "killed.py"), command, str(step)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, object] = json.loads(told.stdout)
    return found


@pytest.mark.parametrize("command", ["prune", "check"])
def test_a_killed_command_leaves_all_of_its_outputs_or_none(command):
    found = killed(command, 8)
    assert found["wrong"] == []
    assert found["ends"] == [False, True]


@pytest.mark.real
@pytest.mark.parametrize("command", ["prune", "in place of old weights", "calibrate", "check"])
def test_wherever_it_is_killed(command):
    found = killed(command, 1)
    assert found["wrong"] == []
    assert found["ends"] == [False, True]
    assert found["runs"] > 10


# ---------------------------------------------------------------- what the system forbids


@pytest.fixture
def folder(tmp_path):
    onnx.save(network(width=64), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32))
    return tmp_path


def limited(
    folder: Path, arguments: list[str], before: Callable[[], None]
) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own; `before` runs in it first."""
    return subprocess.run(
        [sys.executable, "-m", "onnxprune", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ONNXPRUNE_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        preexec_fn=before,
        check=False,
    )


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} - {"cache"}


PRUNE = ["prune", "m.onnx", "-o", "out.onnx", "--ratio", "0.5", "--quiet", "--plan-out", "plan.json"]
WRITING = {
    "prune": PRUNE,
    "calibrate": ["calibrate", "m.onnx", "--calib", "x.npz", "-o", "s.npz", "--quiet"],
    "check": ["check", "m.onnx", "--update", "--baseline", "base.json"],
    "report": ["check", "m.onnx", "--format", "json=report.json"],
    "profile": ["profile", "m.onnx", "--profile-out", "t.json", "--quiet"],
}


@pytest.mark.parametrize("command", WRITING)
def test_a_full_disk(folder, command):
    """As the system tells it of a file that may not grow: one line, exit code 2, and nothing new."""

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    before = names(folder)
    done = limited(folder, WRITING[command], small)
    assert done.returncode == 2, done
    assert "can't be written (File too large)" in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("onnxprune:")]) == 1
    assert "Traceback" not in done.stderr
    assert names(folder) == before


def test_a_full_temporary_folder(tmp_path, monkeypatch):
    """What is mapped from a full disk would end the process; it is one line instead."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def task() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            Shelf(0).put(np.zeros(1000))
        except InputError as error:
            os._exit(7 if "no room for activations (File too large)" in str(error) else 8)

    assert in_child(task) == 7
    shelf = Shelf(0)
    array = np.arange(1000.0).reshape(10, 100).T
    np.testing.assert_array_equal(shelf.put(array), array)
    shelf.close()


@pytest.mark.parametrize(
    "megabytes", [pytest.param(m, marks=pytest.mark.real) for m in (150, 300, 500)] + [800]
)
def test_little_memory(folder, megabytes):
    """Of address space; what the interpreter itself can't do without is not ours to tell."""

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    before = names(folder)
    done = limited(folder, [*PRUNE, "--calib", "x.npz"], little)
    after = names(folder)
    assert after in (before, before | {"out.onnx", "plan.json"})
    assert (done.returncode == 0) == ("out.onnx" in after)


def test_the_promises_name_tests_that_are_there():
    text = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    named = re.findall(r"`(\w+)::(?:\w+::)?(test_\w+)`", text)
    assert len(named) > 40
    for file, name in named:
        assert f"def {name}(" in (HERE / f"test_{file}.py").read_text("utf-8"), (file, name)
