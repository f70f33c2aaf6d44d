"""What calibration costs against plain inference of the same samples, in time and in memory.

    python tools/bench_calibration.py [--models PATH ...] [--page docs/calibration.md]

Every batch runs in turns through the model as it is and through the one that gives statistics (the default
ones), on the same threads; of each batch and contender the fastest round counts, so that what else the
machine does cancels. ONNX Runtime's own calibrators of quantization, MinMax and Entropy, run on the same
samples and threads, with what they do in Python. Peak memory is that of processes of their own.

Real models are looked for in the installed packages rapidocr-onnxruntime and nudenet, or in a folder that
`pip install --no-deps --target FOLDER` put them in, named with `--packages`; without them they are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator
from pages import replaced, table

from onnxprune import calibration, pipeline
from onnxprune.calibration.meter import Meter
from onnxprune.graph import input_specs, load
from onnxprune.runtime import ExecutionOptions, Session

ROOT = Path(__file__).parents[1]
SHIPPED = tuple(ROOT / "models" / f"digits-{kind}.onnx" for kind in ("residual", "mobile", "plain"))
REAL = (
    ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx"),
    ("nudenet", "320n.onnx"),
)
SIZE = 320
"""Of images where a model takes any."""
FEW, MANY = 64, 1024
METHODS = {"ort-minmax": CalibrationMethod.MinMax, "ort-entropy": CalibrationMethod.Entropy}

Feeds = dict[str, np.ndarray]


def batches(model: Path, count: int, batch: int) -> Iterator[Feeds]:
    """Digits for the shipped networks, noise for others."""
    (spec,) = input_specs(load(model))
    if model.parent == ROOT / "models":
        with np.load(ROOT / "models" / "digits-heldout.npz") as file:
            images = file["image"][:count]
        for start in range(0, count, batch):
            yield {spec.name: images[start : start + batch]}
        return
    shape = [d if isinstance(d, int) else SIZE for d in spec.shape[1:]]
    rng = np.random.default_rng(0)
    for start in range(0, count, batch):
        size = (min(batch, count - start), *shape)
        yield {spec.name: rng.standard_normal(size, np.float32).astype(spec.dtype)}


def prepared_meter(model: Path) -> Meter:
    ready = pipeline.prepare(model)
    wanted = calibration.requests(ready.network, ready.channels.wanted(calibration.DEFAULT_NEEDS))
    return Meter(ready.graph, tuple(wanted.values()))


def ratio(model: Path, count: int, batch: int, threads: int, rounds: int) -> tuple[float, float]:
    """Seconds of plain inference, and how many times as long statistics take."""
    meter = prepared_meter(model)
    options = ExecutionOptions(threads=threads)
    plain, augmented = Session(model, options), Session(meter.graph.serialized(), options)

    def infer(feeds: Feeds) -> None:
        plain.run(feeds)

    def gather(feeds: Feeds) -> None:
        meter.add(augmented.run(meter.feeds(feeds)))

    contenders: tuple[Callable[[Feeds], None], ...] = (infer, gather)
    best = np.full((-(-count // batch), 2), np.inf)
    for turn in range(rounds + 1):
        for k, feeds in enumerate(batches(model, count, batch)):
            for which in (0, 1) if (turn + k) % 2 else (1, 0):
                started = time.perf_counter()
                contenders[which](feeds)
                if turn:  # the first round warms up
                    best[k, which] = min(best[k, which], time.perf_counter() - started)
    seconds = best.sum(axis=0)
    return float(seconds[0]), float(seconds[1] / seconds[0])


class Reader(CalibrationDataReader):
    """Batches for ONNX Runtime's calibrators."""

    def __init__(self, model: Path, count: int, batch: int) -> None:
        self._left = batches(model, count, batch)

    def get_next(self) -> Feeds | None:
        """The next batch, `None` after the last."""
        return next(self._left, None)


def quantization(model: Path, method: str, count: int, batch: int, threads: int) -> float:
    """Seconds of one of ONNX Runtime's calibrators, without loading the model."""
    with tempfile.TemporaryDirectory() as folder:
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(
            model, augmented_model_path=augmented, calibrate_method=METHODS[method]
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # as it does itself
        calibrator.infer_session = ort.InferenceSession(augmented, options, ["CPUExecutionProvider"])
        started = time.perf_counter()
        with contextlib.redirect_stdout(None):
            calibrator.collect_data(Reader(model, count, batch))
            calibrator.compute_data()
        return time.perf_counter() - started


def once(model: Path, what: str, count: int, batch: int) -> None:
    """The work whose peak memory is measured, in this process."""
    if what in METHODS:
        quantization(model, what, count, batch, 1)
        return
    ready = pipeline.prepare(model)
    wanted = calibration.requests(ready.network, ready.channels.wanted(calibration.DEFAULT_NEEDS))
    options = ExecutionOptions(threads=1)
    calibration.measure(ready.graph, wanted, batches(model, count, batch), options=options)


def peak_here() -> float:
    """Peak memory of this process, in megabytes."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1000  # getrusage would count what the process was before exec, too


def peak(model: Path, what: str, count: int, batch: int) -> float:
    """Peak memory of a process of its own, in megabytes."""
    command = [sys.executable, __file__, "--once", what, "--models", str(model)]
    done = subprocess.run(
        [*command, "--count", str(count), "--batch", str(batch)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def real_models(packages: Path | None) -> list[Path]:
    found = []
    for package, inner in REAL:
        spec = importlib.util.find_spec(package)
        folder = (
            packages / package if packages else Path(spec.origin).parent if spec and spec.origin else None
        )
        if folder is None or not (folder / inner).is_file():
            print(f"left out: {package} (pip install --no-deps {package})")
        else:
            found.append(folder / inner)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, nargs="*", help="By default the shipped ones and real ones.")
    parser.add_argument("--packages", type=Path, help="Folder that the real models' packages are in.")
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", type=Path, help="Write the tables into this page.")
    parser.add_argument("--once", help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.once:
        once(said.models[0].resolve(), said.once, said.count, said.batch)
        print(peak_here())
        return
    times, memory = [], []
    models = [path.resolve() for path in said.models or ()]
    for model in models or [*SHIPPED, *real_models(said.packages)]:
        small = model.parent == ROOT / "models"
        count, batch = (said.count, said.batch) if small else (16, 4)
        seconds, ours = ratio(model, count, batch, said.threads, said.rounds)
        others = [quantization(model, m, count, batch, said.threads) / seconds for m in METHODS]
        times.append([f"`{model.stem}`", str(count), f"{1000 * seconds / count:.2f}"])
        times[-1] += [f"{value:.2f}" for value in (ours, *others)]
        print(times[-1], flush=True)
        if small:
            for what in ("onnxprune", *METHODS):
                few, many = (peak(model, what, n, said.batch) for n in (FEW, MANY))
                memory.append([f"`{model.stem}`", what, f"{few:.0f}", f"{many:.0f}", f"{many / few:.2f}"])
                print(memory[-1], flush=True)
    text = "\n\n".join(
        (
            table(("model", "samples", "plain, ms a sample", "onnxprune", "MinMax", "Entropy"), times),
            table(("model", "calibrator", f"MB at {FEW}", f"MB at {MANY}", "ratio"), memory, left=2),
        )
    )
    if said.page:
        replaced(said.page, "bench_calibration", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
