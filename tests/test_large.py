"""A real file of 3 GB, made on the spot: minutes, and 5 GB of disk."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxprune.graph import external_files, load

pytestmark = pytest.mark.real

WIDTH, LAYERS = 8192, 11
MEMORY = 12 << 30


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven layers of 8192 x 8192, written without ever holding two of them."""
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < MEMORY * 4 // 3:
        pytest.skip("needs a machine with 16 GB of memory")
    path = tmp_path_factory.mktemp("large") / "large.onnx"
    rng = np.random.default_rng(0)
    nodes, weights, read = [], [], "x"
    with path.with_name("large.bin").open("wb") as data:
        for k in range(LAYERS):
            weight = TensorProto(name=f"w{k}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
            weight.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", "large.bin"),
                ("offset", data.tell()),
                ("length", WIDTH * WIDTH * 4),
            ):
                weight.external_data.add(key=key, value=str(value))
            data.write(rng.standard_normal((WIDTH, WIDTH), np.float32) / np.float32(WIDTH**0.5))
            weights.append(weight)
            nodes.append(helper.make_node("MatMul", [read, f"w{k}"], [f"m{k}"], f"layer{k}"))
            nodes.append(helper.make_node("Relu", [f"m{k}"], [f"r{k}"], f"relu{k}"))
            read = f"r{k}"
    make = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "large",
        [make("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [make(read, TensorProto.FLOAT, ["batch", WIDTH])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def run(*arguments: str) -> str:
    """Run a command; it may take no more memory than is promised."""
    command = [sys.executable, "-m", "onnxprune", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < MEMORY
    return done.stdout


def test_a_file_of_3_gb_is_inspected(large):
    assert "total: 738 M parameters" in run("inspect", str(large))


def test_a_file_of_3_gb_is_pruned(large):
    out = large.with_name("small.onnx")
    said = run("prune", str(large), "-o", str(out), "--ratio", "0.25", "--repair", "none")
    assert "exact" in said
    assert external_files(out) == ()
    assert load(out).parameters() < 0.6 * load(large, weights=False).parameters()
