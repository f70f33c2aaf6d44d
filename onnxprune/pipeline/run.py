"""One run: phases, one after the other, then the proof, the verdict, and the form of delivery.

Pruning to a budget, models along a curve and replaying a plan are all this run, with other phases.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..contracts.choices import WeightSource
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
from ..execution.sessions import answering, open_session
from ..graph import Delivery, Graph, Network, save
from ..proof import prove
from ..runtime import Feeds
from ..strategies.limits import AllocationProblem
from ..strategies.max_drop import Evaluators, lost, require_drop
from ..tuning import FinetuneOptions
from . import deliver
from .evaluators import evaluators
from .evidence import Evidence, Labelled
from .finetuning import recorded
from .gradual import after_repair, rewound
from .judge import judged, require_worth, size
from .load import Loaded, assumed_feeds
from .phase import solved
from .recipe import Phase, names
from .search import Search, Setting, Solved, opened


@dataclass(frozen=True, eq=False)
class Result:
    """A pruned model.

    Attributes:
        graph: the model; `save` writes it.
        plan: what was kept, to replay with `apply`.
        verdict: what is known of it.
        prepared: what it was made from.
        solved: the solution of each phase.
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
        """The repair of the last phase."""
        return self.solved[-1].candidate.repaired

    @property
    def choice(self) -> Choice:
        """Which units stayed, in all phases."""
        found = Choice()
        for one in self.solved:
            found |= one.choice
        return found

    def save(self, path: str | os.PathLike[str], delivery: Delivery | None = None) -> int:
        """Write the model, whole or not at all; returns the bytes written.

        Args:
            path: where it shall appear.
            delivery: other files that it shall appear with.
        """
        return save(self.graph, path, delivery)


@dataclass(frozen=True, eq=False)
class Run:
    """What a run is given.

    Attributes:
        setting: the model, and how a budget is met.
        phases: what is removed, in which order.
        evidence: samples and statistics of the model.
        labels: labelled samples, if there are any.
        measure_latency: whether the verdict shall measure it.
        weights: kept, or random.
        seed: of random weights.
        planned: what the plan records; by default from the options.
        rewrites: of a plan that is replayed, by name: where they were made; `None` without a plan.
        notes: to hand on.
    """

    setting: Setting
    phases: tuple[Phase, ...]
    evidence: Evidence
    labels: Labelled | None = None
    measure_latency: bool = True
    weights: WeightSource = "kept"
    seed: int = 0
    planned: dict[str, Any] | None = None
    rewrites: dict[str, tuple[str, ...]] | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def feeds(self) -> Feeds:
        """A batch of samples, or random numbers without any: inputs for comparisons."""
        fit = self.evidence.fit
        if fit is not None:
            return next(iter(fit.batches(self.setting.options.batch)))
        return assumed_feeds(self.setting.loaded.origin, self.setting.options.seed)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """What fails is the model's fault only if the model fails as well, on the same samples.

        Raises:
            InputError: it is.
            ProofFailed: it is not: a bug.
        """
        given = [s for s in (self.evidence.fit, self.evidence.choose, self.evidence.judge) if s is not None]
        if self.labels is not None:
            given.append(self.labels.samples)

        def batches() -> Iterator[Feeds]:
            if given:
                yield from (feeds for samples in given for feeds in samples)
            else:
                yield self.feeds

        with answering(self.setting.loaded.original, self.setting.timing.dims, batches()):
            yield

    def evaluators(self) -> Evaluators | None:
        """What measures quality; `None` without `--max-drop`.

        Raises:
            UsageError: there are no samples to judge it on.
        """
        budget = next((p.budget for p in self.phases if p.budget.drop is not None), None)
        if budget is None:
            return None
        options = self.setting.options
        original = open_session(self.setting.loaded.original)
        return evaluators(
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
    with run.answering():
        evaluators = run.evaluators()
        first = solved(start(run), evaluators)
        return continued(run, [first], evaluators)


def continued(run: Run, found: list[Solved], evaluators: Evaluators | None = None) -> Result:
    """Run the phases that are left, and judge the result.

    Args:
        run: what is to be done.
        found: the solutions of the first phases.
        evaluators: measure quality; `None` without `--max-drop`.
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
        found.append(solved(search, evaluators))
    again = None
    if run.setting.rewind is not None:
        found[-1] = rewound(found[-1], run.setting.rewind)
        evaluators = None
    wanted = run.setting.finetune
    if wanted is not None and run.weights == "kept":
        found[-1], again = after_repair(found[-1], wanted, run.feeds)
        if evaluators is not None and again is not None:
            found[-1] = replace(found[-1], drop=lost(found[-1].candidate.graph, evaluators)[1])
    again = None if run.setting.rewind is not None else again  # a plan has no earlier weights
    return _delivered(run, tuple(found), evaluators, again)


def _after(before: Trace, trace: Trace) -> Trace:
    return trace if isinstance(before, Unchanged) else chained([before, trace])


def _delivered(
    run: Run, found: tuple[Solved, ...], evaluators: Evaluators | None, tuned: FinetuneOptions | None
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
    result = deliver.Delivered(loaded.origin if untouched else found[-1].candidate.network.unflattened)
    if not untouched:
        result = _in_form(run, result, found)
    setting.progress("Comparing with the original")
    compared = result.network
    verdict = judged(
        loaded,
        compared,
        proofs,
        run.evidence,
        run.labels,
        setting.timing,
        batch=options.batch,
        measure_latency=run.measure_latency,
    )
    if options.allow_state:
        result = deliver.with_narrow_states(result, run.feeds)
        verdict = replace(verdict, after=size(result.network, setting.timing))
    verdict = replace(
        verdict,
        drop=_drop(run, found, compared, evaluators),
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
        result = deliver.with_random_weights(result, run.seed)
    return result


def _drop(run: Run, found: Sequence[Solved], network: Network, evaluators: Evaluators | None) -> Drop | None:
    """The drop of the result, for `--max-drop`; measured again after a second phase."""
    if evaluators is None or len(found) == 1:
        return found[0].drop
    drop = lost(network.graph, evaluators)[1]
    limit = next(p.budget.drop for p in run.phases if p.budget.drop is not None)
    require_drop(drop, limit, run.setting.loaded.origin.where)
    return drop


def _warnings(run: Run, found: Sequence[Solved], result: deliver.Delivered) -> tuple[str, ...]:
    stats = found[0].search.evidence.stats
    labelled = () if run.labels is None else run.labels.samples.notes
    known = (*dict.fromkeys((*run.evidence.notes, *labelled)), *(() if stats is None else stats.warnings()))
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
    """Notes on limits that the table of the verdict doesn't show."""
    if one.problem is None:
        return ()
    in_table = ("--macs", "--params", "--latency")
    meter = one.search.meter
    notes = _narrowed(one.problem, one.choice)
    notes += [
        f"{x.quantity.option}: {x.written(meter.value(x, network))}, asked for at most {x}"
        for x in one.problem.limits
        if x.quantity.option not in in_table
    ]
    if any(x.quantity.option == "--macs" for x in one.problem.limits):
        sized = network.sized(meter.dims)
        left_out = uncounted(sized.graph, sized.facts)
        notes += [f"--macs leaves out {', '.join(map(str, left_out))}"] if left_out else []
    return tuple(notes)


def _narrowed(problem: AllocationProblem, choice: Choice) -> list[str]:
    """A note on groups that are narrower than the preferred multiple, where nothing else meets a budget."""
    narrow = problem.allocation.narrowed(choice)
    if not narrow:
        return []
    groups = "1 group keeps" if len(narrow) == 1 else f"{len(narrow)} groups keep"
    liked = max(ladder.counts[-1] for ladder in narrow)
    return [f"{groups} fewer than the {liked} channels that kernels like: nothing wider meets the budget"]


def _require_speed(one: Solved, verdict: Verdict) -> None:
    """Refuse a result that is surely slower than the limit; noise counts in its favour.

    Raises:
        CheckFailed: it is.
    """
    limits = () if one.problem is None else one.problem.limits
    limit = next((x for x in limits if ROWS[x.quantity.option].paired is not None), None)
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
    """The options that affect the result, for the plan."""
    multiple = {} if first.problem is None else {"multiple": first.problem.widths.multiple}
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


__all__ = ["Result", "Run", "continued", "finish", "options_of", "start"]
