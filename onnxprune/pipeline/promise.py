"""`--max-drop`: the most pruning whose loss stays within what is allowed, on samples of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..contracts.verdict import Drop
from ..errors import Infeasible, UsageError
from ..execution.sessions import open_session
from ..graph import Array, Graph
from ..quality.drift import top_classes
from ..quality.metrics import Batches, Classes, Closeness, Custom, Exam, Function, Marks, dropped, imported
from ..runtime import Session
from ..samples import Samples
from ..strategies.edge import Effort, edge
from ..strategies.refusal import drop_refused
from ..types import Mask
from .evidence import Labelled, require_classes
from .job import Job, silent, tried
from .route import Route

_EFFORT = Effort(evaluations=10)
_CLOSE = 0.2  # of what is allowed: closer to it than that is close enough
_WIDEST = 1 - 1e-6  # the share of the cost that the smallest cut keeps less than


@dataclass(frozen=True, eq=False)
class Exams:
    """How quality is found out.

    Attributes:
        search: decides between candidates.
        confirm: on samples that the search hasn't seen.
        before: the original's marks in both.
    """

    search: Exam
    confirm: Exam
    before: tuple[Marks, Marks]


@dataclass(frozen=True, eq=False)
class Candidate:
    """What was tried.

    Attributes:
        kept: bool (units,), whether each unit stays.
        share: of what is brought down.
        seen: what is lost on the samples that decide.
        unseen: on those that confirm.
    """

    kept: Mask
    share: float
    seen: Drop
    unseen: Drop


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Makes them: for a share of what is brought down, the narrowed and repaired graph's marks."""

    job: Job
    way: Route
    exams: Exams

    def __call__(self, share: float) -> Candidate:
        descent = self.way.descent
        kept = descent.kept(share)
        seen, unseen = lost(tried(self.job, kept).graph, self.exams)
        return Candidate(kept, descent.share(kept), seen, unseen)


def lost(graph: Graph, exams: Exams) -> tuple[Drop, Drop]:
    """What a graph loses: on the samples that decide, and on those that confirm."""
    session = open_session(graph)
    seen, unseen = exams.search.marks(session), exams.confirm.marks(session)
    return (
        dropped(exams.search.name, exams.before[0], seen),
        dropped(exams.confirm.name, exams.before[1], unseen),
    )


def most(job: Job, way: Route, exams: Exams, limit: float) -> Candidate:
    """The narrowest on the way down that loses no more than allowed.

    On the samples that decide it stays within by one standard error of what they can tell, if any does; on
    those that confirm it stays within.

    Raises:
        Infeasible: even the smallest cut loses more.
    """
    progress = job.progress
    make = _Candidates(replace(job, progress=silent), way, exams)
    progress(f"Searching for the most pruning that loses no more than {100 * limit:g} points")
    found = edge(
        make,
        lambda candidate: candidate.seen.value + candidate.seen.spread - limit,
        inside=_WIDEST,
        outside=way.descent.floor,
        effort=replace(_EFFORT, tolerance=_CLOSE * limit),
        executor=job.executor,
    )
    # Few samples leave nothing within by a margin: then what is within at all will do.
    bare = tuple(replace(trial, excess=trial.candidate.seen.value - limit) for trial in found.trials)
    loosely = replace(found, trials=bare)
    for search in (found, loosely):
        confirmed = search.confirmed(lambda candidate: candidate.unseen.value <= limit)
        if confirmed is not None:
            return confirmed.candidate
    widest = max((trial.candidate for trial in found.trials), key=lambda candidate: candidate.share)
    if not loosely.within:
        raise drop_refused(limit, widest.seen.value, widest.share, way.descent.what)
    raise Infeasible(
        f"the promise of {100 * limit:g} points holds on the samples that decide, but not on those that "
        f"confirm: {100 * widest.unseen.value:.3g} are lost there at {widest.share:.3g} of "
        f"the {way.descent.what}",
        where="--max-drop",
        hint="allow more, or give more samples",
    )


def require_promise(drop: Drop, limit: float, where: str) -> None:
    """Refuse a result that is within its other budgets, but loses more than allowed.

    Raises:
        Infeasible: it does.
    """
    if drop.value > limit:
        raise Infeasible(
            f"the other budgets cost {100 * drop.value:.3g} points of {drop.metric}, "
            f"{100 * (drop.value - limit):.3g} more than --max-drop allows",
            where=where,
            hint="ask for less pruning, or allow more",
        )


def exams(job: Job, metric: str | Function | None, original: Session) -> Exams:
    """What quality is, and the samples that decide and confirm it.

    Labelled samples are halved; without labels the samples that nothing was fitted to are used.

    Args:
        job: with the samples.
        metric: see `Budget`.
        original: of the original model.

    Raises:
        UsageError: there are no samples, or the metric needs labels.
    """
    search, confirm = (_exam(job, metric, part, original) for part in _parts(job))
    return Exams(search, confirm, (search.marks(original), confirm.marks(original)))


def whole_exam(job: Job, metric: str | Function | None, original: Session) -> Exam:
    """What quality is, on all labelled samples, or on those that were neither fitted to nor decide anything.

    Raises:
        UsageError: there are no samples, or the metric needs labels.
    """
    part = _parts(job)[1] if job.labels is None else _Part(job.labels.samples, job.labels.labels)
    return _exam(job, metric, part, original)


@dataclass(frozen=True, eq=False)
class _Part:
    """Samples, and their labels if there are any."""

    samples: Samples
    labels: Array | None

    def batches(self, size: int) -> Batches:
        """Inputs, as often as they are asked for."""
        return lambda: self.samples.batches(size)


def _parts(job: Job) -> tuple[_Part, _Part]:
    """Those that decide and those that confirm."""
    evidence, labels = job.evidence, job.labels
    if labels is None:
        if evidence.choice is None or evidence.held is None:
            raise UsageError("quality can't be judged without samples", hint="give --labels or --calib")
        return _Part(evidence.choice, None), _Part(evidence.held, None)
    if labels.samples.count < 2:
        raise UsageError("one labelled sample is not enough", where="--max-drop", hint="give more --labels")
    mixed = np.random.default_rng(job.settings.seed).permutation(labels.samples.count)
    first, second = (np.sort(part) for part in np.array_split(mixed, 2))
    return _labelled_part(labels, first), _labelled_part(labels, second)


def _labelled_part(given: Labelled, rows: NDArray[np.int64]) -> _Part:
    return _Part(replace(given.samples, indices=given.samples.indices[rows]), given.labels[rows])


def _exam(job: Job, metric: str | Function | None, part: _Part, original: Session) -> Exam:
    if metric is None:
        metric = "agreement" if job.labels is None else "accuracy"
    batches = part.batches(job.settings.batch)
    if not isinstance(metric, str):
        return Custom(getattr(metric, "__name__", "metric"), metric, batches, part.labels)
    if metric == "accuracy":
        if part.labels is None:
            raise UsageError("accuracy needs --labels", where="--metric", hint="or say agreement")
        require_classes(part.labels)
        return Classes(metric, batches, part.labels)
    if metric == "agreement":
        own = top_classes(original, batches())
        return Closeness(batches, original) if own is None else Classes(metric, batches, own)
    return Custom(metric, imported(metric), batches, part.labels)
