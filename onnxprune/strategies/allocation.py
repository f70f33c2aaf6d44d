"""Allocation: which units stay for a share of a cost.

Groups become narrower one rung at a time, always the one with the least loss for each unit of cost saved.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..contracts.groups import Choice
from ..cost.model import Cost, State
from ..errors import Infeasible
from .ladder import Ladder

_NAMED = 3  # groups that a message names


@dataclass(frozen=True, eq=False)
class Allocation:
    """The choice of least loss for any share of a cost.

    Attributes:
        ladders: the widths that each group may have, and what they lose; in the order of the cost's groups.
        cost: to reduce.
        what: the cost in words, for messages.
        halving: where no widths of `ladders` are narrow enough, halves of the narrowest may be taken, too.
    """

    ladders: Sequence[Ladder]
    cost: Cost
    what: str = "cost"
    halving: bool = False

    def choice(self, share: float) -> Choice:
        """Which units to keep for at most this share of the cost.

        Raises:
            Infeasible: it can't be reached.
        """
        ladders = self.ladders if share >= self.floor else self._extended
        rungs = descend(ladders, self.cost, share * self.cost.total, what=self.what)
        return assembled(ladders, rungs)

    def narrowed(self, choice: Choice) -> list[Ladder]:
        """The ladders of the groups that are narrower than these allow."""
        return [x for x in self.ladders if int(choice.of(x.group).sum()) < int(x.stays(len(x) - 1).sum())]

    @cached_property
    def _extended(self) -> Sequence[Ladder]:
        return [ladder.extended() for ladder in self.ladders] if self.halving else self.ladders

    @cached_property
    def least(self) -> float:
        """The share of the cost that can't be gone below, whatever widths that takes."""
        return self.share(assembled(self._extended, [len(ladder) - 1 for ladder in self._extended]))

    @cached_property
    def narrowest(self) -> Choice:
        """Which units stay with every group as narrow as it may be."""
        return assembled(self.ladders, [len(ladder) - 1 for ladder in self.ladders])

    @cached_property
    def floor(self) -> float:
        """The share of the cost that can't be gone below with the widths of `ladders`."""
        return self.share(self.narrowest)

    def share(self, choice: Choice) -> float:
        """The share of the cost that is left with these units."""
        return self.cost(choice) / self.cost.total

    def heaviest(self, choice: Choice) -> list[str]:
        """The groups that most of what is left lies in."""
        held = self.cost.held(choice)
        order = sorted(range(len(held)), key=lambda g: -held[g])
        return [self.ladders[g].group.name for g in order[:_NAMED]]


def assembled(ladders: Sequence[Ladder], rungs: Sequence[int]) -> Choice:
    """Which units stay with every group on its rung."""
    return Choice({x.group.id: x.stays(rung) for x, rung in zip(ladders, rungs, strict=True) if rung})


def descend(ladders: Sequence[Ladder], cost: Cost, target: float, *, what: str = "cost") -> list[int]:
    """The rung of every group for which the cost is at most `target`.

    Costs of neighbours multiply, so what a step saves is looked up anew whenever a neighbour has moved. At
    the end steps that turned out not to be needed are taken back, the most expensive first.

    Raises:
        Infeasible: even the last rungs cost more.
    """
    state = cost.state(Choice())
    rungs = [0] * len(ladders)
    prices = [ladder.prices() for ladder in ladders]
    neighbours = [cost.neighbours(g) for g in range(len(ladders))]
    version = [0] * len(ladders)
    heap: list[tuple[float, int, int]] = []

    def consider(g: int) -> None:
        version[g] += 1
        if rungs[g] + 1 < len(ladders[g]):
            saved = -state.change(g, ladders[g].stays(rungs[g] + 1))
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
        state.apply(g, ladders[g].stays(rungs[g]))
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
    """Undo steps, the most expensive first, while the budget still holds."""
    for _, g in sorted(taken, reverse=True):
        if rungs[g] and state.value + state.change(g, ladders[g].stays(rungs[g] - 1)) <= target:
            rungs[g] -= 1
            state.apply(g, ladders[g].stays(rungs[g]))


def _too_tight(ladders: Sequence[Ladder], cost: Cost, state: State, target: float, what: str) -> Infeasible:
    def weight(g: int) -> int:
        return state.change(g, np.zeros(ladders[g].group.size, bool))

    heaviest = sorted(range(len(ladders)), key=weight)[:_NAMED]
    names = ", ".join(f"'{ladders[g].group.name}'" for g in heaviest)
    least = state.value / cost.total
    return Infeasible(
        f"{target / cost.total:.3g} of the {what} can't be reached: at least {least:.3g} stay with every "
        f"group as narrow as it may be (most in {names})",
        hint=f"ask for {np.ceil(least * 1000) / 1000:g} or more, or lower --min-channels or --round-to",
    )
