"""Evaluators: the metric of `--max-drop`, and on which samples it is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..graph import Array
from ..quality.drift import top_classes
from ..quality.metrics import Batches, Classes, Closeness, Custom, Evaluator, Function, imported
from ..runtime import Session
from ..samples import Samples
from ..strategies.max_drop import Evaluators
from .evidence import Evidence, Labelled, require_classes


def evaluators(
    evidence: Evidence,
    labels: Labelled | None,
    metric: str | Function | None,
    original: Session,
    *,
    batch: int,
    seed: int,
) -> Evaluators:
    """Evaluators on the samples that decide, and on those that confirm.

    Labelled samples are halved; without labels the samples that nothing was fitted to are used.

    Args:
        evidence: with the samples.
        labels: labelled samples, if there are any.
        metric: see `contracts.budget.Budget`.
        original: of the original model.
        batch: samples that run together.
        seed: of the halves.

    Raises:
        UsageError: there are no samples, or the metric needs labels.
    """
    parts = _parts(evidence, labels, seed)
    search, confirm = (_exam(metric, part, original, batch) for part in parts)
    return Evaluators(search, confirm, (search.evaluate(original), confirm.evaluate(original)))


def whole_evaluator(
    evidence: Evidence,
    labels: Labelled | None,
    metric: str | Function | None,
    original: Session,
    *,
    batch: int,
    seed: int,
) -> Evaluator:
    """An evaluator on all labelled samples, or on those that were neither fitted to nor decide anything.

    Raises:
        UsageError: there are no samples, or the metric needs labels.
    """
    part = _parts(evidence, None, seed)[1] if labels is None else _Part(labels.samples, labels.labels)
    return _exam(metric, part, original, batch)


@dataclass(frozen=True, eq=False)
class _Part:
    """Samples, and their labels if there are any."""

    samples: Samples
    labels: Array | None

    def batches(self, size: int) -> Batches:
        """Inputs, as often as they are asked for."""
        return lambda: self.samples.batches(size)


def _parts(evidence: Evidence, labels: Labelled | None, seed: int) -> tuple[_Part, _Part]:
    """Those that decide and those that confirm."""
    if labels is None:
        if evidence.choose is None or evidence.judge is None:
            raise UsageError("quality can't be judged without samples", hint="give --labels or --calib")
        return _Part(evidence.choose, None), _Part(evidence.judge, None)
    if labels.samples.count < 2:
        raise UsageError("one labelled sample is not enough", where="--max-drop", hint="give more --labels")
    mixed = np.random.default_rng(seed).permutation(labels.samples.count)
    first, second = (np.sort(part) for part in np.array_split(mixed, 2))
    return _labelled_part(labels, first), _labelled_part(labels, second)


def _labelled_part(given: Labelled, rows: NDArray[np.int64]) -> _Part:
    return _Part(replace(given.samples, indices=given.samples.indices[rows]), given.labels[rows])


def _exam(metric: str | Function | None, part: _Part, original: Session, batch: int) -> Evaluator:
    if metric is None:
        metric = "agreement" if part.labels is None else "accuracy"
    batches = part.batches(batch)
    if not isinstance(metric, str):
        return Custom(getattr(metric, "__name__", "metric"), metric, batches, part.labels)
    if metric == "accuracy":
        if part.labels is None:
            raise UsageError("accuracy needs --labels", where="--metric", hint="or use --metric agreement")
        require_classes(part.labels)
        return Classes(metric, batches, part.labels)
    if metric == "agreement":
        own = top_classes(original, batches())
        return Closeness(batches, original) if own is None else Classes(metric, batches, own)
    return Custom(metric, imported(metric), batches, part.labels)
