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
from onnxprune.contracts.choices import Mode
from onnxprune.contracts.groups import Choice
from onnxprune.cost.model import macs_model
from onnxprune.criteria import CRITERIA, Context, Criterion
from onnxprune.errors import UsageError
from onnxprune.graph import Graph
from onnxprune.pipeline.begin import begin
from onnxprune.pipeline.evidence import measured
from onnxprune.pipeline.run import start
from onnxprune.pipeline.search import Search
from onnxprune.reductions.channels import Channels
from onnxprune.runtime import Session
from onnxprune.strategies.allocation import Allocation
from onnxprune.strategies.curves import plain as ladders
from onnxprune.strategies.widths import Widths

MODELS = Path(__file__).parents[1] / "models"
NAMES = ("digits-residual", "digits-mobile", "digits-plain")
SHARES = (0.7, 0.5)
MODES: tuple[Mode, ...] = ("none", "auto")
SEEDS = {"random": (0, 1, 2)}
EVERYTHING = frozenset().union(*(c.needs for c in CRITERIA.values()))


def begun(model: Path, *, simplify: bool) -> Search:
    """A model, with all statistics of the samples that are not held back."""
    run = begin(
        model,
        pipeline.Options(macs=0.5, simplify=simplify, evaluations=0),
        calib=str(MODELS / "digits-calib.npz"),
    )
    network = run.setting.loaded.network
    evidence = measured(run.evidence, network, Channels().find(network).wanted(EVERYTHING))
    return start(replace(run, evidence=evidence))


def choices(search: Search, criterion: Criterion) -> Iterator[tuple[Choice, ...]]:
    """Which units stay for each share of the MACs, once for each seed.

    Raises:
        UsageError: the criterion has nothing to go by.
    """
    space, base, evidence = search.rated, search.base, search.evidence
    cost = macs_model(base.graph, base.facts, space.effect)
    for seed in SEEDS.get(criterion.name, (0,)):
        scores = criterion.scores(Context(space, evidence.stats, seed, evidence.fit))
        allocation = Allocation(ladders(space.groups, scores, Widths()), cost)
        yield tuple(allocation.choice(share) for share in SHARES)


def accuracy(graph: Graph) -> float:
    """In percent of the held-out digits."""
    with np.load(MODELS / "digits-heldout.npz") as file:
        images, labels = file["image"], file["labels"]
    session, right = Session(graph.serialized()), 0
    for first in range(0, len(images), 100):
        part = slice(first, first + 100)
        (scores,) = session.run({"image": images[part]}).values()
        right += int((scores.argmax(axis=1) == labels[part]).sum())
    return 100 * right / len(labels)


def cells(search: Search, criterion: Criterion) -> list[str]:
    """Accuracy for each share, without repair and with it."""
    try:
        chosen = list(choices(search, criterion))
    except UsageError as error:
        print(error)
        return ["–"] * (len(SHARES) * len(MODES))
    found = []
    for share in range(len(SHARES)):
        for mode in MODES:
            options = replace(search.options, repair=mode)
            mine = replace(search, setting=replace(search.setting, options=options))
            found.append(np.mean([accuracy(mine.maker.candidate(c[share]).graph) for c in chosen]))
    return [f"{value:.2f}" for value in found]


def rows(name: str) -> list[list[str]]:
    """The table of one network."""
    plain = begun(MODELS / f"{name}.onnx", simplify=True)
    made = [
        ["unpruned", f"{accuracy(plain.setting.loaded.original):.2f}", *[""] * (len(SHARES) * len(MODES) - 1)]
    ]
    for criterion in CRITERIA.values():
        started = time.perf_counter()
        scaled = criterion.name == "bn-scale"
        search = begun(MODELS / f"{name}-bn.onnx", simplify=False) if scaled else plain
        made.append([f"`{criterion.name}`", *cells(search, criterion)])
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
