"""One run of pruning: what it is given, and what it makes of a choice of units."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field

from ..criteria import Criterion
from ..execution.sessions import open_session
from ..execution.timing import Timing
from ..graph import Graph
from ..reductions.channels.cut import rewrite
from ..repair import Outcome, Surgery, repair
from ..types import Mask
from .evidence import Evidence, Feeds, Labelled
from .judge import assumed
from .operate import operate
from .prepare import Prepared, Progress
from .settings import Settings

FITTED, JUDGED = 2048, 256
"""Samples that weights are fitted to, and that a repair is judged on, at the most: time grows with them."""


def silent(_: str) -> None:
    """Progress that nobody is told."""


@dataclass(frozen=True, eq=False)
class Job:
    """What a run is given.

    Attributes:
        ready: the model.
        evidence: samples and statistics.
        criterion: what a unit is worth.
        settings: how.
        labels: labelled samples, if there are any.
        timing: how latency is measured.
        measure_latency: whether the verdict shall measure it.
        executor: where candidates are made; here by default.
        progress: told what begins.
    """

    ready: Prepared
    evidence: Evidence
    criterion: Criterion
    settings: Settings
    labels: Labelled | None = None
    timing: Timing = field(default_factory=Timing)
    measure_latency: bool = True
    executor: Executor | None = None
    progress: Progress = silent


@dataclass(frozen=True, eq=False)
class Made:
    """A candidate.

    Attributes:
        kept: (analysis.count,), whether each unit stays.
        outcome: the graph, repaired.
        surgery_error: of the surgery, which was proved exact; `None` where that is still to be done.
        notes: what else was done to the graph, in words.
        in_place: whether weights that go are zero, not cut: nothing gets smaller.
    """

    kept: Mask
    outcome: Outcome
    surgery_error: float | None = None
    notes: tuple[str, ...] = ()
    in_place: bool = False

    @property
    def graph(self) -> Graph:
        """The graph."""
        return self.outcome.graph

    @property
    def untouched(self) -> bool:
        """Whether nothing was done to it."""
        return bool(self.kept.all()) and not self.notes


def proved(job: Job, kept: Mask) -> Made:
    """The graph with these units, the surgery proved exact, the rest repaired.

    Raises:
        ProofFailed: the surgery is not exact: a bug.
    """
    job.progress("Rewriting the graph, and proving it")
    pruned, error = operate(job.ready, kept, inputs(job))
    job.progress("Repairing weights")
    return Made(kept, _repaired(job, kept, pruned), error)


def tried(job: Job, kept: Mask) -> Made:
    """The same without the proof, for candidates of which only one is taken."""
    ready = job.ready
    return Made(kept, _repaired(job, kept, rewrite(ready.graph, ready.facts, ready.analysis, kept)))


def inputs(job: Job) -> Feeds:
    """A real sample where there is one, else random numbers."""
    if job.evidence.fit is not None:
        return next(iter(job.evidence.fit.batches(job.settings.batch)))
    return assumed(job.ready.facts, open_session(job.ready.original), job.settings.seed)


def _repaired(job: Job, kept: Mask, pruned: Graph) -> Outcome:
    ready, evidence, settings = job.ready, job.evidence, job.settings
    surgery = Surgery(
        ready.graph,
        ready.facts,
        ready.analysis,
        kept,
        pruned,
        normals=ready.normals,
        again=lambda other: rewrite(ready.graph, ready.facts, ready.analysis, other),
    )
    if evidence.fit is None or evidence.choice is None:
        return repair(surgery, settings.repair)
    return repair(
        surgery,
        settings.repair,
        evidence.fit.some(FITTED, settings.seed).batches(settings.batch),
        evidence.choice.first(JUDGED).batches(settings.batch),
        memory=settings.memory,
        seed=settings.seed,
        progress=lambda done, total: job.progress(f"Repairing weights: {done} of {total}"),
    )
