#!/usr/bin/env python3
"""What a step with gradients costs against a plain inference of the same batch, in time and in memory.

    tools/bench_gradients.py [--models PATH[@SIZE] ...] [--batch 32] [--page docs/gradients.md]

Each network runs in turns as it is and with gradients, on one thread. Given are the ratio of the fastest
rounds, for what else the machine does only adds time, and in parentheses the median ratio of neighbouring
rounds. `step`: the gradients of all weights, which are inputs, as in training. `frozen`: the same with
weights as constants, at one point. `gates`: the gradients, by sample, of gates on what every layer reads, as
criteria need them. Memory is what runs take beyond the loaded session, in processes of their own.

PATH@SIZE feeds images of SIZE pixels to a network whose input may be any size. By default the networks in
models/ are measured; files of a zoo are filled with `skeleton.py materialize`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from pages import replaced, table

from onnxprune.gradients import Gate, GradientGraph, backward, cross_entropy, weights_of
from onnxprune.graph import Graph, infer, input_specs
from onnxprune.runtime import Binding, ExecutionOptions, Feeds, Session, latency

MODELS = sorted((Path(__file__).parents[1] / "models").glob("digits-*.onnx"))
KINDS = ("inference", "step", "frozen", "gates")
OPTIONS = ExecutionOptions(threads=1)
WARM = 3


@dataclass(frozen=True)
class Job:
    """A network and what it is fed."""

    path: Path
    size: int | None
    batch: int

    @property
    def name(self) -> str:
        """In the table."""
        return self.path.stem + (f", {self.size} pixels" if self.size else "")


def graph_of(job: Job) -> Graph:
    model = onnx.load(job.path)
    if job.size:
        dims = model.graph.input[0].type.tensor_type.shape.dim
        dims[2].dim_value = dims[3].dim_value = job.size
        del model.graph.value_info[:]
    return Graph(model, job.path)


def feeds_of(graph: Graph, batch: int) -> Feeds:
    (spec,) = input_specs(graph)
    shape = [batch, *(d if isinstance(d, int) else 1 for d in spec.shape[1:])]
    return {spec.name: np.random.default_rng(0).standard_normal(shape).astype(spec.dtype)}


def gradient_of(graph: Graph, kind: str) -> GradientGraph:
    """Of the cross entropy of the first output: by all weights, or by gates at what convolutions read."""
    facts = infer(graph)
    loss = cross_entropy(graph, facts, graph.outputs[0])
    if kind != "gates":
        return backward(graph, facts, loss, weights_of(graph), frozen=kind == "frozen")
    gates = [
        Gate(n.inputs[0], (1,), (n.outputs[0], 0))
        for n in graph.nodes
        if n.op in ("Conv", "Gemm") and n.inputs[0] in graph.producer
    ]
    return backward(graph, facts, loss, [], gates=gates, reduction="sum")


class Step:
    """A gradient graph, as `latency` runs it: weights bound once."""

    def __init__(self, gradient: GradientGraph) -> None:
        weights = {name: np.array(value) for name, value in gradient.weights.items()}
        buffers = {gradient.gradients[name]: np.zeros_like(value) for name, value in weights.items()}
        self._binding = Binding(Session(gradient.graph.serialized(), OPTIONS), weights, buffers)

    def bind(self, feeds: Feeds, /) -> Callable[[], object]:
        """See `Session.bind`."""
        return lambda: self._binding.run(feeds)


def prepared(job: Job, kind: str) -> tuple[Session | Step, Feeds]:
    graph = graph_of(job)
    feeds = feeds_of(graph, job.batch)
    if kind == "inference":
        return Session(graph.serialized(), OPTIONS), feeds
    labels = {f"{graph.outputs[0]}.labels": np.arange(job.batch) % 10}
    return Step(gradient_of(graph, kind)), {**feeds, **labels}


def peak(job: Job, kind: str) -> float:
    """MB of a process of its own, above what it holds before the first run."""
    command = [sys.executable, __file__, "--models", f"{job.path}@{job.size or ''}", "--memory-of", kind]
    done = subprocess.run([*command, "--batch", str(job.batch)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def memory_of(job: Job, kind: str) -> float:
    runner, feeds = prepared(job, kind)
    run = runner.bind(feeds)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
    before = resident("VmRSS")
    for _ in range(WARM):
        run()
    return (resident("VmHWM") - before) / 1024


def resident(key: str) -> int:
    """Kilobytes: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def row(job: Job, seconds: float) -> list[str]:
    """Milliseconds of an inference, ratios of the others, and memory."""
    runners, feeds = zip(*(prepared(job, kind) for kind in KINDS), strict=True)
    times = latency(runners, feeds, seconds=seconds).seconds * 1e3
    fastest, ratios = times.min(1), np.median(times / times[0], axis=1)
    memory = {kind: peak(job, kind) for kind in KINDS[:2]}
    cells = [f"{fastest[k] / fastest[0]:.2f} ({ratios[k]:.2f})" for k in range(1, len(KINDS))]
    return [job.name, str(job.batch), f"{fastest[0]:.1f}", *cells, *(f"{m:.0f}" for m in memory.values())]


HEADER = ["network", "batch", "inference, ms", "step", "frozen", "gates", "memory, MB", "with gradients, MB"]


def jobs(names: list[str], batch: int) -> list[Job]:
    parts = [name.partition("@") for name in names]
    return [Job(Path(path), int(size) if size else None, batch) for path, _, size in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=[str(p) for p in MODELS], metavar="PATH[@SIZE]")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20.0, help="to measure each network")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    parser.add_argument("--memory-of", choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    found = jobs(args.models, args.batch)
    if args.memory_of:
        print(memory_of(found[0], args.memory_of))
        return
    rows = []
    print("  ".join(HEADER))
    for job in found:
        rows.append(row(job, args.seconds))
        print("  ".join(rows[-1]), flush=True)
    if args.page:
        replaced(args.page, "ratios", table(HEADER, rows))


if __name__ == "__main__":
    main()
