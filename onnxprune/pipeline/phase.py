"""One phase: from the units of a network to a choice among them, cut, repaired and proved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from ..calibration import DEFAULT_NEEDS
from ..contracts.groups import Choice, Group, Scores
from ..contracts.maker import Candidate
from ..contracts.plan import PlannedPhase
from ..contracts.reduction import CannotCut, ChannelUnits, Space, Trace, Wanted
from ..contracts.selection import keep_best
from ..contracts.stats import Need
from ..contracts.verdict import Drop
from ..cost.macs import one_sample_macs
from ..cost.model import Cost, macs_model, parameters_model
from ..cost.quantities import Beside, driver
from ..cost.sizes import check_dims, sizes
from ..criteria import Context
from ..execution.timing import Timing
from ..graph import Graph, Network, symbolic_dims
from ..profile import Profile
from ..quality.loss import Judge
from ..repair import predicted
from ..strategies import curves
from ..strategies.allocation import Allocation
from ..strategies.exchange import affordable, exchanged, parts
from ..strategies.ladder import Ladder
from ..strategies.max_drop import Exams, lost, most, require_promise
from ..strategies.meeting import Route, met
from ..strategies.sensitivity import sensitivities
from ..strategies.steps import rescored, stepwise
from ..strategies.uniform import by_rank, by_rule, chosen
from ..strategies.widths import LIKED, Widths
from ..types import Floats, Mask, Progress
from .blocking import kept_by_name
from .evidence import Evidence, measured
from .latency import latency_cost, profiled
from .load import Loaded, require_groups
from .maker import FITTED, Making
from .options import Options
from .recipe import Phase

T = TypeVar("T")

_IN_WORDS = {"--macs": "multiply-accumulates", "--params": "parameters", "--latency": "latency"}


@dataclass(frozen=True, eq=False)
class Setting:
    """What does not change from phase to phase.

    Attributes:
        loaded: the model.
        options: how a budget is met.
        timing: how latency is measured.
        executor: where candidates are made; here by default.
        progress: told what begins.
    """

    loaded: Loaded
    options: Options
    timing: Timing
    executor: Executor | None
    progress: Progress


@dataclass(frozen=True, eq=False)
class Search:
    """The units of one phase, and all that is known of them.

    Attributes:
        setting: what does not change.
        phase: what is asked for.
        base: the network that is cut.
        before: from the network that the model was rewritten to, to `base`.
        spaces: units of `base`, in the order in which they are cut.
        evidence: what is known of `base`.
        notes: what happened on the way.
    """

    setting: Setting
    phase: Phase
    base: Network
    before: Trace
    spaces: tuple[Space, ...]
    evidence: Evidence
    notes: tuple[str, ...] = ()

    @property
    def options(self) -> Options:
        """How a budget is met."""
        return self.setting.options

    @property
    def rated(self) -> Space:
        """The units that a criterion rates, and a budget is about."""
        return self.spaces[0]

    @cached_property
    def maker(self) -> Making:
        """Makes candidates."""
        return Making(
            self.setting.loaded,
            self.base,
            self.before,
            self.spaces,
            self.phase.reductions[-1].find,
            self.evidence,
            self.options,
            self.setting.progress,
        )

    @cached_property
    def beside(self) -> Beside:
        """Measures candidates beside the original."""
        return Beside(self.setting.loaded.origin, self.setting.timing)

    def scores(self) -> Scores:
        """What each unit is worth."""
        fit = self.evidence.fit
        context = Context(self.rated, self.evidence.stats, self.options.seed, fit)
        return self.phase.criterion.scores(context)


@dataclass(frozen=True, eq=False)
class Solved:
    """What a phase has come to.

    Attributes:
        search: where it was looked for.
        choice: which units stay.
        candidate: cut and repaired.
        route: the way down that was taken, with a budget of costs.
        drop: what is promised, if anything.
    """

    search: Search
    choice: Choice
    candidate: Candidate
    route: Route | None = None
    drop: Drop | None = None


def opened(setting: Setting, phase: Phase, base: Network, before: Trace, evidence: Evidence) -> Search:
    """Find the units of a phase, and measure what is needed to choose among them.

    Raises:
        Infeasible: there are none.
        InputError: a sample doesn't fit the model, or statistics are of another network.
        UsageError: a pattern of `--keep` names nothing.
    """
    options, loaded = setting.options, setting.loaded
    setting.progress(f"Finding {phase.name}")
    spaces: Sequence[Space] = [reduction.find(base) for reduction in phase.reductions]
    spaces, notes = kept_by_name(spaces, options.keep, loaded.original, base.graph)
    search = Search(setting, phase, base, before, tuple(spaces), evidence, notes)
    if phase.planned is None:
        require_groups(loaded.origin.where, spaces[:1])
    if evidence.stats is None:
        search = replace(search, evidence=_measured(search, base, spaces))
    return search


def _measured(search: Search, network: Network, spaces: Sequence[Space]) -> Evidence:
    """The evidence with what the criterion looks up, and what groups are measured with."""
    options = search.options
    if search.phase.planned is not None:
        return search.evidence
    needs: frozenset[Need] = search.phase.criterion.needs
    if options.evaluations and search.phase.budget.uniform is None:
        needs |= DEFAULT_NEEDS
    wanted = spaces[0].wanted(needs) if needs else Wanted({})
    return measured(
        search.evidence,
        network,
        wanted,
        batch=options.batch,
        seed=options.seed,
        progress=search.setting.progress,
    )


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


def searched(search: Search, look: Callable[[Search], T]) -> T:
    """What a look at the units gives; where a choice can't be cut, again without the groups at fault.

    Groups are rehearsed when they are found, but not at all widths: a number that is computed from a width
    may be the same for half of the channels and another one for a tenth.

    Raises:
        Infeasible: nothing is left to prune, or as `look`.
    """
    while True:
        try:
            return look(search)
        except CannotCut as trouble:
            search = narrowed(search, trouble)


def narrowed(search: Search, trouble: CannotCut) -> Search:
    """The search without groups that can't be cut as was tried.

    Raises:
        Infeasible: nothing is left to prune.
    """
    if not trouble.groups or search.phase.planned is not None:
        raise trouble
    spaces = tuple(space.without(trouble.groups, trouble.cause) for space in search.spaces)
    by = str(search.base.graph.nodes[trouble.cause.by])
    note = f"{by}: {trouble.cause.reason}: the channels that it is about stay"
    require_groups(search.setting.loaded.origin.where, spaces[:1])
    return replace(search, spaces=spaces, notes=(*search.notes, note))


def _solved(search: Search, exams: Exams | None) -> Solved:
    phase, budget = search.phase, search.phase.budget
    if phase.planned is not None:
        choice = _replayed(search, phase.planned)
        return Solved(search, choice, search.maker.candidate(choice))
    if budget.uniform is not None:
        choice = _freed(search, _uniform(search))
        return Solved(search, choice, search.maker.candidate(choice))
    way = route(search)
    if budget.drop is None or exams is None:
        return _met(search, _exchanged(search, _stepwise(search, way)))
    if budget.limits:
        found = _met(search, _exchanged(search, _stepwise(search, way)))
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
        way = _stepwise(search, way, found.share)
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


# -------------------------------------------------------------------- the same for every group


def _uniform(search: Search) -> Choice:
    """What a budget without a cost keeps."""
    uniform, options, space = search.phase.budget.uniform, search.options, search.rated
    if uniform is None:
        raise ValueError("the budget is one of costs")
    widths = Widths(1 if options.round_to == "auto" else options.round_to, least=options.min_channels)
    scores, rule, keep = search.scores(), uniform.rule, uniform.keep
    if rule is not None:
        return by_rule(space.groups, scores, lambda _, score: int(rule(score).sum()), widths)
    if keep is None:
        raise ValueError("a budget without a cost has a rule or a share")

    def choose(now: Scores, share: float) -> Choice:
        if search.phase.together:
            return by_rank(space.groups, now, share)
        return chosen(space.groups, now, uniform, share, widths)

    if options.steps == 1:
        return choose(scores, keep)

    def rescore(choice: Choice) -> Mapping[str, Floats]:
        left = _left(search, choice)
        return {g.id: s for g, s in zip(left.rated.groups, left.scores(), strict=True)}

    return rescored(
        space.groups, scores, keep, options.steps, options.schedule, choose, rescore, search.setting.progress
    )


def _left(search: Search, choice: Choice) -> Search:
    """The same units in the network that a choice leaves, cut and repaired, with statistics of it."""
    base = search.maker.candidate(choice).network
    reduction = search.phase.reductions[0]
    space = reduction.find(base)
    evidence = replace(search.evidence, stats=None)
    left = replace(search, base=base, spaces=(space,), evidence=evidence)
    return replace(left, evidence=_measured(left, base, [space]))


def _freed(search: Search, choice: Choice) -> Choice:
    """With the channels that no kernel reads any more: they go from the network for nothing."""
    for space in search.spaces[1:]:
        if isinstance(space, ChannelUnits):
            for group in space.groups:
                stays = _still_read(search.rated, choice, space, group)
                if stays is not None:
                    choice = choice.with_group(group, stays)
    return choice


def _still_read(kernels: Space, choice: Choice, space: ChannelUnits, group: Group) -> Mask | None:
    """Which units of a group some kernel still reads; `None` where others read them, or rows get uneven."""
    by_output = {one.layers[0]: one for one in kernels.groups}
    left = space.summing(group)
    read = np.zeros(group.size, bool)
    for consumer in space.consumers:
        own = by_output.get(consumer.output)
        units = space.local(group, consumer)
        if own is None or not (units >= 0).any():
            continue
        kept = choice.of(own).reshape(own.runs, -1).any(axis=0)
        read[units[(units >= 0) & kept]] = True
        left -= {consumer.output}
    if left or read.all() or not read.any():
        return None
    stays = keep_best(group, read.astype(np.float64), int(read.sum()))
    return stays | read if (stays >= read).all() else None


# -------------------------------------------------------------------- budgets of costs


def route(search: Search) -> Route:
    """Find what to bring down, and what each group loses at each width.

    Raises:
        InputError: a latency table can't be read or written, or lacks a layer.
        UsageError: the provider isn't available, or a dimension was named that the model hasn't.
    """
    setting, base, timing = search.setting, search.base, search.setting.timing
    check_dims(symbolic_dims(base.graph), timing.dims)
    limits = search.phase.budget.limits
    what = driver(limits)
    profile: Profile | None = None
    if what == "--latency" or timing.table_in is not None or timing.table_out is not None:
        asked = search.options.round_to
        multiple = None if asked == "auto" else asked
        profile = profiled(search.rated, timing, multiple=multiple, progress=setting.progress)
    widths = search.options.widths(LIKED if profile is None else profile.multiple)
    setting.progress("Choosing channels")
    cost = _cost(search, what, profile)
    ladders = _ladders(search, widths, cost)
    allocation = Allocation(ladders, cost, _IN_WORDS[what])
    return Route(base, allocation, search.maker, widths, limits, search.beside, setting.progress)


def _cost(search: Search, what: str, profile: Profile | None) -> Cost:
    effect, graph, timing = search.rated.effect, search.base.graph, search.setting.timing
    if what == "--latency" and profile is not None:
        return latency_cost(search.rated, profile)
    if what == "--params":
        return parameters_model(graph, effect)
    facts = search.base.sized(sizes(graph, timing.dims, timing.batch)).facts
    return macs_model(graph, facts, effect)


def _ladders(search: Search, widths: Widths, cost: Cost) -> list[Ladder]:
    """The widths that each group may have, and what is lost at each: at the outputs where measured."""
    options, evidence = search.options, search.evidence
    made = curves.plain(search.rated.groups, search.scores(), widths)
    if evidence.stats is None:
        return curves.even(made, cost)
    if evidence.choose is None or not options.evaluations:
        return made

    def measure(ladders: Sequence[Ladder], count: int) -> list[dict[int, float]]:
        return _sensitivities(search, ladders, count)

    return curves.measured(made, measure, one_sample_macs(search.base), options.evaluations)


def _sensitivities(search: Search, ladders: Sequence[Ladder], count: int) -> list[dict[int, float]]:
    space, evidence, options = search.rated, search.evidence, search.options
    stats, choose = evidence.stats, evidence.choose
    if stats is None or choose is None:
        return [{} for _ in ladders]

    def variant(group: Group, choice: Choice) -> Network:
        if group.approximate:  # what a normalisation makes of zeros is not what it makes without them
            return search.maker.cut(choice).network
        return predicted(space.mask(search.base, choice), space.lost(choice), search.base.graph, stats)

    return sensitivities(
        search.base,
        ladders,
        variant,
        space.start,
        choose.first(count).batches(options.batch),
        options.evaluations,
        memory=options.memory,
        progress=search.setting.progress,
    )


def _stepwise(search: Search, way: Route, target: float | None = None) -> Route:
    def refresh(choice: Choice) -> list[Ladder]:
        left = _left(search, choice)
        facts = left.base.facts
        cost = macs_model(left.base.graph, facts, left.rated.effect)
        return _ladders(left, way.widths, cost)

    return stepwise(way, search.options.steps, search.options.schedule, refresh, target)


def _exchanged(search: Search, way: Route) -> Route:
    """The way down after candidates were compared at the outputs, as far as `--evals` allows."""
    evidence, options = search.evidence, search.options
    if evidence.fit is None or evidence.choose is None or not options.evaluations:
        return way
    count = affordable(options.evaluations, min(FITTED, evidence.fit.count), one_sample_macs(search.base))
    if not count or len(way.allocation.ladders) < 2:
        return way
    graph = search.setting.loaded.graph
    judges = [Judge(graph, part.batches(options.batch)) for part in parts(evidence.choose)]
    quiet = exchanged(replace(way, maker=search.maker.quietly()), judges, count)
    return replace(quiet, maker=way.maker)


def _met(search: Search, way: Route) -> Solved:
    search.setting.progress("Cutting and repairing")
    made = met(way)
    return Solved(search, made.choice, made.candidate, way)
