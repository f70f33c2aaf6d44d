"""The widest choice within all limits: counted where that is exact, else measured on networks that were cut.

What a weight is has no influence on cost, so candidates are only cut, not repaired; but a repair may add to
the network, and then the limits are tightened by what it added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..contracts.budget import Limit
from ..contracts.groups import Choice
from ..contracts.maker import Candidate, Maker
from ..contracts.selection import keep_best
from ..cost.quantities import ROWS, Beside
from ..errors import Infeasible
from ..graph import Network, is_flattened
from ..types import Progress
from .allocation import Allocation
from .edge import Effort, Search, edge
from .refusal import too_tight
from .widths import Widths

LATENCY_WINDOW = 0.1
"""Measured latency ends at most this share below what was asked: to be more precise would be luck."""

WASTE = 0.05
"""At most this share of a cost may be cut beyond what was asked, for the sake of widths that kernels like."""

_CLOSE = 0.01
"""As `LATENCY_WINDOW`, for what is counted."""

_EVALUATIONS = 10
_ROUNDS = 6

_COUNTED = ("--macs", "--params")
"""What the cost that is brought down tells exactly."""


@dataclass(frozen=True, eq=False)
class Route:
    """The way from the whole network down to a budget.

    Attributes:
        base: the network that is cut.
        allocation: which units stay for a share of what is brought down.
        maker: cuts and repairs.
        widths: that groups may have.
        limits: that have to hold.
        beside: measures candidates beside the original.
        progress: told what begins.
    """

    base: Network
    allocation: Allocation
    maker: Maker
    widths: Widths
    limits: tuple[Limit, ...]
    beside: Beside
    progress: Progress = field(default=lambda _: None)


def exceeded(route: Route, network: Network, limits: Sequence[Limit] | None = None) -> tuple[Limit, float]:
    """The limit that a network exceeds most, or comes closest to; and by what share."""
    given = route.limits if limits is None else limits
    return max(((x, route.beside.excess(x, network)) for x in given), key=lambda pair: pair[1])


def within(route: Route) -> Choice:
    """The widest choice of units that is within all limits, before any repair.

    Raises:
        Infeasible: a limit can't be met, or all are met already.
        CannotCut: what is left of a candidate would not fit together.
    """
    limits, allocation = route.limits, route.allocation
    counted = [x for x in limits if ROWS[x.quantity.option].beside is None]
    if len(counted) == len(limits) and exceeded(route, route.base)[1] <= 0:
        met = ", ".join(f"{x.quantity.option} {x}" for x in counted)
        raise Infeasible(f"is within {met} already: nothing has to be removed", where=route.base.where)
    if len(limits) == 1 and limits[0].quantity.option in _COUNTED:
        share = limits[0].of(1.0) / route.beside.value(limits[0], route.base)
        choice = _topped(route, allocation.choice(share), share)
        # Of an If the dearest branch counts, which may have kept more than its share.
        aside = is_flattened(route.base.graph)
        if not aside or exceeded(route, route.maker.cut(choice).network)[1] <= 0:
            return choice
    route.progress("Measuring candidates")

    def evaluate(share: float) -> tuple[Choice, Network]:
        choice = allocation.choice(share)
        return choice, route.maker.cut(choice).network

    effort = Effort(_EVALUATIONS, tolerance=LATENCY_WINDOW if len(counted) < len(limits) else _CLOSE)

    def searched(inside: float, outside: float) -> Search[tuple[Choice, Network]]:
        return edge(
            evaluate,
            lambda made: exceeded(route, made[1])[1],
            inside=inside,
            outside=outside,
            effort=effort,
        )

    found = searched(allocation.floor, 1.0)
    if found.best is None and allocation.least < allocation.floor:
        found = searched(allocation.least, allocation.floor)
    if found.best is None:
        raise _refusal(route, found)
    return found.best.candidate[0]


def _refusal(route: Route, found: Search[tuple[Choice, Network]]) -> Infeasible:
    choice, network = found.closest.candidate
    x, excess = exceeded(route, network)
    least = x.written((1 + excess) * x.of(1.0))
    return too_tight(x.quantity.option, str(x), least, route.allocation.heaviest(choice))


def _topped(route: Route, choice: Choice, share: float) -> Choice:
    """More of the units where liked widths waste much of a budget: half a step of one group, a quarter, ...

    Only these few groups get widths that kernels like less; among them the one goes first that fills most.
    """
    allocation, halvings = route.allocation, range(1, route.widths.multiple.bit_length())
    for halving in halvings if not route.widths.strict else ():
        if share - allocation.share(choice) <= WASTE:
            break
        wider = []
        for ladder in allocation.ladders:
            group, step = ladder.group, route.widths.of(ladder.group) >> halving
            wanted = int(choice.of(group).sum()) + step
            if step and wanted <= group.size:
                more = choice.with_group(group, keep_best(group, ladder.scores, wanted))
                wider.append((allocation.share(more), more))
        fitting = ((s, m) for s, m in wider if s <= share)
        choice = max(fitting, key=lambda x: x[0], default=(0.0, choice))[1]
    return choice


@dataclass(frozen=True, eq=False)
class Met:
    """The widest network within all limits.

    Attributes:
        choice: which units stay.
        candidate: cut and repaired.
    """

    choice: Choice
    candidate: Candidate


def met(route: Route) -> Met:
    """The widest network within all limits, repaired; where repair adds to it, less is kept for that.

    Raises:
        Infeasible: a limit can't be met, or all are met already.
        CannotCut: what is left of a candidate would not fit together.
    """
    asked = {x.quantity.option: x for x in route.limits}
    limits = dict(asked)
    for _ in range(_ROUNDS):
        now = replace(route, limits=tuple(limits.values()))
        choice = within(now)
        made = route.maker.candidate(choice)
        counted = [x for x in limits.values() if ROWS[x.quantity.option].beside is None]
        original = [asked[x.quantity.option] for x in counted]
        if not original:
            return Met(choice, made)
        x, excess = exceeded(route, made.network, original)
        if excess <= 0:
            return Met(choice, made)
        option = x.quantity.option
        limits[option] = limits[option].times(1 / (1 + excess))
    raise Infeasible(
        f"{x} can't be met with what repair adds: {x.written((1 + excess) * x.of(1.0))} is left",
        where=x.quantity.option,
        hint="ask for more, or choose --repair fold or none",
    )
