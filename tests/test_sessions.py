"""Models that protobuf can't hold in one file."""

from __future__ import annotations

import tempfile

import numpy as np
import onnx
import pytest
from nets import Net

import onnxprune.execution.sessions
import onnxprune.graph.core
import onnxprune.graph.files
from onnxprune.execution.sessions import open_session
from onnxprune.graph import Graph
from onnxprune.pipeline import prune


@pytest.fixture
def small_limit(monkeypatch):
    """As if protobuf held no more than this."""
    for module in (onnxprune.graph.core, onnxprune.graph.files, onnxprune.execution.sessions):
        monkeypatch.setattr(module, "PROTOBUF_LIMIT", 12_000)


def classifier() -> onnx.ModelProto:
    n = Net("large")
    x = n.Relu(n.conv(n.input("batch", 3, 4, 4), 32, kernel=(3, 3), pads=[1] * 4))
    x = n.Relu(n.conv(x, 24, kernel=(3, 3), pads=[1] * 4))
    n.output(n.gemm(n.Flatten(x), 5))
    return n.finished()


def test_a_large_model_runs_and_leaves_no_file(small_limit, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    graph = Graph(classifier())
    x = np.ones((2, 3, 4, 4), np.float32)
    session = open_session(graph)
    assert not list(tmp_path.iterdir())
    (found,) = session.run({graph.inputs[0]: x}).values()
    monkeypatch.undo()
    (expected,) = open_session(graph).run({graph.inputs[0]: x}).values()
    np.testing.assert_array_equal(found, expected)


def test_a_large_model_is_measured_chosen_and_repaired_like_a_small_one(small_limit, monkeypatch):
    graph = Graph(classifier())
    x = np.random.default_rng(0).standard_normal((96, 3, 4, 4)).astype(np.float32)
    calib = [{graph.inputs[0]: part} for part in np.array_split(x, 3)]
    large = prune(graph, macs=0.6, calib=calib, measure_latency=False, simplify=False)
    monkeypatch.undo()
    small = prune(graph, macs=0.6, calib=calib, measure_latency=False, simplify=False)
    assert graph.size() > 12_000
    assert large.model == small.model
