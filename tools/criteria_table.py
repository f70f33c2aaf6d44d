"""Accuracy of the shipped networks pruned by each criterion, without repair and with it.

    python tools/criteria_table.py [--models digits-plain ...] [--page docs/criteria.md]

Budgets are spread over layers by the scores alone (as `prune --evals 0 --round-to 1` does), so that the table
says what criteria are worth and not what measuring layers makes up for. `random` is the mean of three seeds.
Statistics and repair use the calibration digits that `prune` doesn't hold back, accuracy is that on the 2,500
held-out ones.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from pages import replaced, table

from onnxprune import pipeline
from onnxprune.cost.model import macs_model
from onnxprune.criteria import CRITERIA, Criterion
from onnxprune.errors import UsageError
from onnxprune.graph import Graph
from onnxprune.pipeline.job import Job, tried
from onnxprune.repair import Mode
from onnxprune.runtime import Session
from onnxprune.strategies.descent import Descent
from onnxprune.strategies.ladder import Ladder
from onnxprune.types import Mask

MODELS = Path(__file__).parents[1] / "models"
NAMES = ("digits-residual", "digits-mobile", "digits-plain")
SHARES = (0.7, 0.5)
MODES: tuple[Mode, ...] = ("none", "auto")
SEEDS = {"random": (0, 1, 2)}
EVERYTHING = frozenset().union(*(c.needs for c in CRITERIA.values()))


def begun(model: Path, *, simplify: bool) -> Job:
    """A model, with all statistics of the samples that are not held back."""
    ready = pipeline.prepare(model, simplify=simplify)
    samples = pipeline.opened(str(MODELS / "digits-calib.npz"), ready.graph)
    evidence = pipeline.gather(ready, EVERYTHING, samples, None)
    return Job(ready, evidence, CRITERIA["l1"], pipeline.Settings())


def choices(job: Job, criterion: Criterion) -> Iterator[tuple[Mask, ...]]:
    """Which units stay for each share of the MACs, once for each seed.

    Raises:
        UsageError: the criterion has nothing to go by.
    """
    ready = job.ready
    cost = macs_model(ready.graph, ready.facts, ready.analysis)
    for seed in SEEDS.get(criterion.name, (0,)):
        scores = criterion.scores(pipeline.context(ready, job.evidence, seed))
        ladders = [Ladder(g, s) for g, s in zip(ready.analysis.groups, scores, strict=True)]
        descent = Descent(ready.analysis, ladders, cost)
        yield tuple(descent.kept(share) for share in SHARES)


def accuracy(graph: Graph) -> float:
    """In percent of the held-out digits."""
    with np.load(MODELS / "digits-heldout.npz") as file:
        images, labels = file["image"], file["labels"]
    session, right = Session(graph.serialized()), 0
    for start in range(0, len(images), 100):
        part = slice(start, start + 100)
        (scores,) = session.run({"image": images[part]}).values()
        right += int((scores.argmax(axis=1) == labels[part]).sum())
    return 100 * right / len(labels)


def cells(job: Job, criterion: Criterion) -> list[str]:
    """Accuracy for each share, without repair and with it."""
    try:
        kept = list(choices(job, criterion))
    except UsageError as error:
        print(error)
        return ["–"] * (len(SHARES) * len(MODES))
    found = []
    for share in range(len(SHARES)):
        for mode in MODES:
            mine = replace(job, settings=replace(job.settings, repair=mode))
            found.append(np.mean([accuracy(tried(mine, masks[share]).graph) for masks in kept]))
    return [f"{value:.2f}" for value in found]


def rows(name: str) -> list[list[str]]:
    """The table of one network."""
    plain = begun(MODELS / f"{name}.onnx", simplify=True)
    made = [["unpruned", f"{accuracy(plain.ready.original):.2f}", *[""] * (len(SHARES) * len(MODES) - 1)]]
    for criterion in CRITERIA.values():
        started = time.perf_counter()
        scaled = criterion.name == "bn-scale"
        job = begun(MODELS / f"{name}-bn.onnx", simplify=False) if scaled else plain
        made.append([f"`{criterion.name}`", *cells(job, criterion)])
        print(name, *made[-1], f"{time.perf_counter() - started:.0f} s", flush=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=NAMES, choices=NAMES)
    parser.add_argument("--page", type=Path, help="Write the tables into this page.")
    said = parser.parse_args()
    for name in said.models:
        header = ["criterion", *(f"{s:g} of the MACs{r}" for s in SHARES for r in ("", ", repaired"))]
        text = table(header, rows(name))
        if said.page:
            replaced(said.page, f"criteria_table {name}", text)
        else:
            print(text)


if __name__ == "__main__":
    main()
