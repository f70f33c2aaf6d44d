"""What is known of a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Drift:
    """How far outputs have moved, over samples that nothing was fitted to.

    Attributes:
        samples: how many.
        relative: output -> relative Frobenius error.
        top1: output -> share of samples, or of their positions, with the same top class, where outputs are
            class scores.
    """

    samples: int
    relative: Mapping[str, float]
    top1: Mapping[str, float]


@dataclass(frozen=True)
class Accuracy:
    """Labelled samples classified rightly, of how many."""

    right: int
    total: int

    @property
    def value(self) -> float:
        """The share; NaN without samples."""
        return self.right / self.total if self.total else float("nan")


@dataclass(frozen=True)
class Drop:
    """How far a score fell that is the higher the better.

    Attributes:
        metric: what was scored.
        before: the original's score.
        value: by how much the result's is lower.
        low: lower end of the exact 95% interval of the true drop; `None` where answers aren't right or wrong.
        high: its upper end.
        spread: one standard error; 0 where it isn't known.
        samples: how many there were to tell; 0 where they can't be told apart.
    """

    metric: str
    before: float
    value: float
    low: float | None = None
    high: float | None = None
    spread: float = 0.0
    samples: int = 0


@dataclass(frozen=True)
class Size:
    """What a model weighs: values in weights, multiply-accumulates of one run, bytes of the file."""

    params: int
    macs: int
    bytes: int


@dataclass(frozen=True)
class Speed:
    """Latency side by side, in seconds, and the ratio after / before with its 95% interval."""

    before: float
    after: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What is known of a pruned model.

    Attributes:
        before: size of the original.
        after: size of the result.
        surgery_error: largest relative error against the masked original; `None` where not checked.
        exact: whether rounding explains it.
        drift: against the original on samples, if there were any.
        accuracy: before and after, if there were labels.
        drop: what `--max-drop` is about, on samples that decided nothing.
        speed: measured latency, if it was measured.
        warnings: what the user should know.
    """

    before: Size
    after: Size
    surgery_error: float | None
    exact: bool
    drift: Drift | None = None
    accuracy: tuple[Accuracy, Accuracy] | None = None
    drop: Drop | None = None
    speed: Speed | None = None
    warnings: tuple[str, ...] = ()
