"""The widest choice within all limits of a budget.

Costs are counted where that is exact, else measured on networks that were cut. Repair changes values, which
cost nothing, so candidates are not repaired. Where a repair adds to the network, limits are tightened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..contracts.budget import Limit
from ..contracts.groups import Choice
from ..contracts.maker import Candidate, Maker
from ..contracts.selection import keep_best
from ..cost.quantities import ROWS, CostMeter
from ..errors import Infeasible
from ..graph import Network, is_flattened
from ..types import Progress
from .allocation import Allocation
from .bisection import Bisection, Effort, bisect
from .refusal import too_tight
from .widths import Widths

LATENCY_WINDOW = 0.1
"""Measured latency ends at most this share below the limit: noise does not allow more."""

WASTE = 0.05
"""At most this share of a cost may be cut beyond the limit, for the sake of widths that kernels prefer."""

_CLOSE = 0.01
"""As `LATENCY_WINDOW`, for what is counted."""

_EVALUATIONS = 10
_ROUNDS = 6

_COUNTED = ("--macs", "--params")
"""Quantities that the cost model counts exactly."""


@dataclass(frozen=True, eq=False)
class AllocationProblem:
    """Which units should stay so that cost limits hold.

    Attributes:
        base: the network that is cut.
        allocation: which units stay for a share of the cost.
        maker: cuts and repairs.
        widths: that groups may have.
        limits: that have to hold.
        meter: measures candidates, and the original.
        progress: called with what begins.
    """

    base: Network
    allocation: Allocation
    maker: Maker
    widths: Widths
    limits: tuple[Limit, ...]
    meter: CostMeter
    progress: Progress = field(default=lambda _: None)


def exceeded(
    problem: AllocationProblem, network: Network, limits: Sequence[Limit] | None = None
) -> tuple[Limit, float]:
    """The limit that a network exceeds most, or comes closest to; and by what share."""
    given = problem.limits if limits is None else limits
    return max(((x, problem.meter.excess(x, network)) for x in given), key=lambda pair: pair[1])


def widest_within(problem: AllocationProblem) -> Choice:
    """The widest choice of units that is within all limits, before any repair.

    Raises:
        Infeasible: a limit can't be met, or all are met already.
        CannotCut: what is left of a candidate would not fit together.
    """
    limits, allocation = problem.limits, problem.allocation
    counted = [x for x in limits if ROWS[x.quantity.option].paired is None]
    if len(counted) == len(limits) and exceeded(problem, problem.base)[1] <= 0:
        held = ", ".join(f"{x.quantity.option} {x}" for x in counted)
        raise Infeasible(f"is within {held} already: nothing has to be removed", where=problem.base.where)
    if len(limits) == 1 and limits[0].quantity.option in _COUNTED:
        share = limits[0].of(1.0) / problem.meter.value(limits[0], problem.base)
        choice = _topped(problem, allocation.choice(share), share)
        # Of an If the most expensive branch counts, which may have kept more than its share.
        has_branches = is_flattened(problem.base.graph)
        if not has_branches or exceeded(problem, problem.maker.cut(choice).network)[1] <= 0:
            return choice
    problem.progress("Measuring candidates")

    def evaluate(share: float) -> tuple[Choice, Network]:
        choice = allocation.choice(share)
        return choice, problem.maker.cut(choice).network

    effort = Effort(_EVALUATIONS, tolerance=LATENCY_WINDOW if len(counted) < len(limits) else _CLOSE)

    def searched(inside: float, outside: float) -> Bisection[tuple[Choice, Network]]:
        return bisect(
            evaluate,
            lambda made: exceeded(problem, made[1])[1],
            inside=inside,
            outside=outside,
            effort=effort,
        )

    found = searched(allocation.floor, 1.0)
    if found.best is None and allocation.least < allocation.floor:
        found = searched(allocation.least, allocation.floor)
    if found.best is None:
        raise _refusal(problem, found)
    return found.best.candidate[0]


def _refusal(problem: AllocationProblem, found: Bisection[tuple[Choice, Network]]) -> Infeasible:
    choice, network = found.closest.candidate
    x, excess = exceeded(problem, network)
    least = x.written((1 + excess) * x.of(1.0))
    return too_tight(x.quantity.option, str(x), least, problem.allocation.heaviest(choice))


def _topped(problem: AllocationProblem, choice: Choice, share: float) -> Choice:
    """More units where the preferred widths waste much of a budget: half a step of one group, a quarter, ...

    Only these few groups get widths that kernels prefer less; among them the one goes first that fills most.
    """
    allocation, halvings = problem.allocation, range(1, problem.widths.multiple.bit_length())
    for halving in halvings if not problem.widths.strict else ():
        if share - allocation.share(choice) <= WASTE:
            break
        wider = []
        for ladder in allocation.ladders:
            group, step = ladder.group, problem.widths.of(ladder.group) >> halving
            wanted = int(choice.of(group).sum()) + step
            if step and wanted <= group.size:
                more = choice.with_group(group, keep_best(group, ladder.scores, wanted))
                wider.append((allocation.share(more), more))
        fitting = ((s, m) for s, m in wider if s <= share)
        choice = max(fitting, key=lambda x: x[0], default=(0.0, choice))[1]
    return choice


@dataclass(frozen=True, eq=False)
class WithinLimits:
    """The widest network within all limits.

    Attributes:
        choice: which units stay.
        candidate: cut and repaired.
    """

    choice: Choice
    candidate: Candidate


def meet(problem: AllocationProblem) -> WithinLimits:
    """The widest network within all limits, repaired; where repair adds to it, less is kept for that.

    Raises:
        Infeasible: a limit can't be met, or all are met already.
        CannotCut: what is left of a candidate would not fit together.
    """
    asked = {x.quantity.option: x for x in problem.limits}
    limits = dict(asked)
    for _ in range(_ROUNDS):
        now = replace(problem, limits=tuple(limits.values()))
        choice = widest_within(now)
        made = problem.maker.candidate(choice)
        counted = [x for x in limits.values() if ROWS[x.quantity.option].paired is None]
        original = [asked[x.quantity.option] for x in counted]
        if not original:
            return WithinLimits(choice, made)
        x, excess = exceeded(problem, made.network, original)
        if excess <= 0:
            return WithinLimits(choice, made)
        option = x.quantity.option
        limits[option] = limits[option].times(1 / (1 + excess))
    raise Infeasible(
        f"{x} can't be met with what repair adds: {x.written((1 + excess) * x.of(1.0))} is left",
        where=x.quantity.option,
        hint="raise the limit, or choose --repair fold or none",
    )
