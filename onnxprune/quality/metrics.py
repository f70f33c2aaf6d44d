"""Metrics of quality, and how far a metric fell: what `--max-drop` limits."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..contracts.verdict import Drop
from ..errors import InputError, UsageError
from ..graph import Array
from ..runtime import Session
from ..types import Mask
from .drift import drift, top_classes
from .interval import drop_interval

Batches = Callable[[], Iterable[Mapping[str, Array]]]
"""Batches of inputs, as often as they are asked for."""

Function = Callable[[Mapping[str, Array], Array | None], Any]
"""Outputs by name, all samples together, and labels -> a score (the higher the better), or for every sample
whether its answer is right: bool (samples,)."""


@dataclass(frozen=True, eq=False)
class MetricValue:
    """The value of a metric.

    Attributes:
        score: the higher the better.
        right: bool (samples,), whether each answer is right, where answers are right or wrong.
    """

    score: float
    right: Mask | None = None

    @classmethod
    def of(cls, right: NDArray[np.bool_]) -> MetricValue:
        """The share of right answers."""
        return cls(float(right.mean()), right)


class Evaluator(Protocol):
    """A metric on some samples."""

    @property
    def name(self) -> str:
        """The name of the metric."""

    def evaluate(self, session: Session) -> MetricValue:
        """The metric of a model."""


@dataclass(frozen=True, eq=False)
class Classes:
    """The share of samples whose largest class score is that of the label.

    Attributes:
        name: `accuracy`, or `agreement` where labels are the original's top classes.
        batches: inputs.
        labels: integers (samples,).
    """

    name: str
    batches: Batches
    labels: Array

    def evaluate(self, session: Session) -> MetricValue:
        """The metric of a model.

        Raises:
            InputError: it has no class scores.
        """
        answers = top_classes(session, self.batches())
        if answers is None or len(answers) != len(self.labels):
            raise _no_classes()
        return MetricValue.of(answers == self.labels)


@dataclass(frozen=True, eq=False)
class Closeness:
    """Closeness to the original's outputs: 1 less the relative error of the worst.

    Attributes:
        batches: inputs.
        original: the original.
        name: of the metric.
    """

    batches: Batches
    original: Session
    name: str = "closeness"

    def evaluate(self, session: Session) -> MetricValue:
        """The metric of a model."""
        found = drift(self.original, session, self.batches())
        return MetricValue(1.0 - max(found.relative.values(), default=0.0))


@dataclass(frozen=True, eq=False)
class Custom:
    """A metric from a function of the user's.

    Attributes:
        name: of the function.
        function: from outputs and labels to the metric.
        batches: inputs.
        labels: what belongs to them; `None` without.
    """

    name: str
    function: Function
    batches: Batches
    labels: Array | None

    def evaluate(self, session: Session) -> MetricValue:
        """The metric of a model.

        Raises:
            UsageError: the function fails, or gives no score.
        """
        runs = [session.run(feeds) for feeds in self.batches()]
        outputs = {name: np.concatenate([np.atleast_1d(run[name]) for run in runs]) for name in runs[0]}
        where = f"--metric {self.name}"
        try:
            found = np.asarray(self.function(outputs, self.labels))
        except Exception as error:  # whatever a user's function raises
            raise UsageError(f"raised {type(error).__name__}: {error}", where=where) from error
        if found.dtype == bool and found.ndim == 1 and found.size:
            return MetricValue.of(found)
        if found.ndim or found.dtype.kind not in "fiub" or not math.isfinite(float(found)):
            reason = f"gave {found.dtype} of shape {found.shape}"
            hint = "it should give a number, or a bool for every sample"
            raise UsageError(reason, where=where, hint=hint)
        return MetricValue(float(found))


def dropped(metric: str, before: MetricValue, after: MetricValue) -> Drop:
    """How far a score fell, by samples where they can be compared one by one."""
    if before.right is None or after.right is None or len(before.right) != len(after.right):
        return Drop(metric, before.score, before.score - after.score)
    lost = int((before.right & ~after.right).sum())
    gained = int((~before.right & after.right).sum())
    total = len(before.right)
    spread = math.sqrt(lost + gained) / total
    found = drop_interval(lost, gained, total)
    return Drop(metric, before.score, found.value, found.low, found.high, spread, total)


def _no_classes() -> InputError:
    return InputError(
        "no output of the model is scores of classes",
        where="--metric",
        hint="give a function of your own: --metric module:function",
    )


def imported(text: str) -> Function:
    """The function that `module:function` names; modules of the working directory are found, too.

    Raises:
        UsageError: there is no such function.
    """
    where = f"--metric {text}"
    module, _, name = text.partition(":")
    if not module or not name:
        hint = "use accuracy, agreement, or module:function"
        raise UsageError("there is no such metric", where=where, hint=hint)
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a user's module raises
        raise UsageError(f"can't be imported ({type(error).__name__}: {error})", where=where) from error
    finally:
        sys.path.remove(here)
    if not callable(function):
        raise UsageError("is not a function", where=where)
    return function  # type: ignore[no-any-return]
