"""The layers of docs/architecture.md, as written down in pyproject.toml, hold; and the check can fail."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"
MODULES = (
    *("__init__", "errors", "graph", "runtime", "ops", "contracts"),
    *("gradients", "calibration", "reductions", "tuning", "cli"),
)


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the package in `root`, with the contracts of the `pyproject.toml` there."""
    return subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS, "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_only_point_down():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def package(tmp_path):
    """An `onnxprune` of empty modules beside the real contracts."""
    package = tmp_path / "onnxprune"
    package.mkdir()
    for name in MODULES:
        (package / f"{name}.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return package


def test_empty_modules_break_nothing(package):
    assert lint_imports(package.parent).returncode == 0


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("errors", "import onnxprune.graph"),
        ("graph", "import onnxprune.runtime"),
        ("ops", "import onnxprune.contracts"),
        ("contracts", "import onnxprune.calibration"),
        ("ops", "import onnxprune.gradients"),
        ("gradients", "import onnxprune.calibration"),
        ("gradients", "import onnxruntime"),
        ("reductions", "import onnxprune.cli"),
        ("gradients", "import onnxprune.tuning"),
        ("reductions", "import onnx"),
        ("runtime", "from onnx import numpy_helper"),
        ("calibration", "from onnx import helper"),
        ("reductions", "import onnxruntime"),
    ],
)
def test_a_wrong_import_is_caught(package, module, line):
    (package / f"{module}.py").write_text(line, encoding="utf-8")
    done = lint_imports(package.parent)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout


def test_a_module_without_a_layer_is_caught(package):
    (package / "helpers.py").touch()
    done = lint_imports(package.parent)
    assert done.returncode == 1
    assert "onnxprune.helpers" in done.stdout


def test_only_the_proof_makes_what_is_proved():
    makers = {
        path.relative_to(ROOT / "onnxprune").parts[0]
        for path in (ROOT / "onnxprune").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Proved"
    }
    assert makers == {"proof"}
