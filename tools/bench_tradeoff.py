"""Quality at equal latency: pruning for measured latency, against halving the MACs on any widths.

    python tools/bench_tradeoff.py --only digits-mobile --threads 1

One model is pruned with `--latency 0.6`. The others are pruned with `--macs`, at several shares and with
`--round-to 1`, as a tool does that counts and doesn't measure. All are timed side by side on this machine,
and judged on samples that none of them has seen. What counts is the best that is not slower than the first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from board import digits, lines
from board.task import Task

from onnxprune import prune
from onnxprune.contracts.timing import Timing
from onnxprune.errors import OnnxpruneError
from onnxprune.graph import load
from onnxprune.pipeline import Result
from onnxprune.runtime import ExecutionOptions, Ratio, Session, latency, ratio

LATENCY = 0.6
SHARES = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def timed(files: Sequence[Path], task: Task, options: ExecutionOptions, seconds: float) -> list[Ratio]:
    """Latencies of one sample, as ratios to the first file."""
    sessions = [Session(load(f).serialized(), options) for f in files]
    feeds = {name: np.asarray(array[:1]) for name, array in task.feeds.items()}
    times = latency(sessions, [feeds] * len(files), seconds=seconds * len(files)).seconds
    return [ratio(row, times[0]) for row in times[1:]]


def compared(task: Task, timing: Timing, seconds: float) -> str:
    """Rows of the table for one model."""
    ways: list[tuple[str, Callable[[], Result]]] = []

    def asked(**options: Any) -> Callable[[], Result]:
        return lambda: prune(
            task.model, calib=[task.calib], timing=timing, measure_latency=False, force=True, **options
        )

    ways.append((f"`--latency {LATENCY}`", asked(latency=LATENCY)))
    ways += [(f"`--macs {s} --round-to 1`", asked(macs=s, round_to=1)) for s in SHARES]
    with tempfile.TemporaryDirectory() as folder:
        files, names = [task.model], []
        for index, (name, run) in enumerate(ways):
            try:
                result = run()
            except OnnxpruneError as error:
                print(f"{task.name}, {name}: {error}")
                continue
            files.append(Path(folder) / f"{index}.onnx")
            result.save(files[-1])
            names.append(name)
        ratios = timed(files, task, timing.options, seconds)
        before, *after = (task.measure(f)[0] for f in files)
    rows = [
        f"| {task.name} | {name} | {r.value:.3f} [{r.low:.3f}, {r.high:.3f}] | {quality - before:+.2f} |"
        for name, r, quality in zip(names, ratios, after, strict=True)
    ]
    if names[0] == ways[0][0]:
        fair = [q for r, q in zip(ratios[1:], after[1:], strict=True) if r.value <= ratios[0].value]
        best = f"{max(fair) - before:+.2f}" if fair else "none"
        rows.append(f"| {task.name} | **best of these not slower than the first** | | {best} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=["digits-residual", "digits-mobile", "digits-plain"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0, help="to time each model")
    work = Path(tempfile.gettempdir()) / "onnxprune-scoreboard"
    parser.add_argument("--work", type=Path, default=work, help="folder of the scoreboard, with its wheels")
    args = parser.parse_args()
    timing = Timing(threads=args.threads)
    print("| model | asked for | latency, ratio | points |\n| --- | --- | --- | ---: |")
    for name in args.only:
        task = lines.orientation(args.work) if name == "orientation" else digits.digits(name)
        print(compared(task, timing, args.seconds), flush=True)


if __name__ == "__main__":
    main()
