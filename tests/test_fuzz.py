"""Mutated files for every command: what was ever found, and a fixed sample of new ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.jsonl"))


def fuzzed(*arguments: str) -> str:
    """What the tool says; it runs in a process of its own, as it forks."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "fuzz.py"), "--jobs", "1", "--no-shrink", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_what_was_ever_found_is_clean(file):
    cases = sum(bool(line.strip()) for line in file.read_text().splitlines())
    assert f"{cases} inputs, " in fuzzed("--replay", str(file))


@pytest.mark.parametrize(("kind", "inputs"), [("model", 6), ("bytes", 2), ("files", 6)])
def test_a_sample_of_mutated_files_is_clean(kind, inputs):
    assert "\n0 unclean, 0 kinds" in fuzzed("--kind", kind, "--inputs", str(inputs), "--seed", "5")


@pytest.mark.real
@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_mutated_files_are_clean(seed):
    assert "\n0 unclean, 0 kinds" in fuzzed("--inputs", "250", "--seed", str(1000 + seed))
