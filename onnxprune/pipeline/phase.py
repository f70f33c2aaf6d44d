"""One phase: from the units of a network to a choice among them, cut and repaired."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..contracts.groups import Choice
from ..contracts.plan import PlannedPhase
from ..contracts.reduction import ChannelUnits
from ..graph import Graph
from ..strategies.limits import AllocationProblem
from ..strategies.max_drop import Evaluators, lost, most, require_drop
from ..strategies.unread import without_unread
from .costs import after_exchange, allocation_problem, stepped, within_limits
from .maker import CandidateMaker
from .search import Search, Solved, searched
from .uniform import uniformly


def solved(search: Search, evaluators: Evaluators | None) -> Solved:
    """Choose, cut and repair.

    Args:
        search: the units.
        evaluators: measure quality; `None` without `--max-drop`.

    Raises:
        UsageError: a criterion can't rate these units, or lacks statistics.
        Infeasible: the budget can't be met, or nothing is left to prune.
    """
    return searched(search, lambda left: _solved(left, evaluators))


def _solved(search: Search, evaluators: Evaluators | None) -> Solved:
    phase, budget = search.phase, search.phase.budget
    if phase.planned is not None:
        choice = _replayed(search, phase.planned)
        return Solved(search, choice, search.maker.candidate(choice))
    if budget.uniform is not None:
        choice = _freed(search, uniformly(search))
        return Solved(search, choice, search.maker.candidate(choice))
    problem = allocation_problem(search)
    if budget.drop is None or evaluators is None:
        return within_limits(search, after_exchange(search, stepped(search, problem)))
    if budget.limits:
        found = within_limits(search, after_exchange(search, stepped(search, problem)))
        drop = lost(found.candidate.graph, evaluators)[1]
        require_drop(drop, budget.drop, search.setting.loaded.origin.where)
        return replace(found, drop=drop)
    return within_drop(search, problem, evaluators, budget.drop)


def within_drop(search: Search, problem: AllocationProblem, evaluators: Evaluators, limit: float) -> Solved:
    """Prune as much as `--max-drop` allows."""
    executor = search.setting.executor
    search.setting.progress(f"Searching for the smallest model with a drop of at most {100 * limit:g}%")
    graph = GraphOf(search.maker.quietly())
    found = most(problem.allocation, graph, evaluators, limit, executor)
    if search.options.steps > 1:
        problem = stepped(search, problem, found.share)
        found = most(problem.allocation, graph, evaluators, limit, executor)
    made = search.maker.candidate(found.choice)
    return Solved(search, found.choice, made, problem, found.unseen)


@dataclass(frozen=True, eq=False)
class GraphOf:
    """The cut and repaired graph of a choice; it can be sent to other processes."""

    maker: CandidateMaker

    def __call__(self, choice: Choice) -> Graph:
        """Make it."""
        return self.maker.candidate(choice).graph


def _replayed(search: Search, planned: PlannedPhase) -> Choice:
    choice = Choice()
    for space, one in zip(search.spaces, planned.reductions, strict=True):
        choice |= space.read(one)
    return choice


def _freed(search: Search, choice: Choice) -> Choice:
    """With the channels that no kernel reads any more, too."""
    for space in search.spaces[1:]:
        if isinstance(space, ChannelUnits):
            choice = without_unread(search.rated, choice, space)
    return choice
