"""CPU time of starting: of `import onnxprune` and of commands, as multiples of importing their libraries.

    python tools/bench_start.py [--runs N]

Each figure is the least of N processes, with the libraries' own threads held to one.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

MODEL = str(Path(__file__).parent.parent / "models/digits-plain.onnx")
RUN = [sys.executable, "-m", "onnxprune"]

LIBRARIES = [sys.executable, "-c", "import numpy, onnx, cyclopts"]

STARTS: Mapping[str, tuple[list[str], float | None]] = {
    "import onnxprune": ([sys.executable, "-c", "import onnxprune"], 1.2),
    "onnxprune --help": ([*RUN, "--help"], 1.2),
    "onnxprune prune --help": ([*RUN, "prune", "--help"], None),
    "onnxprune inspect MODEL": ([*RUN, "inspect", MODEL], 2),
    "onnxprune check MODEL": ([*RUN, "check", MODEL], 2),
}
"""What is started, and how many times the CPU time of the libraries it may take."""


def cpu_seconds(command: Sequence[str], runs: int) -> float:
    """The least CPU time of some runs, in user and in system mode."""
    found, env = [], os.environ | {"OMP_NUM_THREADS": "1"}
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=False, env=env, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def main() -> None:
    """Print a row for each start."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    libraries = cpu_seconds(LIBRARIES, runs)
    print(f"{libraries:.3f} s: numpy, onnx and cyclopts")
    for name, (command, limit) in STARTS.items():
        seconds = cpu_seconds(command, runs)
        allowed = "" if limit is None else f" (at most {limit:g})"
        print(f"{seconds:.3f} s, {seconds / libraries:.2f} times as much{allowed}: {name}")


if __name__ == "__main__":
    main()
