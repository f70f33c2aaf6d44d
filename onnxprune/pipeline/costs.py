"""Cost budgets: the loss of each group at each width, and the widest network within all limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..contracts.groups import Choice, Group
from ..cost.macs import one_sample_macs
from ..cost.model import Cost, macs_model, parameters_model
from ..cost.quantities import driver
from ..cost.sizes import check_dims, sizes
from ..graph import Network, symbolic_dims
from ..profile import Profile
from ..quality.loss import Judge
from ..repair import predicted
from ..strategies import curves
from ..strategies.allocation import Allocation
from ..strategies.exchange import affordable, exchanged, parts
from ..strategies.ladder import Ladder
from ..strategies.limits import AllocationProblem, meet
from ..strategies.sensitivity import sensitivities
from ..strategies.steps import stepwise
from ..strategies.widths import DEFAULT_MULTIPLE, Widths
from .latency import latency_cost, profiled
from .maker import FITTED
from .search import Search, Solved, left_of

_IN_WORDS = {"--macs": "multiply-accumulates", "--params": "parameters", "--latency": "latency"}


def allocation_problem(search: Search) -> AllocationProblem:
    """The allocation problem of cost limits: the cost, and what each group loses at each width.

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
    widths = search.options.widths(DEFAULT_MULTIPLE if profile is None else profile.multiple)
    setting.progress("Choosing channels")
    cost = _cost(search, what, profile)
    ladders = _ladders(search, widths, cost)
    allocation = Allocation(ladders, cost, _IN_WORDS[what], halving=not widths.strict)
    return AllocationProblem(base, allocation, search.maker, widths, limits, search.meter, setting.progress)


def _cost(search: Search, what: str, profile: Profile | None) -> Cost:
    effect, graph, timing = search.rated.effect, search.base.graph, search.setting.timing
    if what == "--latency" and profile is not None:
        return latency_cost(search.rated, profile)
    if what == "--params":
        return parameters_model(graph, effect)
    facts = search.base.sized(sizes(graph, timing.dims, timing.batch)).facts
    return macs_model(graph, facts, effect)


def _ladders(search: Search, widths: Widths, cost: Cost) -> list[Ladder]:
    """The widths that each group may have, and what is lost at each: at the outputs where that is known."""
    stats = search.evidence.stats
    made = curves.plain(search.rated.groups, search.scores(), widths)
    if stats is None:
        return curves.even(made, cost)
    if not search.options.evaluations:
        return made
    found = sensitivities_of(search, made)
    if found is None and stats.sensitivities:
        found = curves.recalled(made, stats.sensitivities)
    return made if found is None else curves.measured(made, found)


def sensitivities_of(
    search: Search, ladders: Sequence[Ladder], most: int = curves.MOST
) -> list[dict[int, float]] | None:
    """For each ladder rung -> loss at the outputs; `None` without samples to measure it on.

    Args:
        search: the units.
        ladders: of its groups.
        most: samples to measure on at the most; fewer where the network is heavy.
    """
    space, evidence, options = search.rated, search.evidence, search.options
    stats, choose = evidence.stats, evidence.choose
    if stats is None or choose is None:
        return None

    def variant(group: Group, choice: Choice) -> Network:
        if group.approximate:  # what a normalisation makes of zeros is not what it makes without them
            return search.maker.cut(choice).network
        return predicted(space.mask(search.base, choice), space.lost(choice), search.base.graph, stats)

    count = curves.enough(ladders, one_sample_macs(search.base), options.evaluations, most)
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


def stepped(search: Search, problem: AllocationProblem, target: float | None = None) -> AllocationProblem:
    """The allocation problem with ladders renewed after each of `--steps` but the last."""

    def refresh(choice: Choice) -> list[Ladder]:
        left = left_of(search, choice)
        facts = left.base.facts
        cost = macs_model(left.base.graph, facts, left.rated.effect)
        return _ladders(left, problem.widths, cost)

    return stepwise(problem, search.options.steps, search.options.schedule, refresh, target)


def after_exchange(search: Search, problem: AllocationProblem) -> AllocationProblem:
    """The allocation problem after exchange between groups, as far as `--evals` allows."""
    evidence, options = search.evidence, search.options
    if evidence.fit is None or evidence.choose is None or not options.evaluations:
        return problem
    count = affordable(options.evaluations, min(FITTED, evidence.fit.count), one_sample_macs(search.base))
    if not count or len(problem.allocation.ladders) < 2:
        return problem
    graph = search.setting.loaded.graph
    judges = [Judge(graph, part.batches(options.batch)) for part in parts(evidence.choose)]
    quiet = exchanged(replace(problem, maker=search.maker.quietly()), judges, count)
    return replace(quiet, maker=problem.maker)


def within_limits(search: Search, problem: AllocationProblem) -> Solved:
    """The widest network within all limits, repaired."""
    search.setting.progress("Cutting and repairing")
    made = meet(problem)
    return Solved(search, made.choice, made.candidate, problem)
