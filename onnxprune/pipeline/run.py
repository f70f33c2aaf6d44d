"""One run: phases, one after the other, then the proof, the verdict, and the form of delivery.

Pruning to a budget, models along a curve and replaying a plan are all this run, with other phases.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from ..contracts.groups import Choice
from ..contracts.maker import Candidate
from ..contracts.plan import Plan, PlannedPhase, PlannedReduction
from ..contracts.proof import Proved
from ..contracts.reduction import Trace
from ..contracts.repaired import Repaired
from ..contracts.traces import Unchanged, chained
from ..contracts.verdict import Drop, Verdict
from ..cost.macs import uncounted
from ..cost.quantities import ROWS
from ..errors import CheckFailed, Infeasible
from ..execution.sessions import open_session
from ..graph import Graph, Network, save
from ..proof import prove
from ..runtime import Feeds
from ..strategies.max_drop import Exams, lost, require_promise
from ..tuning import FinetuneOptions
from . import deliver
from .evidence import Evidence, Labelled
from .exams import exams
from .finetune import recorded
from .gradual import after_repair, rewound
from .judge import judged, require_worth
from .load import Loaded, assumed_feeds
from .phase import solved
from .recipe import Phase, names
from .search import Search, Setting, Solved, opened

Weights = Literal["kept", "random"]
"""What a result has for weights: those that are kept, repaired; or random ones, to train from scratch."""


@dataclass(frozen=True, eq=False)
class Result:
    """A pruned model.

    Attributes:
        graph: the model; `save` writes it.
        plan: what was kept, to replay with `apply`.
        verdict: what is known of it.
        prepared: what it was made from.
        solved: what each phase has come to.
    """

    graph: Graph
    plan: Plan
    verdict: Verdict
    prepared: Loaded
    solved: tuple[Solved, ...]

    @property
    def model(self) -> Any:
        """The `onnx.ModelProto`."""
        return self.graph.whole()

    @property
    def repaired(self) -> Repaired:
        """What became of the weights that are left; of the last phase."""
        return self.solved[-1].candidate.repaired

    @property
    def choice(self) -> Choice:
        """Which units stayed, in all phases."""
        found = Choice()
        for one in self.solved:
            found |= one.choice
        return found

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the model, whole or not at all; returns the bytes written."""
        return save(self.graph, path)


@dataclass(frozen=True, eq=False)
class Run:
    """What a run is given.

    Attributes:
        setting: the model, and how a budget is met.
        phases: what goes, in which order.
        evidence: samples and statistics of the model.
        labels: labelled samples, if there are any.
        measure_latency: whether the verdict shall measure it.
        weights: what the result has for weights.
        seed: of random weights.
        planned: what decides about the result, for the plan; by default what the options say.
        rewrites: of a plan that is replayed, by name: where they were made; `None` without a plan.
        notes: to hand on.
    """

    setting: Setting
    phases: tuple[Phase, ...]
    evidence: Evidence
    labels: Labelled | None = None
    measure_latency: bool = True
    weights: Weights = "kept"
    seed: int = 0
    planned: dict[str, Any] | None = None
    rewrites: dict[str, tuple[str, ...]] | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def feeds(self) -> Feeds:
        """A real batch where there is one, else random numbers: what is compared is compared on these."""
        fit = self.evidence.fit
        if fit is not None:
            return next(iter(fit.batches(self.setting.options.batch)))
        return assumed_feeds(self.setting.loaded.origin, self.setting.options.seed)

    def exams(self) -> Exams | None:
        """How quality is found out, if it is promised.

        Raises:
            UsageError: there are no samples to judge it on.
        """
        budget = next((p.budget for p in self.phases if p.budget.drop is not None), None)
        if budget is None:
            return None
        options = self.setting.options
        original = open_session(self.setting.loaded.original)
        return exams(
            self.evidence, self.labels, budget.metric, original, batch=options.batch, seed=options.seed
        )


def start(run: Run) -> Search:
    """The units of the first phase, and what is known of them."""
    loaded = run.setting.loaded
    return opened(run.setting, run.phases[0], loaded.network, Unchanged(), run.evidence)


def finish(run: Run) -> Result:
    """Run all phases.

    Raises:
        UsageError: a budget and an option contradict each other.
        Infeasible: the budget can't be met, or the result is no gain.
        ProofFailed: the surgery was not exact: a bug.
        CheckFailed: the result drifts far, or is slower than was asked.
    """
    promised = run.exams()
    first = solved(start(run), promised)
    return continued(run, [first], promised)


def continued(run: Run, found: list[Solved], promised: Exams | None = None) -> Result:
    """Run the phases that are left, and judge the result.

    Args:
        run: what is to be done.
        found: what the first phases have come to.
        promised: how quality is found out, if it is promised.
    """
    for phase in run.phases[len(found) :]:
        last = found[-1]
        cut = last.candidate.cut
        before = _after(last.search.before, cut.trace)
        evidence = replace(run.evidence, stats=None)
        setting = last.search.setting
        if last.candidate.widened:  # what comes next aims at the network with these layers, which is cut
            setting = replace(setting, loaded=replace(setting.loaded, network=cut.base))
        search = opened(setting, phase, last.candidate.network, before, evidence)
        found.append(solved(search, promised))
    again = None
    if run.setting.rewind is not None:
        found[-1] = rewound(found[-1], run.setting.rewind)
        promised = None
    wanted = run.setting.finetune
    if wanted is not None and run.weights == "kept":
        found[-1], again = after_repair(found[-1], wanted, run.feeds)
        if promised is not None and again is not None:
            found[-1] = replace(found[-1], drop=lost(found[-1].candidate.graph, promised)[1])
    again = None if run.setting.rewind is not None else again  # a plan has no earlier weights
    return _delivered(run, tuple(found), promised, again)


def _after(before: Trace, trace: Trace) -> Trace:
    return trace if isinstance(before, Unchanged) else chained([before, trace])


def _delivered(
    run: Run, found: tuple[Solved, ...], promised: Exams | None, tuned: FinetuneOptions | None
) -> Result:
    setting = run.setting
    loaded, options = setting.loaded, setting.options
    untouched = all(one.choice.removes_nothing() for one in found)
    if untouched and not options.force:
        raise Infeasible(
            "no group is large enough to lose so little: nothing would be removed",
            where=loaded.origin.where,
            hint="ask for more pruning, or --force to have the model as it is",
        )
    setting.progress("Proving the surgery")
    proofs = tuple(proof for one in found for proof in _proved(one, run.feeds))
    result = deliver.Delivered(loaded.origin if untouched else found[-1].candidate.network.sunk)
    if not untouched:
        result = _in_form(run, result, found)
    setting.progress("Comparing with the original")
    verdict = judged(
        loaded,
        result.network,
        proofs,
        run.evidence,
        run.labels,
        setting.timing,
        batch=options.batch,
        measure_latency=run.measure_latency,
    )
    verdict = replace(
        verdict,
        drop=_drop(run, found, result.network, promised),
        omitted=tuple(o for one in found for o in one.candidate.omitted),
        warnings=_warnings(run, found, result),
    )
    if not options.force and setting.rewind is None:  # what starts again is of no worth yet
        mode = found[-1].candidate.repaired.mode
        require_worth(verdict, loaded.origin.where, f"repair '{mode}'", in_place=result.in_place)
        if not result.in_place:
            _require_speed(found[0], verdict)
    graph = result.network.graph
    plan = Plan(
        loaded.graph.fingerprint(),
        tuple(_planned(one) for one in found if not one.choice.removes_nothing()),
        result.rewrites,
        {**(options_of(run, found[0]) if run.planned is None else run.planned), **_of_tuning(tuned)},
        _needing_samples(found, tuned),
    )
    return Result(graph, plan, verdict, loaded, found)


def _proved(one: Solved, feeds: Feeds) -> Sequence[Proved]:
    cut = one.candidate.cut
    if cut.choice.removes_nothing():
        return ()
    if one.candidate.widened:
        deliver.require_same(one.search.base, cut.base, feeds, "adding layers that restore channels")
    return (prove(cut, feeds),)


def _in_form(run: Run, result: deliver.Delivered, found: Sequence[Solved]) -> deliver.Delivered:
    options, timing, last = run.setting.options, run.setting.timing, found[-1]
    for one in found:
        chosen = None if run.rewrites is None else run.rewrites.get("grouped", ())
        result = deliver.with_kernels(result, one, options.inbound_groups, timing, run.feeds, chosen)
        result = deliver.with_values(result, one)
    if all(one.search.phase.name == "weights" for one in found):
        result = replace(result, in_place=True)
    if options.masked:
        result = deliver.as_mask(result, last, run.setting.loaded.origin, run.feeds, timing)
    if run.weights == "random":
        result = deliver.untrained(result, run.seed)
    return result


def _drop(run: Run, found: Sequence[Solved], network: Network, promised: Exams | None) -> Drop | None:
    """What is promised of the result; after a second phase it is found out again."""
    if promised is None or len(found) == 1:
        return found[0].drop
    drop = lost(network.graph, promised)[1]
    limit = next(p.budget.drop for p in run.phases if p.budget.drop is not None)
    require_promise(drop, limit, run.setting.loaded.origin.where)
    return drop


def _warnings(run: Run, found: Sequence[Solved], result: deliver.Delivered) -> tuple[str, ...]:
    stats = found[0].search.evidence.stats
    known = (*run.evidence.notes, *(() if stats is None else stats.warnings()))
    candidates: list[Candidate] = [one.candidate for one in found]
    return (
        *run.setting.loaded.notes,
        *(note for one in found for note in one.search.notes),
        *known,
        *run.notes,
        *result.notes,
        *(note for made in candidates for note in made.repaired.notes),
        *_reached(found[0], result.network),
    )


def _reached(one: Solved, network: Network) -> tuple[str, ...]:
    """What the limits have come to, where the table of the verdict doesn't say."""
    if one.route is None:
        return ()
    told = ("--macs", "--params", "--latency")
    beside = one.search.beside
    said = [
        f"{x.quantity.option}: {x.written(beside.value(x, network))}, asked for at most {x}"
        for x in one.route.limits
        if x.quantity.option not in told
    ]
    if any(x.quantity.option == "--macs" for x in one.route.limits):
        sized = network.sized(beside.dims)
        left_out = uncounted(sized.graph, sized.facts)
        said += [f"--macs leaves out {', '.join(map(str, left_out))}"] if left_out else []
    return tuple(said)


def _require_speed(one: Solved, verdict: Verdict) -> None:
    """Refuse a result that is surely slower than was asked: noise counts for it.

    Raises:
        CheckFailed: it is.
    """
    limits = () if one.route is None else one.route.limits
    limit = next((x for x in limits if ROWS[x.quantity.option].beside is not None), None)
    speed = verdict.speed
    if limit is None or speed is None:
        return
    found = speed.low if limit.share is not None else speed.after * speed.low / speed.ratio
    if found > limit.of(1.0):
        raise CheckFailed(
            f"the result takes {limit.written(speed.ratio if limit.share is not None else speed.after)}, "
            f"more than {limit}",
            where="--latency",
            hint="the machine may have been busy: try again, or --force to have it anyway",
        )


# -------------------------------------------------------------------- plans


def options_of(run: Run, first: Solved) -> dict[str, Any]:
    """What decides about the result, for the plan."""
    multiple = {} if first.route is None else {"multiple": first.route.widths.multiple}
    return {
        **run.setting.options.recorded(names(run.phases)),
        **multiple,
        "calibrated": run.evidence.fit is not None,
        "held_back": list(run.evidence.shares),
    }


def _planned(one: Solved) -> PlannedPhase:
    written: list[PlannedReduction] = [
        space.write(one.choice)
        for space in one.search.spaces
        if any(one.choice.cuts(group) for group in space.groups)
    ]
    return PlannedPhase(tuple(written))


def _of_tuning(tuned: FinetuneOptions | None) -> dict[str, Any]:
    return {} if tuned is None else {"finetune": recorded(tuned)}


def _needing_samples(found: Sequence[Solved], tuned: FinetuneOptions | None) -> tuple[str, ...]:
    """Steps that can be replayed only with the samples that they were fitted to."""
    fitted = any(one.candidate.repaired.before is not None for one in found)
    return (*(("repair",) if fitted else ()), *(("finetune",) if tuned is not None else ()))


__all__ = ["Result", "Run", "Weights", "continued", "finish", "options_of", "start"]
