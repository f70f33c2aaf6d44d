"""From budgets of cost to the way down: what to bring down, on which widths."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..contracts.selection import keep_best
from ..cost.model import Cost, macs_model, parameters_model
from ..cost.sizes import check_dims, sizes
from ..errors import Infeasible
from ..graph import Graph, infer, symbolic_dims
from ..profile import Profile
from ..reductions.channels.cut import rewrite
from ..strategies.descent import Descent
from ..strategies.goals import Goals, caps, meet
from ..strategies.limits import worst
from ..types import Mask
from .choice import ladders
from .evidence import context
from .job import Job, Made, proved
from .latency import latency_cost, profiled
from .settings import Widths

LIKED = 16
"""Widths are multiples of this unless latency is measured: the CPU kernels of ONNX Runtime
work on blocks of 8 channels, or 16 with AVX-512. `profile` finds what they really like on a machine."""

WASTE = 0.05
"""At most this share of a cost may be cut beyond what was asked, for the sake of widths that kernels like."""

_IN_WORDS = {"macs": "multiply-accumulates", "params": "parameters", "latency": "latency"}
_ROUNDS = 6


@dataclass(frozen=True, eq=False)
class Route:
    """The way down.

    Attributes:
        descent: which units stay for a share of what is brought down.
        widths: that groups may have.
        goals: the budgets.
    """

    descent: Descent
    widths: Widths
    goals: Goals


def route(job: Job, goals: Goals) -> Route:
    """Find what to bring down, and what each group loses at each width.

    Raises:
        InputError: a latency table can't be read or written, or lacks a layer.
        UsageError: the provider isn't available, or a dimension was named that the model hasn't.
    """
    graph, analysis, timing = job.ready.graph, job.ready.analysis, job.timing
    check_dims(symbolic_dims(graph), timing.dims)
    given = job.settings.round_to
    measured: Profile | None = None
    if goals.latency is not None or timing.table_in is not None or timing.table_out is not None:
        multiple = None if given == "auto" else given
        measured = profiled(
            graph, job.ready.facts, analysis, timing, multiple=multiple, progress=job.progress
        )
    if given != "auto":
        widths = Widths(given)
    else:
        widths = Widths(measured.multiple if measured else LIKED, strict=False)
    job.progress("Choosing channels")
    driver = goals.driver
    facts = infer(graph, sizes(graph, timing.dims, timing.batch))
    cost: Cost
    if driver == "latency" and measured is not None:
        cost = latency_cost(graph, analysis, measured)
    elif driver == "params":
        cost = parameters_model(graph, analysis)
    else:
        cost = macs_model(graph, facts, analysis)
    scores = job.criterion.scores(context(job.ready, job.evidence, job.settings.seed))
    rungs = ladders(job.ready, job.evidence, scores, job.settings, widths, cost, job.progress)
    return Route(Descent(analysis, rungs, cost, _IN_WORDS[driver]), widths, goals)


def within(job: Job, way: Route) -> Mask:
    """The widest choice of units that is within all budgets, before any repair: bool (analysis.count,).

    Raises:
        Infeasible: a budget can't be met, or all are met already.
    """
    ready, descent = job.ready, way.descent
    budgets = caps(way.goals, ready.original, job.timing)
    counted = [cap for cap in budgets if cap.option != "--latency"]
    if len(counted) == len(budgets) and worst(counted, ready.graph)[1] <= 0:
        met = ", ".join(f"{cap.option} {cap.written(cap.limit)}" for cap in counted)
        raise Infeasible(f"is within {met} already: nothing has to be removed", where=ready.original.where)
    if len(budgets) == 1 and budgets[0].option in ("--macs", "--params"):  # counted, not measured
        share = budgets[0].limit / budgets[0].value(ready.graph)
        return _topped(way, descent.kept(share), share)

    def narrowed(kept: Mask) -> Graph:
        return rewrite(ready.graph, ready.facts, ready.analysis, kept)

    job.progress("Measuring candidates")
    return meet(descent.kept, narrowed, budgets, floor=descent.floor, names=descent.heaviest).kept


def _topped(way: Route, kept: Mask, share: float) -> Mask:
    """More of the units where liked widths waste much of a budget: half a step of one group, a quarter, ...

    Only these few groups get widths that kernels like less; among them the one goes first that fills most.
    """
    descent, halvings = way.descent, range(1, way.widths.multiple.bit_length())
    for halving in halvings if not way.widths.strict else ():
        if share - descent.share(kept) <= WASTE:
            break
        wider = []
        for ladder in descent.ladders:
            units, step = ladder.group.units, way.widths.of(ladder.group) >> halving
            wanted = int(kept[units].sum()) + step
            if step and wanted <= units.size:
                more = kept.copy()
                more[units] = keep_best(ladder.group, ladder.scores, wanted)
                wider.append((descent.share(more), more))
        kept = max(((s, m) for s, m in wider if s <= share), key=lambda x: x[0], default=(0.0, kept))[1]
    return kept


def met(job: Job, way: Route) -> Made:
    """The widest graph within all budgets, repaired; where repair adds to it, less is kept for that.

    Raises:
        Infeasible: a budget can't be met, or all are met already.
        ProofFailed: the surgery is not exact: a bug.
    """
    counted = replace(way.goals, latency=None)
    budgets = caps(counted, job.ready.original, job.timing)
    for _ in range(_ROUNDS):
        made = proved(job, within(job, way))
        if not budgets:
            return made
        cap, excess = worst(budgets, made.graph)
        if excess <= 0:
            return made
        way = replace(way, goals=way.goals.tightened(cap.option, 1 / (1 + excess)))
    kept = cap.written((1 + excess) * cap.limit)
    raise Infeasible(
        f"{cap.written(cap.limit)} can't be met with what repair adds: {kept} is left",
        where=cap.option,
        hint="ask for more, or choose --repair fold or none",
    )
