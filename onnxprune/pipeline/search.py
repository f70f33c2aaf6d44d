"""The units of one phase, with statistics and scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from ..calibration import DEFAULT_NEEDS
from ..contracts.groups import Choice, Scores
from ..contracts.maker import Candidate
from ..contracts.reduction import CannotCut, CannotRate, Space, Trace
from ..contracts.stats import Need
from ..contracts.timing import Timing
from ..contracts.verdict import Drop
from ..cost.quantities import CostMeter
from ..criteria import Context
from ..errors import Infeasible
from ..graph import Network
from ..strategies.limits import AllocationProblem
from ..tuning import FinetuneOptions
from ..types import Cause, Progress
from .blocking import kept_by_name
from .evidence import Evidence, measured
from .finetuning import towards_outputs, tuned
from .load import Loaded, require_groups
from .maker import CandidateMaker
from .options import Options
from .recipe import Phase

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Setting:
    """What does not change from phase to phase.

    Attributes:
        loaded: the model.
        options: how a budget is met.
        timing: how latency is measured.
        executor: where candidates are made; here by default.
        progress: called with what begins.
        finetune: how the result is fine-tuned, if it is.
        rewind: the network with other weights, which the result starts from again.
    """

    loaded: Loaded
    options: Options
    timing: Timing
    executor: Executor | None
    progress: Progress
    finetune: FinetuneOptions | None = None
    rewind: Network | None = None


@dataclass(frozen=True, eq=False)
class Search:
    """The units of one phase, with what is needed to choose among them.

    Attributes:
        setting: what does not change.
        phase: what is asked for.
        base: the network that is cut.
        before: from the network that the model was rewritten to, to `base`.
        spaces: units of `base`, in the order in which they are cut.
        evidence: what is known of `base`.
        notes: what the user should know.
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
    def maker(self) -> CandidateMaker:
        """Makes candidates."""
        return CandidateMaker(
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
    def meter(self) -> CostMeter:
        """Measures costs of candidates."""
        return CostMeter(self.setting.loaded.origin, self.setting.timing)

    def scores(self) -> Scores:
        """Importance of each unit, by the criterion."""
        fit = self.evidence.fit
        context = Context(self.rated, self.evidence.stats, self.options.seed, fit)
        return self.phase.criterion.scores(context)


@dataclass(frozen=True, eq=False)
class Solved:
    """The solution of a phase.

    Attributes:
        search: the units, and how they were searched.
        choice: which units stay.
        candidate: cut and repaired.
        problem: the allocation problem that was solved, with a cost budget.
        drop: how far the metric fell, with `--max-drop`.
    """

    search: Search
    choice: Choice
    candidate: Candidate
    problem: AllocationProblem | None = None
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
        search = replace(search, evidence=evidence_of(search, base, spaces))
    return search


def evidence_of(search: Search, network: Network, spaces: Sequence[Space]) -> Evidence:
    """The evidence with the statistics that criterion and sensitivity need."""
    options = search.options
    if search.phase.planned is not None:
        return search.evidence
    needs: frozenset[Need] = search.phase.criterion.needs
    if options.evaluations and search.phase.budget.uniform is None:
        needs |= DEFAULT_NEEDS
    if not needs:
        return search.evidence
    wanted = spaces[0].wanted(needs)
    return measured(
        search.evidence,
        network,
        wanted,
        batch=options.batch,
        seed=options.seed,
        progress=search.setting.progress,
    )


def searched(search: Search, look: Callable[[Search], T]) -> T:
    """Apply a search; if its choice can't be cut, again without the groups at fault.

    Groups are tried when they are found, but not at all widths: a number that is computed from a width
    may be the same for half of the channels and another one for a tenth.

    Raises:
        Infeasible: nothing is left to prune, or as `look`.
    """
    while True:
        try:
            return look(search)
        except CannotCut as trouble:
            search = narrowed(search, trouble)
        except CannotRate as trouble:
            search = _rateable(search, trouble)


def _rateable(search: Search, trouble: CannotRate) -> Search:
    """The search without groups that the criterion says nothing of.

    Raises:
        CannotRate: there are no others.
    """
    groups = {group.id for group in search.rated.groups}
    if not groups & trouble.groups or groups <= trouble.groups:
        raise trouble
    spaces = (search.rated.without(trouble.groups, Cause(-1, trouble.reason, "another criterion")),)
    note = f"{trouble.where}: {trouble.reason}: what it says nothing of stays whole"
    return replace(search, spaces=(*spaces, *search.spaces[1:]), notes=(*search.notes, note))


def narrowed(search: Search, trouble: CannotCut) -> Search:
    """The search without groups that can't be cut as was tried.

    Raises:
        Infeasible: nothing is left to prune.
    """
    if not trouble.groups or search.phase.planned is not None:
        raise trouble
    spaces = tuple(space.without(trouble.groups, trouble.cause) for space in search.spaces)
    by = str(search.base.graph.nodes[trouble.cause.by])
    note = f"{by}: {trouble.cause.reason}: these channels stay"
    require_groups(search.setting.loaded.origin.where, spaces[:1])
    return replace(search, spaces=spaces, notes=(*search.notes, note))


def in_network(search: Search, base: Network) -> Search:
    """The same units in another network, of which nothing is known yet; repair adds no layers to it."""
    setting = replace(search.setting, options=_without_layers(search.options))
    evidence = replace(search.evidence, stats=None)
    space = search.phase.reductions[0].find(base)
    return replace(search, setting=setting, base=base, spaces=(space,), evidence=evidence)


def _without_layers(options: Options) -> Options:
    return replace(options, repair="fold") if options.repair in ("auto", "reuse") else options


def left_of(search: Search, choice: Choice) -> Search:
    """The same units in the network that a choice leaves, cut, repaired and tuned, with statistics of it."""
    setting = search.setting
    base, wanted = search.maker.candidate(choice).network, setting.finetune
    if wanted is not None and wanted.between:
        few = replace(towards_outputs(wanted), epochs=wanted.between, updates=None, time=None)
        with suppress(Infeasible):  # what can't be trained is told of at the end
            base = tuned(base, setting.loaded.graph, search.evidence, few, setting.progress).network
    reduction = search.phase.reductions[0]
    space = reduction.find(base)
    apart = {g.id for g in space.groups} - {g.id for g in search.rated.groups}
    if apart:
        space = space.without(apart, Cause(-1, "was left whole from the start", "nothing"))
    evidence = replace(search.evidence, stats=None)
    left = replace(search, base=base, spaces=(space,), evidence=evidence)
    return replace(left, evidence=evidence_of(left, base, [space]))
