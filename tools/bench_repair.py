"""What repair gains, and how long it takes against one plain pass over the same samples.

    python tools/bench_repair.py [models/digits-*.onnx] [--macs 0.7 0.5 0.3] [--samples 512]

Each network is pruned by `obs` and the budget to widths that kernels like, as `prune` does, repaired on the
calibration digits that `prune` doesn't hold back, and judged on the held-out ones: points of accuracy lost
without repair and with it, and seconds of repair over seconds of inference.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from onnxprune.contracts.choices import Mode
from onnxprune.contracts.groups import Choice
from onnxprune.cost.model import macs_model
from onnxprune.execution.sessions import open_session
from onnxprune.graph import Graph
from onnxprune.pipeline import Options
from onnxprune.pipeline.begin import begin
from onnxprune.pipeline.run import start
from onnxprune.pipeline.search import Search
from onnxprune.quality.drift import accuracy
from onnxprune.runtime import Session
from onnxprune.strategies.allocation import Allocation
from onnxprune.strategies.curves import plain
from onnxprune.strategies.widths import DEFAULT_MULTIPLE, Widths

MODELS = Path(__file__).parents[1] / "models"
BATCH = 32
PASSES = 5

Batches = Sequence[dict[str, np.ndarray]]


def batched(images: np.ndarray, size: int = BATCH) -> Iterator[dict[str, np.ndarray]]:
    for first in range(0, len(images), size):
        yield {"image": images[first : first + size]}


def searched(path: Path, images: np.ndarray, mode: Mode) -> Search:
    """A network whose candidates are repaired in this way, with statistics of all samples."""
    options = Options(macs=0.5, repair=mode, evaluations=0)
    return start(begin(path, options, calib=[{"image": image[None]} for image in images]))


def choices(search: Search, shares: Sequence[float]) -> Iterator[tuple[float, Choice]]:
    """What the default criterion leaves for each share of the MACs."""
    space, base = search.rated, search.base
    ladders = plain(space.groups, search.scores(), Widths(DEFAULT_MULTIPLE))
    allocation = Allocation(ladders, macs_model(base.graph, base.facts, space.effect))
    for share in shares:
        yield share, allocation.choice(share)


def inference(graph: Graph, batches: Batches) -> float:
    """Seconds of one pass, the median of some, the first batch apart."""
    session = open_session(graph)
    session.run(batches[0])
    return float(np.median([seconds(session, batches) for _ in range(PASSES)]))


def seconds(session: Session, batches: Batches) -> float:
    start = time.perf_counter()
    for feeds in batches:
        session.run(feeds)
    return time.perf_counter() - start


def right(graph: Graph, heldout: Sequence[tuple[dict[str, np.ndarray], np.ndarray]]) -> float:
    """Per cent."""
    session = open_session(graph)
    return 100 * accuracy(session, heldout).value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, default=sorted(MODELS.glob("digits-*.onnx")))
    parser.add_argument("--macs", nargs="+", type=float, default=[0.7, 0.5, 0.3])
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--modes", nargs="+", default=["auto"])
    options = parser.parse_args()
    batches = list(batched(np.load(MODELS / "digits-calib.npz")["image"][: options.samples]))
    held = np.load(MODELS / "digits-heldout.npz")
    labels = [held["labels"][k : k + BATCH] for k in range(0, len(held["labels"]), BATCH)]
    heldout = list(zip(batched(held["image"]), labels, strict=True))
    print(f"{'network':20} MACs mode   points lost: before   after   repaired / inference seconds")
    images = np.load(MODELS / "digits-calib.npz")["image"][: options.samples]
    for path in options.models:
        for name in options.modes:
            search = searched(path, images, name)
            whole = right(search.base.graph, heldout)
            for share, choice in choices(search, options.macs):
                before = whole - right(search.maker.cut(choice).network.graph, heldout)
                first = inference(search.base.graph, batches)
                began = time.perf_counter()
                made = search.maker.candidate(choice).repaired
                spent = time.perf_counter() - began
                plainly = (first + inference(search.base.graph, batches)) / 2
                after = whole - right(made.graph, heldout)
                print(
                    f"{path.stem:20} {share:4g} {made.mode:6} {before:20.2f} {after:7.2f}"
                    f"   {spent:8.2f} / {plainly:.3f} = {spent / plainly:.1f}"
                )


if __name__ == "__main__":
    main()
