"""The verdict on a result: sizes, proofs, drift, accuracy, speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .proof import Proved


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
    """Labelled samples that are classified correctly, of how many."""

    right: int
    total: int

    @property
    def value(self) -> float:
        """The share; NaN without samples."""
        return self.right / self.total if self.total else float("nan")


@dataclass(frozen=True)
class Drop:
    """How far a metric fell.

    Attributes:
        metric: its name.
        before: its value for the original.
        value: by how much the result's is lower.
        low: lower end of the exact 95% interval of the true drop; `None` where answers aren't right or wrong.
        high: its upper end.
        spread: one standard error; 0 where it isn't known.
        samples: how many were judged; 0 where they are not judged one by one.
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
    """Size of a model: values in weights, multiply-accumulates of one run, bytes of the file."""

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
class Omission:
    """A step that was left out, or done from less than it could be.

    Attributes:
        step: what, in words: `repair`.
        because: why.
        hint: what the user can do about it.
    """

    step: str
    because: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.step}: {self.because}" + (f"; {self.hint}" if self.hint else "")


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is known of a pruned model.

    Attributes:
        before: size of the original.
        after: size of the result.
        proofs: of each cut, one for each phase; none where nothing was cut.
        drift: against the original on samples, if there were any.
        accuracy: before and after, if there were labels.
        drop: what `--max-drop` is about, on samples that decided nothing.
        speed: measured latency, if it was measured.
        omitted: steps that were left out, and why.
        warnings: what the user should know.
    """

    before: Size
    after: Size
    proofs: tuple[Proved, ...] = ()
    drift: Drift | None = None
    accuracy: tuple[Accuracy, Accuracy] | None = None
    drop: Drop | None = None
    speed: Speed | None = None
    omitted: tuple[Omission, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def surgery_error(self) -> float | None:
        """Largest relative difference at an output between a cut and its masked reference; `None`: no cut."""
        return max((proof.compared.error for proof in self.proofs), default=None)

    @property
    def exact(self) -> bool:
        """Whether all that was removed was compared, and rounding explains every difference."""
        return bool(self.proofs) and all(proof.exact for proof in self.proofs)
