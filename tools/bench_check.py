"""How long `onnxprune check` takes, and how much memory, on a model with two gigabytes of external data.

    python tools/bench_check.py [--gigabytes 2]

The data is sparse: it takes no space on a file system that knows holes. The check runs in a process of its
own, so that what is measured is what a user waits for, start included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from onnx import ModelProto, TensorProto, helper

WIDTH = 4096
"""Of a layer: a weight of 64 MiB."""


def model(layers: int, data: str) -> ModelProto:
    """A chain of Gemm and Relu whose weights lie in `data`."""
    size = 4 * WIDTH * WIDTH
    nodes, weights = [], []
    for k in range(layers):
        weight = TensorProto(name=f"w{k}", dims=[WIDTH, WIDTH], data_type=TensorProto.FLOAT)
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": data, "offset": k * size, "length": size}.items():
            weight.external_data.add(key=key, value=str(value))
        weights.append(weight)
        nodes.append(helper.make_node("Gemm", [f"r{k}", f"w{k}"], [f"g{k}"], f"gemm{k}"))
        nodes.append(helper.make_node("Relu", [f"g{k}"], [f"r{k + 1}"], f"relu{k}"))
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("r0", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info(f"r{layers}", TensorProto.FLOAT, ["batch", WIDTH])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def timed(*arguments: str, cwd: Path) -> tuple[float, float, float]:
    """Seconds, those of the processor, and the peak in MB; the peak is that of all commands so far."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, busy, after.ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    layers = max(1, round(parser.parse_args().gigabytes * 1e9 / (4 * WIDTH * WIDTH)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "large.onnx").write_bytes(model(layers, "large.data").SerializeToString())
        with (folder / "large.data").open("wb") as data:
            data.truncate(layers * 4 * WIDTH * WIDTH)
        limits = (
            '[[check.models]]\npath = "large.onnx"\nsize = "100 GB"\nmacs = "+2%"\npeak-memory = "100 GB"\n'
        )
        (folder / "onnxprune.toml").write_text(limits)
        start = timed("-m", "onnxprune", "--help", cwd=folder)
        graph = timed("-m", "onnxprune", "check", cwd=folder)
        weights = timed("-m", "onnxprune", "check", "--measure", "dead-channels", cwd=folder)
    print(f"{layers * 4 * WIDTH * WIDTH / 1e9:.2f} GB of external data in {layers} layers")
    for what, (seconds, busy, megabytes) in {
        "onnxprune --help": start,
        "check, graph only": graph,
        "check with dead channels": weights,
    }.items():
        print(f"{what:26} {seconds:6.2f} s {busy:6.2f} s CPU {megabytes:8.0f} MB")


if __name__ == "__main__":
    main()
