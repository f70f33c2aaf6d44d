"""Latency of a model in ONNX Runtime, alone or side by side with its baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..execution.sessions import open_session
from ..graph import Facts, load
from ..runtime import Array, ExecutionOptions, Session, TensorSpec, latency, random_feeds, ratio


@dataclass(frozen=True)
class Speed:
    """Seconds of a run.

    Attributes:
        seconds: the median.
        baseline: the median of the baseline, measured in the same rounds.
        growth: by how many seconds the model is certainly slower: the lower end of the 95% interval.
    """

    seconds: float
    baseline: float | None = None
    growth: float | None = None


def speed(model: Path, facts: Facts, old: tuple[Path, Facts] | None) -> Speed:
    """Run a model on random inputs, in turn with its baseline if that is at hand.

    Args:
        model: the file.
        facts: its shapes, for the sizes that were chosen for symbolic dimensions.
        old: the baseline and its shapes.

    Raises:
        InputError: ONNX Runtime can't load or run one of them.
    """
    paths = [(model, facts), *([old] if old else [])]
    options = ExecutionOptions(prepack=True)
    sessions = [open_session(load(path), options) for path, _ in paths]
    feeds = [_feeds(session, known.shapes) for session, (_, known) in zip(sessions, paths, strict=True)]
    timings = latency(sessions, feeds, seconds=1.0)
    medians = timings.medians
    if old is None:
        return Speed(medians[0])
    certain = ratio(timings.seconds[0], timings.seconds[1]).low
    return Speed(medians[0], medians[1], (certain - 1) * medians[1])


def _feeds(session: Session, shapes: Mapping[str, tuple[int, ...] | None]) -> dict[str, Array]:
    specs = [TensorSpec(s.name, s.dtype, shapes.get(s.name) or s.shape) for s in session.inputs]
    return random_feeds(specs, np.random.default_rng(0))
