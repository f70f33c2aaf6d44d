"""Tools that measure what the docs say still go with the package."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
NAMES = sorted(path.stem for path in TOOLS.glob("*.py") if path.stem != "train_models")
"""PyTorch, which that one needs, is not installed for tests."""


@pytest.fixture
def tool(monkeypatch):
    """Import one of `tools/` by name."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module


@pytest.mark.parametrize("name", NAMES)
def test_every_tool_loads(tool, name):
    assert tool(name).__doc__


def test_the_table_of_criteria_has_a_number_for_each_share_and_mode(tool):
    table = tool("criteria_table")
    job = table.begun(table.MODELS / "digits-residual.onnx", simplify=True)
    found = [float(value) for value in table.cells(job, table.CRITERIA["hessian"])]
    assert len(found) == len(table.SHARES) * len(table.MODES)
    assert max(found[0::2]) < min(found[1::2]) <= 100, "repaired networks read more digits"


def test_the_benchmark_of_repair_prunes_to_the_share(tool):
    bench = tool("bench_repair")
    images = bench.np.load(bench.MODELS / "digits-calib.npz")["image"][:64]
    search = bench.searched(bench.MODELS / "digits-residual.onnx", images, "fold")
    ((share, choice),) = bench.choices(search, [0.5])
    assert share == 0.5
    assert not choice.removes_nothing()


def test_the_tables_of_options_are_up_to_date(tool):
    reference = tool("options_reference")
    text = reference.PAGE.read_text("utf-8")
    assert reference.page(text) == text, "run tools/options_reference.py"
