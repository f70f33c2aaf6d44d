"""Every file of the zoo: differentiated in every weight, and held against central differences, or refused."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
ZOO = Path(__file__).resolve().parents[2] / "shared" / "zoo"
INDEX = json.loads((ZOO / "index.json").read_text())["models"] if ZOO.exists() else []

REFUSED = {"BatchNormalization: BatchNormalization is in training mode"}
"""What may be in the way: weights that are standardised by a BatchNormalization over themselves."""

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.skipif(not INDEX, reason="there is no zoo of exported graphs in ../shared/zoo"),
]


@pytest.mark.parametrize("entry", [pytest.param(e, id=e["name"]) for e in INDEX])
def test_file(entry: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    coverage, gradients = (importlib.import_module(n) for n in ("coverage", "gradient_coverage"))
    model = tmp_path / "model.onnx"
    settings = coverage.Settings(ZOO, "", ratio=0.0, timeout=60, tied=False, threads=1)
    assert coverage.fill(settings, ZOO / entry["file"], model) == ""
    row = gradients.examine(entry["name"], model, entry["feed"], check=True)
    model.unlink()
    assert row.obstacles.keys() <= REFUSED
    if row.obstacles:
        return
    assert row.weights
    assert row.right, (row.error, row.alone)
