"""Groups become narrower one rung at a time, always where the loss for each saved unit of cost is least."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from ..contracts.analysis import Analysis
from ..cost.model import Cost, State
from ..errors import Infeasible
from ..types import Mask
from .ladder import Ladder


def assembled(analysis: Analysis, ladders: Sequence[Ladder], rungs: Sequence[int]) -> Mask:
    """Which units stay with every group on its rung: bool (analysis.count,)."""
    kept = np.ones(analysis.count, bool)
    for ladder, rung in zip(ladders, rungs, strict=True):
        kept[ladder.group.units] = ladder.stays(rung)
    return kept


def descend(ladders: Sequence[Ladder], cost: Cost, target: float, *, what: str = "cost") -> list[int]:
    """The rung of every group for which the cost is at most `target`.

    Costs of neighbours multiply, so what a step saves is looked up anew whenever a neighbour has moved. At
    the end steps that turned out not to be needed are taken back, the dearest first.

    Raises:
        Infeasible: even the last rungs cost more.
    """
    state = cost.state(np.ones(len(cost.group_of), bool))
    rungs = [0] * len(ladders)
    prices = [ladder.prices() for ladder in ladders]
    neighbours = [cost.neighbours(g) for g in range(len(ladders))]
    version = [0] * len(ladders)
    heap: list[tuple[float, int, int]] = []

    def consider(g: int) -> None:
        version[g] += 1
        if rungs[g] + 1 < len(ladders[g]):
            saved = -state.change(g, ladders[g].group.units, ladders[g].stays(rungs[g] + 1))
            price = prices[g][rungs[g]] / saved if saved > 0 else np.inf
            heapq.heappush(heap, (float(price), g, version[g]))

    for g in range(len(ladders)):
        consider(g)
    taken: list[tuple[float, int]] = []
    while state.value > target:
        if not heap:
            raise _too_tight(ladders, cost, state, target, what)
        price, g, when = heapq.heappop(heap)
        if when != version[g]:
            continue
        rungs[g] += 1
        state.apply(g, ladders[g].group.units, ladders[g].stays(rungs[g]))
        taken.append((price, g))
        for other in sorted(neighbours[g]):
            consider(other)
    _give_back(ladders, state, rungs, taken, target)
    return rungs


def _give_back(
    ladders: Sequence[Ladder],
    state: State,
    rungs: list[int],
    taken: Sequence[tuple[float, int]],
    target: float,
) -> None:
    """Undo steps, the dearest first, while the budget still holds."""
    for _, g in sorted(taken, reverse=True):
        units = ladders[g].group.units
        if rungs[g] and state.value + state.change(g, units, ladders[g].stays(rungs[g] - 1)) <= target:
            rungs[g] -= 1
            state.apply(g, units, ladders[g].stays(rungs[g]))


def _too_tight(ladders: Sequence[Ladder], cost: Cost, state: State, target: float, what: str) -> Infeasible:
    def weight(g: int) -> int:
        group = ladders[g].group
        return state.change(g, group.units, np.zeros(group.size, bool))

    heaviest = sorted(range(len(ladders)), key=weight)[:3]
    names = ", ".join(f"'{ladders[g].group.name}'" for g in heaviest)
    least = state.value / cost.total
    return Infeasible(
        f"{target / cost.total:.3g} of the {what} can't be reached: at least {least:.3g} stay with every "
        f"group as narrow as it may be (most in {names})",
        hint=f"ask for {np.ceil(least * 1000) / 1000:g} or more, or lower --min-channels or --round-to",
    )
