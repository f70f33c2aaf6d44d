"""`--pareto`: several models along the curve of cost against quality, in one run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..contracts.point import ParetoPoint
from ..execution.sessions import open_session
from ..strategies.limits import AllocationProblem, widest_within
from ..strategies.max_drop import most
from ..strategies.pareto import curve, shares
from .costs import allocation_problem
from .evaluators import whole_evaluator
from .phase import GraphOf
from .recipe import LEAST
from .run import Result, Run, continued, options_of, start
from .search import Search, Solved, searched


@dataclass(frozen=True, eq=False)
class _Along:
    """Makes a model for a share of the cost."""

    run: Run
    search: Search
    problem: AllocationProblem

    def __call__(self, share: float) -> Result:
        choice = self.problem.allocation.choice(share)
        made = Solved(self.search, choice, self.search.maker.candidate(choice), self.problem)
        planned = {**options_of(self.run, made), "share": share}
        return continued(replace(self.run, planned=planned), [replace(made, problem=None)])


@dataclass(frozen=True)
class Pareto:
    """Models along the curve, from wide to narrow.

    Attributes:
        choices: the models.
        cost: what their cost is a share of, in words.
        quality: what their quality is, in words.
    """

    choices: tuple[ParetoPoint[Result], ...]
    cost: str
    quality: str


def along(run: Run, number: int) -> Pareto:
    """Make models evenly spaced in cost, down to a budget; without one, to a fifth of the MACs.

    Args:
        run: what is given; its first phase has the budget.
        number: how many models.

    Raises:
        UsageError: there are no samples to judge quality on.
        Infeasible: the budget can't be met.
    """
    with run.answering():
        return _along(run, number)


def _along(run: Run, number: int) -> Pareto:
    setting, options = run.setting, run.setting.options
    original = open_session(setting.loaded.original)
    evaluators = run.evaluators()
    evaluator = whole_evaluator(
        run.evidence,
        run.labels,
        run.phases[0].budget.metric,
        original,
        batch=options.batch,
        seed=options.seed,
    )

    def ends(search: Search) -> tuple[Search, AllocationProblem, float]:
        problem = allocation_problem(search)
        budget = search.phase.budget
        if budget.limits:
            return search, problem, problem.allocation.share(widest_within(problem))
        if budget.drop is not None and evaluators is not None:
            graph = GraphOf(search.maker.quietly())
            return (
                search,
                problem,
                most(problem.allocation, graph, evaluators, budget.drop, setting.executor).share,
            )
        return search, problem, max(LEAST, problem.allocation.floor)

    search, problem, low = searched(start(run), ends)
    # Each is judged for itself: whether it is worth having is what the curve shows.
    quiet = replace(setting, options=replace(options, force=True))
    if setting.executor is not None:
        quiet = replace(quiet, progress=_silent)
    each = replace(run, setting=quiet, measure_latency=run.measure_latency and setting.executor is None)
    alone = replace(search, setting=replace(quiet, executor=None))

    def described(result: Result) -> tuple[str, float, float]:
        score = evaluator.evaluate(open_session(result.graph)).score
        return "", problem.allocation.share(result.choice), score

    along_it = _Along(
        replace(each, setting=replace(quiet, executor=None)), alone, replace(problem, progress=_silent)
    )
    found = curve(along_it, described, shares(number, low), setting.executor)
    numbered = tuple(replace(point, name=str(k)) for k, point in enumerate(found, 1))
    return Pareto(numbered, f"share of the {problem.allocation.what}", evaluator.name)


def _silent(_: str) -> None:
    """Report no progress."""
