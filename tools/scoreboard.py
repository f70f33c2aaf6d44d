"""What pruning costs in quality, beside other tools: regenerates `docs/scoreboard.md`.

    pip install pillow
    python tools/scoreboard.py                           # everything; hours
    python tools/scoreboard.py --only digits --fast      # a look, two minutes, printed

The networks in `models/` and models out of wheels are pruned to shares of their MACs by this project's
command line and by other tools, each in an environment of its own in the work folder; the first run says how
to make those. Nothing is trained, and no tool sees labels. Every model is judged by its own metric on samples
that no tool saw. What ran before is kept in the work folder and runs again only when the package, the model
or the samples have changed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from board import digits, files, lines, photos
from board.cells import Book, Section, section, source_version
from board.run import ONNXSIM, ROOT, TORCH, Method, onnxprune, onnxsim, torch_pruning
from board.table import OURS, TITLES, details, summary
from board.task import Task
from board.wheels import Missing

SHARES = (0.9, 0.8, 0.7, 0.5, 0.3)
TASKS: Mapping[str, Callable[[Path], Task]] = {
    **{name: partial(lambda name, _: digits.digits(name), name) for name in digits.NAMES},
    "reading": lines.reading,
    "orientation": lines.orientation,
    "files": files.file_types,
    "detection": photos.detection,
}
HEADER = """\
# Scoreboard

What pruning costs in quality, without training and without labels. Every number is measured by
`python tools/scoreboard.py`, the peers' too: nothing is quoted. {machine}

- **default** is `onnxprune prune MODEL -o OUT --macs SHARE --calib SAMPLES`: what consumers lose decides
  which channels go; what each group, and whole candidates, do to the network's own output decides where; and
  the weights that are left are repaired in closed form.
- `--steps 4` is the same in four steps, each repaired before the next is chosen.
- `l1`, no repair is `--criterion l1 --repair none`, without samples.
- onnxsim 0.8.1 is the best of its four ways: uncalibrated or calibrated, each by layer or with one threshold.
- Torch-Pruning 1.6.1 is the best of five criteria (L1, L2, LAMP, FPGM, BN scale), each by layer or with one
  threshold, on the PyTorch twins of the networks in `models/`.

MACs are counted by `onnxprune` on every tool's file. The best way of a peer is chosen on the samples to judge
on, which favours the peer. Latency is a ratio to the original, measured side by side with a batch of one, and
its 95% interval. Seconds and memory of a peer are those of its process; its search for the sparsity that
meets the budget is in the seconds.

## Points lost by the default

The first metric of each model, in points, at shares of its MACs.

{summary}

## Details

{details}
"""


def main() -> int:
    """Run what is due, and write the scoreboard."""
    arguments = parse_arguments()
    work: Path = arguments.work
    chosen = [n for n in TASKS if not arguments.only or any(n.startswith(o) for o in arguments.only)]
    methods, shares = tuple(arguments.methods), tuple(arguments.shares)
    if arguments.fast:
        chosen = [name for name in chosen if not name.endswith("-bn")]
        methods, shares = ("l1", OURS), (0.7, 0.3)
    missing = []
    for name in chosen:
        try:
            book = Book(work, TASKS[name](work))
        except Missing as error:
            missing.append(str(error))
            continue
        book.describe()
        for method in methods:
            missing += fill(book, method, work, shares, arguments.keep_stale)
        if arguments.latency:
            for method in methods:
                for share in shares:
                    book.time(method, share)
    for line in dict.fromkeys(missing):
        print(f"missing: {line}", file=sys.stderr)
    listed = chosen if arguments.fast else TASKS
    sections = [found for name in listed if (found := section(work, name, tuple(TITLES), SHARES)) is not None]
    if arguments.fast:
        print(summary(sections, shares))
    else:
        arguments.out.write_text(document(sections), encoding="utf-8")
        print(f"{arguments.out} is written")
    return 1 if missing else 0


def fill(book: Book, name: str, work: Path, shares: Sequence[float], keep_stale: bool) -> list[str]:
    """Run a method where that is due, and say what came out; returns what is missing."""
    make, version = METHODS[name]
    try:
        for share, cell in book.fill(name, make(work), version(), shares, keep_stale=keep_stale):
            values = ", ".join(f"{value:.2f}" for value in cell.metrics)
            print(f"{book.task.name} {share:g} {name}: {cell.error or values} {cell.way}", flush=True)
    except Missing as error:
        return [str(error)]
    return []


METHODS: Mapping[str, tuple[Callable[[Path], Method], Callable[[], str]]] = {
    "l1": (lambda _: onnxprune("--criterion", "l1", "--repair", "none", calibrated=False), source_version),
    OURS: (lambda _: onnxprune(calibrated=True), source_version),
    "steps": (lambda _: onnxprune("--steps", "4", calibrated=True), source_version),
    "onnxsim": (onnxsim, lambda: " ".join(ONNXSIM)),
    "torch-pruning": (torch_pruning, lambda: " ".join(TORCH)),
}


def document(sections: Sequence[Section]) -> str:
    """The whole file."""
    now = {method: version() for method, (_, version) in METHODS.items()}
    old = sum(cell.version != now[method] for s in sections for (method, _), cell in s.cells.items())
    machine = (
        f"The machine: {os.cpu_count()} cores, {platform.machine()}, ONNX Runtime {onnxruntime_version()}."
    )
    age = f" {old} cells are of an earlier version of a tool." if old else ""
    return HEADER.format(
        machine=machine + age,
        summary=summary(sections, SHARES),
        details="\n\n".join(details(section, SHARES) for section in sections),
    )


def onnxruntime_version() -> str:
    return importlib.metadata.version("onnxruntime")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Regenerate docs/scoreboard.md.")
    parser.add_argument("--only", nargs="+", help=f"only tasks that begin so; there are {', '.join(TASKS)}")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="only these")
    parser.add_argument(
        "--shares", nargs="+", type=float, default=SHARES, help="only these shares of the MACs"
    )
    parser.add_argument("--fast", action="store_true", help="few cells, no peers, printed")
    stale = "leave what an older version of the package gave"
    parser.add_argument("--keep-stale", action="store_true", help=stale)
    parser.add_argument("--latency", action="store_true", help="measure the latency of what is there, too")
    default = Path(tempfile.gettempdir()) / "onnxprune-scoreboard"
    parser.add_argument(
        "--work", type=Path, default=default, help="folder of wheels, environments and results"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "scoreboard.md", help="file to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
