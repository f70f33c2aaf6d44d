"""One phase: from the units of a network to a choice among them, cut and repaired."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..contracts.groups import Choice
from ..contracts.plan import PlannedPhase
from ..contracts.reduction import ChannelUnits
from ..graph import Graph
from ..strategies.max_drop import Exams, lost, most, require_promise
from ..strategies.meeting import Route
from ..strategies.unread import without_unread
from .costs import after_exchange, route, stepped, within_limits
from .maker import Making
from .search import Search, Solved, searched
from .uniform import uniformly


def solved(search: Search, exams: Exams | None) -> Solved:
    """Choose, cut and repair.

    Args:
        search: the units.
        exams: how quality is found out, if that is promised.

    Raises:
        UsageError: a criterion can't rate these units, or lacks statistics.
        Infeasible: the budget can't be met, or nothing is left to prune.
    """
    return searched(search, lambda left: _solved(left, exams))


def _solved(search: Search, exams: Exams | None) -> Solved:
    phase, budget = search.phase, search.phase.budget
    if phase.planned is not None:
        choice = _replayed(search, phase.planned)
        return Solved(search, choice, search.maker.candidate(choice))
    if budget.uniform is not None:
        choice = _freed(search, uniformly(search))
        return Solved(search, choice, search.maker.candidate(choice))
    way = route(search)
    if budget.drop is None or exams is None:
        return within_limits(search, after_exchange(search, stepped(search, way)))
    if budget.limits:
        found = within_limits(search, after_exchange(search, stepped(search, way)))
        drop = lost(found.candidate.graph, exams)[1]
        require_promise(drop, budget.drop, search.setting.loaded.origin.where)
        return replace(found, drop=drop)
    return promised(search, way, exams, budget.drop)


def promised(search: Search, way: Route, exams: Exams, limit: float) -> Solved:
    """The most pruning whose loss stays within what is allowed."""
    executor = search.setting.executor
    search.setting.progress(f"Searching for the most pruning that loses no more than {100 * limit:g} points")
    graph = GraphOf(search.maker.quietly())
    found = most(way.allocation, graph, exams, limit, executor)
    if search.options.steps > 1:
        way = stepped(search, way, found.share)
        found = most(way.allocation, graph, exams, limit, executor)
    made = search.maker.candidate(found.choice)
    return Solved(search, found.choice, made, way, found.unseen)


@dataclass(frozen=True, eq=False)
class GraphOf:
    """The cut and repaired graph of a choice; it can be sent to other processes."""

    maker: Making

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
