#!/usr/bin/env python3
"""Which files of a zoo can be differentiated in every weight, and whether the gradients are right.

    tools/gradient_coverage.py ZOO_DIR [--check] [--only PATTERN] [--page docs/gradients.md] [--json FILE]

ZOO_DIR holds `index.json`, weight-free skeletons of ONNX files, and `skeleton.py` that fills them with
weights. Each file is filled and examined in a process of its own. A weight is any constant of floating-point
numbers, more than one, that an output depends on and that isn't a setting such as the scales of a Resize.

`--check` also runs the gradients of a random projection of all outputs, and compares them with central
differences of that projection: along all weights together, and along some of them alone.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from coverage import Settings, fill, last_line
from oracle import samples
from pages import replaced, table

from onnxprune.gradients import (
    Runner,
    backward,
    differentiable,
    linear,
    prepared,
    weights_of,
)
from onnxprune.graph import Facts, Graph, infer, input_specs, is_floating, load
from onnxprune.runtime import ExecutionOptions

Array = np.ndarray[Any, np.dtype[Any]]

SECONDS = 900
ALONE = 6
"""How many weights are checked on their own."""
STEPS = (1e-3, 1e-4, 3e-5, 1e-2, 1e-5)
"""Relative to the norm of a weight; of the differences the closest counts: rounding and kinks only add. Once
one is close enough, no more are taken."""
CLOSE = 0.002
GAINS = (1.0, 0.7, 0.5)
"""Factors on kernels and matrices: a deep network of random weights may be chaotic, where no difference tells
its slope; the first factor counts at which differences agree."""
TOLERANCE = 0.02


@dataclass
class Row:
    """What was found of one file.

    Attributes:
        name: of the file.
        weights: how many weights there are that an output depends on.
        fixed: how many of them have no gradient.
        obstacles: what is in the way: operator and reason -> how many weights are behind it.
        nodes: of the graph and of the one with gradients.
        error: relative, along all weights together.
        alone: the largest error along one weight alone, relative to what all together change.
        seconds: to examine it.
        problem: why it couldn't be examined or run.
    """

    name: str
    weights: int = 0
    fixed: int = 0
    obstacles: dict[str, int] = field(default_factory=dict)
    nodes: tuple[int, int] = (0, 0)
    error: float | None = None
    alone: float | None = None
    seconds: float = 0.0
    problem: str = ""

    @property
    def whole(self) -> bool:
        """Whether every weight has a gradient."""
        return not self.problem and not self.fixed

    @property
    def right(self) -> bool:
        """Whether what was compared agrees."""
        return all(e is None or e < TOLERANCE for e in (self.error, self.alone))


def sizes(graph: Graph, feeds: dict[str, Array]) -> dict[str, int]:
    """The symbolic dimensions, as they are fed."""
    found: dict[str, int] = {}
    for spec in input_specs(graph):
        for axis, (length, size) in enumerate(zip(spec.shape, feeds[spec.name].shape, strict=True)):
            if not isinstance(length, int):
                found[length or f"{spec.name}[{axis}]"] = size
    return found


def examine(name: str, model: Path, feed: dict[str, Any], check: bool) -> Row:
    row, started = Row(name), time.perf_counter()
    graph = load(model)
    # A row that is masked whole has scores that float32 loses behind the mask: differences tell nothing.
    flags = {n for n, spec in feed.items() if not spec["dtype"].startswith("f") and spec.get("high", 2) <= 2}
    feeds = {n: np.ones_like(a) if n in flags else a for n, a in samples(feed).items()}
    graph, facts = prepared(graph, infer(graph, sizes(graph, feeds)))
    coverage = differentiable(graph, facts, weights_of(graph))
    row.weights = len(coverage.differentiable) + len(coverage.fixed)
    row.fixed = len(coverage.fixed)
    for obstacle, names in coverage.obstacles.items():
        key = f"{obstacle.op}: {obstacle.reason}"
        row.obstacles[key] = row.obstacles.get(key, 0) + len(names)
    if check and coverage.differentiable:
        compare(row, graph, facts, coverage.differentiable, feeds)
    row.seconds = time.perf_counter() - started
    return row


def compare(row: Row, graph: Graph, facts: Facts, wrt: Sequence[str], feeds: dict[str, Array]) -> None:
    """The gradients of a random projection of the outputs against central differences."""
    outputs = [o for o in graph.outputs if is_floating(facts.dtypes[o])]
    gradient = backward(graph, facts, linear(graph, facts, *outputs), wrt, keep=outputs)
    row.nodes = (len(graph.nodes), len(gradient.graph.nodes))
    rng = np.random.default_rng(0)
    projection = {}
    for output in outputs:
        shape = facts.shapes[output] or ()
        projection[output] = (rng.standard_normal(shape) / np.sqrt(np.prod(shape))).astype(np.float32)
    runner = Runner(gradient, ExecutionOptions(threads=1))
    given = {**feeds, **{f"{o}.target": t for o, t in projection.items()}}
    original = {n: w.copy() for n, w in runner.weights.items()}
    for gain in GAINS:
        for n, w in runner.weights.items():
            w[...] = original[n] * (gain if w.ndim > 1 else 1)
        row.error, row.alone = errors(runner, given, projection)
        if row.right:
            break


def errors(runner: Runner, given: dict[str, Array], projection: dict[str, Array]) -> tuple[float, float]:
    """The error along all weights together, and the largest along one of some alone."""
    rng = np.random.default_rng(0)
    found = {n: g.astype(np.float64) for n, g in runner.step(given).gradients.items()}
    start = {n: w.copy() for n, w in runner.weights.items()}
    norms = {n: float(np.linalg.norm(w)) or 1.0 for n, w in start.items()}
    lengths = {n: float(np.linalg.norm(g)) for n, g in found.items()}
    ways = {n: found[n] / lengths[n] * norms[n] if lengths[n] else found[n] for n in start}

    def slope(names: Sequence[str], step: float) -> float:
        values = []
        for sign in (1, -1):
            for n in names:
                runner.weights[n][...] = start[n] + sign * step * ways[n]
            kept = runner.step(given).kept  # float32 sums would hide small changes
            values.append(sum(float(np.vdot(kept[o].astype(np.float64), t)) for o, t in projection.items()))
        for n in names:
            runner.weights[n][...] = start[n]
        return (values[0] - values[1]) / (2 * step)

    def closest(names: Sequence[str], size: float) -> float:
        """The error relative to a size."""
        told, error = sum(float((found[n] * ways[n]).sum()) for n in names), np.inf
        for step in STEPS:
            error = min(error, abs(slope(names, step) - told) / size)
            if error < CLOSE:
                break
        return float(error)

    whole = sum(lengths[n] * norms[n] for n in start) + 1e-30
    if not np.isfinite(whole):
        return float("inf"), float("inf")
    some = [str(n) for n in rng.permutation(list(start))[:ALONE]]
    alone = (closest([n], max(lengths[n] * norms[n], 1e-3 * whole)) for n in some)
    return closest(list(start), whole), max(alone, default=0.0)


def one(settings: Settings, entry: dict[str, Any], check: bool) -> Row:
    """A file, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="gradients-") as folder:
        model = Path(folder, "model.onnx")
        problem = fill(settings, settings.zoo / entry["file"], model)
        if problem:
            return Row(entry["name"], problem=problem)
        command = [sys.executable, __file__, str(settings.zoo), "--file", str(model), "--only", entry["name"]]
        try:
            done = subprocess.run(
                [*command, *(["--check"] if check else [])],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Row(entry["name"], problem="timed out")
        if done.returncode:
            return Row(entry["name"], problem=last_line(done.stderr) or f"exit code {done.returncode}")
        return Row(**json.loads(done.stdout.splitlines()[-1]))


def line(row: Row) -> str:
    errors = "" if row.error is None else f"{row.error:.1e} {row.alone:.1e}"
    why = row.problem or "; ".join(f"{n} behind {o}" for o, n in row.obstacles.items())
    state = "whole" if row.whole else "part"
    state = state if row.right else "WRONG"
    have = f"{row.weights - row.fixed:5}/{row.weights:<5}"
    return f"{row.name:44} {state:6}{have}{errors:18}{row.seconds:6.1f} s  {why}"


def summary(rows: Sequence[Row]) -> list[str]:
    whole = [r for r in rows if r.whole]
    checked = [r for r in rows if r.error is not None]
    share = len(whole) / max(len(rows), 1)
    weights, fixed = sum(r.weights for r in rows), sum(r.fixed for r in rows)
    lines = [
        f"{len(rows)} files; every weight has a gradient in {len(whole)} ({share:.1%})",
        f"weights with a gradient: {weights - fixed} of {weights}",
    ]
    if checked:
        right = sum(r.right for r in checked)
        lines.append(f"compared with central differences: {len(checked)} files, {right} agree")
    return lines


def page_text(rows: Sequence[Row]) -> str:
    parts = [
        [r.name, f"{r.weights - r.fixed} of {r.weights}", "; ".join(r.obstacles) or r.problem]
        for r in rows
        if not r.whole
    ]
    listed = "\n".join(f"- {x}" for x in summary(rows))
    return f"{listed}\n\n{table(['file', 'weights', 'in the way'], parts, left=3)}" if parts else listed


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("zoo", type=Path, help="folder with index.json and skeleton.py")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="shell pattern of names")
    parser.add_argument("--check", action="store_true", help="compare with central differences")
    parser.add_argument("--jobs", type=int, default=1, help="files at the same time")
    parser.add_argument("--page", type=Path, help="write the totals and what is not covered into this page")
    parser.add_argument("--json", type=Path, help="write all rows to this file")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Examine the zoo; print rows as they come, then the summary."""
    args = options(argv)
    index = json.loads((args.zoo / "index.json").read_text())["models"]
    entries = [entry for entry in index if fnmatch.fnmatch(entry["name"], args.only)]
    if args.file:
        (entry,) = entries
        print(json.dumps(asdict(examine(entry["name"], args.file, entry["feed"], args.check))))
        return 0
    settings = Settings(args.zoo.resolve(), "", 0.0, SECONDS, False, 1)
    rows = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for row in pool.map(lambda entry: one(settings, entry, args.check), entries):
            rows.append(row)
            print(line(row), flush=True)
    print("", *summary(rows), sep="\n")
    if args.page:
        replaced(args.page, "coverage", page_text(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return int(any(not row.right for row in rows))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
