"""What fine-tuning gives back of what pruning and repair have left.

    python tools/bench_finetune.py [--models digits-mobile ...] [--shares 0.3 ...] [--page docs/finetuning.md]

Each network is pruned by default, and fine-tuned by default, on the 512 calibration digits, without labels.
Accuracy is that on the 2,500 held-out digits; CPU seconds are those of all threads.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from pages import replaced, table

from onnxprune import finetune, prune
from onnxprune.errors import Infeasible
from onnxprune.execution.sessions import open_session
from onnxprune.graph import Graph, load, save

MODELS = Path(__file__).parents[1] / "models"
NAMES = ("digits-residual", "digits-mobile", "digits-plain")
CALIB = str(MODELS / "digits-calib.npz")


def accuracy(graph: Graph) -> float:
    """In percent of the held-out digits."""
    with np.load(MODELS / "digits-heldout.npz") as file:
        images, labels = file["image"], file["labels"]
    session, right = open_session(graph), 0
    for first in range(0, len(images), 100):
        part = slice(first, first + 100)
        (scores,) = session.run({"image": images[part]}).values()
        right += int((scores.argmax(axis=1) == labels[part]).sum())
    return 100 * right / len(labels)


def pruned(name: str, share: float, folder: Path | None) -> Graph:
    """A network at a share of its MACs, read from a folder if it is there.

    Raises:
        Infeasible: the share can't be reached.
    """
    kept = None if folder is None else folder / f"{name}-{share}.onnx"
    if kept is not None and kept.exists():
        return load(kept)
    found = prune(MODELS / f"{name}.onnx", macs=share, calib=CALIB, measure_latency=False, force=True).graph
    if kept is not None:
        save(found, kept)
    return found


def row(name: str, share: float, folder: Path | None) -> list[str]:
    """One line of the table."""
    original = load(MODELS / f"{name}.onnx")
    try:
        small = pruned(name, share, folder)
    except Infeasible:
        return [name, f"{share:g}", "can't be reached", "", "", "", ""]
    started = time.process_time()
    result = finetune(small, original, CALIB)
    seconds = time.process_time() - started
    whole, before, after = (accuracy(graph) for graph in (original, small, result.graph))
    back = f"{(after - before) / (whole - before):.0%}" if whole - before >= 0.2 else "–"
    found = [f"{value:.2f}" for value in (whole, before, after)]
    return [name, f"{share:g}", *found, back, f"{seconds:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=NAMES, choices=NAMES)
    parser.add_argument("--shares", nargs="*", type=float, default=(0.3, 0.2, 0.1))
    parser.add_argument("--pruned", type=Path, help="A folder that keeps the pruned networks.")
    parser.add_argument("--page", type=Path, help="Write the table into this page.")
    asked = parser.parse_args()
    rows = []
    for name in asked.models:
        for share in asked.shares:
            rows.append(row(name, share, asked.pruned))
            print(*rows[-1], flush=True)
    header = ["network", "MACs", "before", "repaired", "fine-tuned", "of the loss given back", "CPU seconds"]
    text = table(header, rows)
    if asked.page:
        replaced(asked.page, "bench_finetune", text)


if __name__ == "__main__":
    main()
