"""What starts fast loads nothing that it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parent.parent / "models/digits-plain.onnx"

HEAVY = {
    "scipy",
    "onnxruntime",
    "onnxslim",
    "jsonschema",
    "matplotlib",
    "PIL",
    "pandas",
    "sympy",
    "hypothesis",
}
"""Never needed to look at a model or to ask for help."""

CODE = """
import atexit, sys
atexit.register(lambda: sys.stderr.write("loaded " + " ".join(sorted(sys.modules))))
"""


def loaded(code: str, *arguments: str) -> set[str]:
    """Names of all modules that a program has loaded by its end."""
    done = subprocess.run(
        [sys.executable, "-c", CODE + code, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.rpartition("loaded ")[2].split())


def command(*arguments: str) -> set[str]:
    return loaded("from onnxprune.cli import main; main()", *arguments)


def test_importing_loads_no_library():
    found = loaded("import onnxprune")
    assert not found & (HEAVY | {"numpy", "onnx", "cyclopts", "rich"})
    assert not any(name.startswith("onnxprune.") for name in found - {"onnxprune.errors"})


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([c, "--help"] for c in ("prune", "apply"))]
)
def test_help_loads_no_model_library(arguments):
    assert not command(*arguments) & (HEAVY | {"onnx", "onnxprune.graph", "onnxprune.criteria"})


@pytest.mark.parametrize("arguments", [["inspect", MODEL], ["check", MODEL], ["diff", MODEL, MODEL]], ids=str)
def test_looking_at_a_model_runs_nothing(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    found = command(*map(str, arguments))
    assert not found & (HEAVY | {"onnx.reference", "onnxprune.repair", "onnxprune.criteria"})


def test_pruning_loads_what_it_needs(tmp_path):
    found = command(
        "prune", str(MODEL), "-o", str(tmp_path / "small.onnx"), "--ratio", "0.5", "-q", "--force"
    )
    assert {"onnxruntime", "onnxprune.repair", "onnxprune.criteria"} <= found
