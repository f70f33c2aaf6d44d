"""Every file of the zoo: pruned, and judged by the oracle of `tools`, which knows nothing of the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_coverage_oracle import coverage, oracle

from onnxprune import prune

ZOO = Path(__file__).resolve().parents[2] / "shared" / "zoo"
INDEX = json.loads((ZOO / "index.json").read_text())["models"] if ZOO.exists() else []
WHOLE = {"timm_convnextv2_atto__legacy": "a mean over all channels normalises every layer"}
"""Files of which nothing can go, and why."""

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.skipif(not INDEX, reason="there is no zoo of exported graphs in ../shared/zoo"),
]


@pytest.mark.parametrize("entry", [pytest.param(e, id=e["name"]) for e in INDEX])
def test_file(entry: dict[str, Any], tmp_path: Path) -> None:
    if entry["name"] in WHOLE:
        pytest.skip(WHOLE[entry["name"]])
    settings = coverage.Settings(ZOO, "", ratio=0.5, timeout=60, tied=False, threads=1)
    model, out = tmp_path / "model.onnx", tmp_path / "pruned.onnx"
    assert coverage.fill(settings, ZOO / entry["file"], model) == ""
    result = prune(
        model, ratio=0.5, criterion="l1", repair="none", simplify=False, force=True, measure_latency=False
    )
    result.save(out)
    verdict = oracle.judge(str(model), str(out), entry["feed"], threads=1)
    model.unlink()
    out.unlink()
    assert verdict.status == "exact", verdict.reason
    assert verdict.params[1] < 0.9 * verdict.params[0]
