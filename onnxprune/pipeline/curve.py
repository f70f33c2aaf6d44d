"""`--pareto`: several models along the curve of cost against quality, in one run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import UsageError
from ..execution.sessions import open_session
from ..strategies.pareto import Choice, curve, shares
from .job import Job, proved, silent
from .promise import exams, most, whole_exam
from .route import Route, route, within
from .settings import Budget
from .solve import Result, finished, planned

LEAST = 0.2
"""The share of the cost at the narrow end, if no budget says otherwise and it can be reached."""


@dataclass(frozen=True, eq=False)
class _Along:
    """Makes a model for a share of what is brought down."""

    job: Job
    way: Route
    budget: Budget

    def __call__(self, share: float) -> Result:
        made = proved(self.job, self.way.descent.kept(share))
        return finished(self.job, made, {**planned(self.job, self.budget, self.way), "share": share})


@dataclass(frozen=True)
class Pareto:
    """Models along the curve, from wide to narrow.

    Attributes:
        choices: the models.
        cost: what their cost is a share of, in words.
        quality: what their quality is, in words.
    """

    choices: tuple[Choice[Result], ...]
    cost: str
    quality: str


def along(job: Job, budget: Budget | None, number: int) -> Pareto:
    """Make models evenly spaced in cost, down to a budget.

    Args:
        job: the job.
        budget: where the curve ends; by default at a fifth of the multiply-accumulates.
        number: how many models.

    Raises:
        UsageError: the budget is a ratio, or there are no samples to judge quality on.
        Infeasible: the budget can't be met.
    """
    ends = budget or Budget(macs=LEAST)
    if not ends.of_costs:
        raise UsageError("goes along a cost, not along what is kept", where="--pareto", hint="say --macs")
    way = route(job, ends.goals)
    original = open_session(job.ready.original)
    if ends.drop is not None and not ends.goals.given():
        low = most(job, way, exams(job, ends.metric, original), ends.drop).share
    elif budget is None:
        low = max(LEAST, way.descent.floor)
    else:
        low = way.descent.share(within(job, way))
    exam = whole_exam(job, ends.metric, original)
    # Each is judged for itself: whether it is worth having is what the curve shows.
    each = replace(job, settings=replace(job.settings, force=True))
    if job.executor is not None:
        each = replace(each, progress=silent, measure_latency=False)

    def described(result: Result) -> tuple[str, float, float]:
        score = exam.marks(open_session(result.graph)).score
        return "", way.descent.share(result.kept), score

    found = curve(_Along(each, way, ends), described, shares(number, low), job.executor)
    numbered = tuple(replace(choice, name=str(k)) for k, choice in enumerate(found, 1))
    return Pareto(numbered, f"share of the {way.descent.what}", exam.name)
