"""A model with samples to calibrate on, samples to judge on, and its own metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnxprune.runtime import ExecutionOptions, Session

Array = npt.NDArray[np.generic]
Feeds = Mapping[str, Array]
_BATCH = 32


@dataclass(frozen=True, eq=False)
class Task:
    """What a pruned model is asked to do.

    Attributes:
        name: short, for `--only` and file names.
        title: for the table.
        model: the ONNX file to prune.
        calib: inputs by name, (samples, ...): all that a tool may see. No labels.
        feeds: inputs by name, (samples, ...), to judge on; none of them is in `calib`.
        metrics: what is measured, in percent, higher is better; the first one counts.
        score: the outputs of the model (one array for each, (samples, ...)) to the value of each metric.
        twin: the recipe of `tools/train_models.py` that the model was exported from, if any.
    """

    name: str
    title: str
    model: Path
    calib: Feeds
    feeds: Feeds
    metrics: tuple[str, ...]
    score: Callable[[list[Array]], tuple[float, ...]]
    twin: str | None = None

    def measure(self, model: Path) -> tuple[float, ...]:
        """The metrics of a model on the samples to judge on."""
        return self.score(outputs(model, self.feeds))


def outputs(model: Path, feeds: Feeds) -> list[Array]:
    """All outputs of a model on samples, in batches."""
    session = Session(model.read_bytes(), ExecutionOptions())
    names = [spec.name for spec in session.outputs]
    count = len(next(iter(feeds.values())))
    parts = []
    for start in range(0, count, _BATCH):
        given = session.run({name: array[start : start + _BATCH] for name, array in feeds.items()})
        parts.append([np.asarray(given[name]) for name in names])
    return [np.concatenate(output) for output in zip(*parts, strict=True)]
