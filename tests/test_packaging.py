"""What the package needs is what it says it needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def normal(name: str) -> str:
    """A distribution as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    """The distributions that the package may use."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {normal(re.split(r"[^\w.-]", r, maxsplit=1)[0]) for group in groups for r in group}


def imported(file: Path) -> set[str]:
    """Top-level modules that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"onnxprune"}


def test_every_import_is_a_declared_dependency():
    """What is not installed is not looked at; google.protobuf comes with onnx, which is made of it."""
    installed, allowed = packages_distributions(), declared()
    undeclared = {
        (str(file.relative_to(ROOT)), module)
        for file in (ROOT / "onnxprune").rglob("*.py")
        for module in imported(file) - {"google"}
        if module in installed and not {normal(d) for d in installed[module]} & allowed
    }
    assert undeclared == set()


def test_errors_of_the_command_line_are_told_from_bugs(capsys):
    from onnxprune.cli import run

    assert run(["prune", "--zzz"]) == 2
    assert capsys.readouterr().err.startswith("onnxprune: Unknown option: --zzz; see")
