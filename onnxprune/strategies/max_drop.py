"""`--max-drop`: the most pruning whose loss stays within what is allowed, on samples of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from ..contracts.groups import Choice
from ..contracts.verdict import Drop
from ..errors import Infeasible
from ..execution.sessions import open_session
from ..graph import Graph
from ..quality.metrics import Evaluator, MetricValue, dropped
from .allocation import Allocation
from .bisection import Effort, bisect
from .refusal import drop_refused

_EFFORT = Effort(evaluations=10)
_CLOSE = 0.2  # of what is allowed: closer to it than that is close enough
_WIDEST = 1 - 1e-6  # the share of the cost that the smallest cut keeps less than


@dataclass(frozen=True, eq=False)
class Evaluators:
    """What measures quality, and on which samples.

    Attributes:
        search: decides between candidates.
        confirm: on samples that the search hasn't seen.
        before: the original's value of the metric on both.
    """

    search: Evaluator
    confirm: Evaluator
    before: tuple[MetricValue, MetricValue]


@dataclass(frozen=True, eq=False)
class Tried:
    """What was tried.

    Attributes:
        choice: which units stay.
        share: of what is brought down.
        seen: what is lost on the samples that decide.
        unseen: on those that confirm.
    """

    choice: Choice
    share: float
    seen: Drop
    unseen: Drop


@dataclass(frozen=True, eq=False)
class _Trials:
    """Makes candidates: for a share of the cost, the drop of the cut and repaired network."""

    allocation: Allocation
    graph: Callable[[Choice], Graph]
    evaluators: Evaluators

    def __call__(self, share: float) -> Tried:
        choice = self.allocation.choice(share)
        seen, unseen = lost(self.graph(choice), self.evaluators)
        return Tried(choice, self.allocation.share(choice), seen, unseen)


def lost(graph: Graph, evaluators: Evaluators) -> tuple[Drop, Drop]:
    """What a graph loses: on the samples that decide, and on those that confirm."""
    session = open_session(graph)
    seen, unseen = evaluators.search.evaluate(session), evaluators.confirm.evaluate(session)
    return (
        dropped(evaluators.search.name, evaluators.before[0], seen),
        dropped(evaluators.confirm.name, evaluators.before[1], unseen),
    )


def most(
    allocation: Allocation,
    graph: Callable[[Choice], Graph],
    evaluators: Evaluators,
    limit: float,
    executor: Executor | None = None,
) -> Tried:
    """The smallest candidate that loses no more than allowed.

    On the samples that decide, the drop stays within the limit by one standard error, if any candidate
    does so; on those that confirm, it stays within.

    Args:
        allocation: which units stay for a share of a cost.
        graph: makes the cut and repaired graph of a choice; called in other processes if `executor` does so.
        evaluators: measure quality.
        limit: how far it may fall.
        executor: where candidates are made; here by default.

    Raises:
        Infeasible: even the smallest cut loses more.
    """
    found = bisect(
        _Trials(allocation, graph, evaluators),
        lambda tried: tried.seen.value + tried.seen.spread - limit,
        inside=_WIDEST,
        outside=allocation.floor,
        effort=replace(_EFFORT, tolerance=_CLOSE * limit),
        executor=executor,
    )
    # Few samples leave nothing within by a margin: then what is within at all will do.
    bare = tuple(replace(trial, excess=trial.candidate.seen.value - limit) for trial in found.trials)
    loosely = replace(found, trials=bare)
    for search in (found, loosely):
        confirmed = search.confirmed(lambda tried: tried.unseen.value <= limit)
        if confirmed is not None:
            return confirmed.candidate
    widest = max((trial.candidate for trial in found.trials), key=lambda tried: tried.share)
    if not loosely.within:
        raise drop_refused(limit, widest.seen.value, widest.share, allocation.what)
    raise Infeasible(
        f"a drop of at most {100 * limit:g} points holds on the samples that decide, but not on those "
        f"that confirm: {100 * widest.unseen.value:.3g} points are lost there at {widest.share:.3g} of "
        f"the {allocation.what}",
        where="--max-drop",
        hint="allow more, or give more samples",
    )


def require_drop(drop: Drop, limit: float, where: str) -> None:
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
