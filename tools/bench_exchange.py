"""What exchange between groups gains: losses at the outputs, on samples that it has not seen.

    python tools/bench_exchange.py                                     # the digits
    python tools/bench_exchange.py MODEL CALIB.npz HELDOUT.npz --shares 0.5

Prints what is lost (see `onnxprune.quality.loss.Loss`) without and with `onnxprune.strategies.exchange`, at
shares of the multiply-accumulates, on multiples of 8 channels, and how long it takes to choose, without and
with it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from onnxprune import samples
from onnxprune.pipeline import Options
from onnxprune.pipeline.begin import begin
from onnxprune.pipeline.costs import after_exchange, allocation_problem
from onnxprune.pipeline.run import start
from onnxprune.quality.loss import Judge
from onnxprune.strategies.limits import widest_within

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
    started = time.perf_counter()
    search = start(begin(model, Options(macs=share, round_to=8), calib=str(calib)))
    problem = allocation_problem(search)
    plain = time.perf_counter()
    better = after_exchange(search, problem)
    done = time.perf_counter()
    loaded = search.setting.loaded
    judge = Judge(loaded.graph, samples.load(heldout, loaded.original).batches(BATCH))
    before, after = (judge.loss(search.maker.candidate(widest_within(w)).graph) for w in (problem, better))
    return before, after, plain - started, done - plain


if __name__ == "__main__":
    main()
