"""What exchange between groups gains: losses at the outputs, on samples that it has not seen.

    python tools/bench_exchange.py                                     # the digits
    python tools/bench_exchange.py MODEL CALIB.npz HELDOUT.npz --shares 0.5

Prints what is lost (see `onnxprune.fidelity.Loss`) without and with `onnxprune.pipeline.exchange`, at shares
of the multiply-accumulates, on multiples of 8 channels, and how long it takes to choose, without and with it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from onnxprune import samples
from onnxprune.execution.timing import Timing
from onnxprune.pipeline import Budget, Settings
from onnxprune.pipeline.exchange import exchanged
from onnxprune.pipeline.job import tried
from onnxprune.pipeline.prune import begin
from onnxprune.pipeline.route import route, within
from onnxprune.quality.loss import Judge

MODELS = Path(__file__).parents[1] / "models"
DIGITS = [
    (MODELS / f"digits-{kind}.onnx", MODELS / "digits-calib.npz", MODELS / "digits-heldout.npz")
    for kind in ("residual", "mobile", "plain")
]
BATCH = 32


def main() -> None:
    """Print a line for each model and share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="a model, samples to calibrate, samples to judge")
    parser.add_argument("--shares", nargs="+", type=float, default=(0.7, 0.5, 0.3, 0.2))
    arguments = parser.parse_args()
    if len(arguments.files) not in (0, 3):
        parser.error("give a model and two files of samples, or nothing")
    print("| model | MACs | loss without | loss with | ratio | seconds without | seconds with |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for model, calib, heldout in [tuple(arguments.files)] if arguments.files else DIGITS:
        for share in arguments.shares:
            before, after, chosen, more = measured(model, calib, heldout, share)
            print(
                f"| {model.stem} | {share:g} | {before:.5f} | {after:.5f} | {after / before:.2f} "
                f"| {chosen:.1f} | {chosen + more:.1f} |",
                flush=True,
            )


def measured(model: Path, calib: Path, heldout: Path, share: float) -> tuple[float, float, float, float]:
    """Losses without and with it, seconds to choose without it, and seconds more with it."""
    budget = Budget(macs=share)
    started = time.perf_counter()
    job = begin(
        model,
        budget,
        Settings(round_to=8),
        Timing(),
        calib=str(calib),
        labels=None,
        stats=None,
        progress=lambda _: None,
    )
    way = route(job, budget.goals)
    plain = time.perf_counter()
    better = exchanged(job, way)
    done = time.perf_counter()
    judge = Judge(job.ready.graph, samples.load(heldout, job.ready.original).batches(BATCH))
    before, after = (judge.loss(tried(job, within(job, w)).graph) for w in (way, better))
    return before, after, plain - started, done - plain


if __name__ == "__main__":
    main()
