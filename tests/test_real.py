"""Real models keep their own metric; `tools/scoreboard.py` measures the same at every share."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

import onnxprune

pytest.importorskip("PIL", reason="needs pillow")
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from board import files, lines, photos
from board.wheels import Missing

pytestmark = pytest.mark.real
WORK = Path(tempfile.gettempdir()) / "onnxprune-scoreboard"
TASKS = {
    "reading": lines.reading,
    "orientation": lines.orientation,
    "files": files.file_types,
    "detection": photos.detection,
}


@pytest.fixture(params=TASKS, scope="module")
def task(request):
    try:
        return TASKS[request.param](WORK)
    except Missing as error:
        pytest.skip(str(error))


def test_the_samples_suit_the_original(task):
    assert task.measure(task.model)[0] > 95


@pytest.mark.parametrize(("share", "points"), [(0.9, 1.0), (0.8, 3.0)])
def test_little_is_lost(task, share, points, tmp_path):
    result = onnxprune.prune(task.model, macs=share, calib=[dict(task.calib)], measure_latency=False)
    small = tmp_path / "small.onnx"
    result.save(small)
    assert result.verdict.after.macs <= share * result.verdict.before.macs
    assert task.measure(small)[0] >= task.measure(task.model)[0] - points
