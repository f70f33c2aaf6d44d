"""Accuracy of the shipped networks pruned by each criterion, without repair and with it.

    python tools/criteria_table.py [--models digits-plain ...] [--page docs/criteria.md]

Budgets are spread over layers by the scores alone (`--evals 0`, any number of channels), so that the table
says what criteria are worth and not what measuring layers makes up for. `random` is the mean of three seeds.
Statistics and repair use 358 of the 512 calibration digits, accuracy is that on the 2,500 held-out ones.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from pages import replaced, table

from onnxprune import measure, pipeline
from onnxprune.criteria import CRITERIA, Criterion
from onnxprune.errors import OnnxpruneError

MODELS = Path(__file__).parents[1] / "models"
NAMES = ("digits-residual", "digits-mobile", "digits-plain")
SHARES = (0.7, 0.5)
SEEDS = {"random": (0, 1, 2)}
EVERYTHING = frozenset().union(*(c.needs for c in CRITERIA.values()))


def accuracy(
    model: Path, criterion: Criterion, share: float, repair: str, stats: measure.Stats
) -> float | None:
    """In percent; `None` where the criterion has nothing to go by."""
    found = []
    for seed in SEEDS.get(criterion.name, (0,)):
        try:
            result = pipeline.prune(
                model,
                macs=share,
                criterion=criterion,
                repair=repair,
                stats=stats if criterion.needs else None,
                calib=str(MODELS / "digits-calib.npz"),
                labels=MODELS / "digits-heldout.npz",
                evaluations=0,
                round_to=1,
                seed=seed,
                force=True,
                measure_latency=False,
            )
        except OnnxpruneError as error:
            if criterion.needs or criterion.name == "bn-scale":
                print(f"{criterion.name}: {error}")
                return None
            raise
        found.append(100 * result.verdict.accuracy[1].value)
    return float(np.mean(found))


def statistics(model: Path) -> measure.Stats:
    """Of the samples that are not held back."""
    ready = pipeline.prepare(model)
    samples = pipeline.opened(str(MODELS / "digits-calib.npz"), ready.graph)
    fit = pipeline.gather(ready, CRITERIA["l1"], samples, None).fit
    wanted = measure.requests(ready.graph, ready.facts, ready.analysis, EVERYTHING)
    return measure.measure(ready.graph, wanted, fit.batches(32), source="digits-calib.npz")


def rows(name: str) -> list[list[str]]:
    """The table of one network."""
    stats = statistics(MODELS / f"{name}.onnx")
    made = []
    for criterion in CRITERIA.values():
        file = f"{name}-bn.onnx" if criterion.name == "bn-scale" else f"{name}.onnx"
        started, cells = time.perf_counter(), []
        for share in SHARES:
            for repair in ("none", "auto"):
                value = accuracy(MODELS / file, criterion, share, repair, stats)
                cells.append("–" if value is None else f"{value:.2f}")
        print(name, criterion.name, *cells, f"{time.perf_counter() - started:.0f} s", flush=True)
        made.append([f"`{criterion.name}`", *cells])
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
