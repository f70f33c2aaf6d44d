"""What repair gains, and how long it takes against one plain pass over the same samples.

    python tools/bench_repair.py [models/digits-*.onnx] [--macs 0.7 0.5 0.3] [--samples 512]

Each network is pruned by `obs` and the budget to widths that kernels like, as `prune` does, repaired on the
calibration digits, and judged on the held-out ones: points of accuracy lost without repair and with it, and
seconds of repair over seconds of inference.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from onnxprune.calibration.places import requests
from onnxprune.calibration.run import measure
from onnxprune.cost.model import macs_model
from onnxprune.criteria import Context, get
from onnxprune.execution.sessions import open_session
from onnxprune.graph import Graph
from onnxprune.pipeline import Prepared, prepare
from onnxprune.pipeline.route import LIKED
from onnxprune.quality.drift import accuracy
from onnxprune.reductions.channels.cut import rewrite
from onnxprune.repair import Mode, Surgery, repair
from onnxprune.runtime import Session
from onnxprune.strategies.descent import Descent
from onnxprune.strategies.ladder import Ladder

MODELS = Path(__file__).parents[1] / "models"
BATCH = 32
PASSES = 5

Batches = Sequence[dict[str, np.ndarray]]


def batched(images: np.ndarray, size: int = BATCH) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(images), size):
        yield {"image": images[start : start + size]}


def surgeries(ready: Prepared, batches: Batches, shares: Sequence[float]) -> Iterator[tuple[float, Surgery]]:
    """What the default criterion leaves for each share of the MACs."""
    graph, facts, analysis = ready.graph, ready.facts, ready.analysis
    obs = get("obs")
    stats = measure(graph, requests(graph, facts, analysis, obs.needs), batches)
    scores = obs.scores(Context(graph, analysis, stats))
    ladders = [Ladder(g, s, round_to=LIKED) for g, s in zip(analysis.groups, scores, strict=True)]
    descent = Descent(analysis, ladders, macs_model(graph, facts, analysis))
    for share in shares:
        kept = descent.kept(share)
        yield share, Surgery(graph, facts, analysis, kept, rewrite(graph, facts, analysis, kept))


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
    for path in options.models:
        ready = prepare(path)
        whole = right(ready.graph, heldout)
        for share, surgery in surgeries(ready, batches, options.macs):
            before = whole - right(surgery.pruned, heldout)
            for name in options.modes:
                mode: Mode = name
                first = inference(ready.graph, batches)
                start = time.perf_counter()
                outcome = repair(surgery, mode, batches)
                spent = time.perf_counter() - start
                plain = (first + inference(ready.graph, batches)) / 2
                after = whole - right(outcome.graph, heldout)
                print(
                    f"{path.stem:20} {share:4g} {outcome.mode:6} {before:20.2f} {after:7.2f}"
                    f"   {spent:8.2f} / {plain:.3f} = {spent / plain:.1f}"
                )


if __name__ == "__main__":
    main()
