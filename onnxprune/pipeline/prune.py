"""`prune`, `pareto` and `apply`: from what a user says to a job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Literal

from .. import calibration
from .. import plan as plans
from ..contracts.plan import Plan
from ..contracts.stats import Stats
from ..criteria import Criterion
from ..criteria import get as get_criterion
from ..criteria.inbound_variance import InboundVariance
from ..errors import InputError, UsageError
from ..execution.sessions import blaming
from ..execution.timing import Timing
from ..graph import Graph, load
from ..quality.metrics import Function
from ..reductions.channels.find import Granularity
from ..reductions.channels.plan import fit
from ..reductions.weights.single import Among
from ..repair import Mode
from ..strategies.schedule import Kind
from .curve import Pareto, along
from .evidence import (
    HELD_BACK,
    TO_PROMISE,
    Calibration,
    Evidence,
    Labelled,
    Source,
    gather,
    labelled,
    needed,
    opened,
    require_classes,
    sample_sizes,
)
from .job import Job, proved, silent
from .prepare import Progress, prepare, require_groups
from .refused import consistently
from .settings import Amount, Budget, Settings
from .solve import Result, finished, solve
from .unstructured import for_single_weights
from .untrained import untrained

Weights = Literal["kept", "random"]
"""What `apply` gives the channels that stay."""

_READS_NORMS = frozenset({"bn-scale"})


def prune(  # noqa: PLR0913  (a keyword for each flag)
    model: str | os.PathLike[str] | Graph,
    *,
    ratio: float | None = None,
    macs: Amount | None = None,
    params: Amount | None = None,
    size: Amount | None = None,
    latency: Amount | None = None,
    memory_peak: Amount | None = None,
    max_drop: Amount | None = None,
    metric: str | Function | None = None,
    select: str | None = None,
    inbound: float | None = None,
    sparsity: float | None = None,
    calib: Source | Calibration | None = None,
    labels: str | os.PathLike[str] | Labelled | None = None,
    stats: str | os.PathLike[str] | Stats | None = None,
    criterion: str | Criterion | None = None,
    repair: Mode = "auto",
    round_to: int | Literal["auto"] = "auto",
    min_channels: int = 1,
    keep: Sequence[str] = (),
    granularity: Granularity = "auto",
    allow_approximate: bool = False,
    simplify: bool = True,
    seed: int = 0,
    batch: int = 32,
    memory: float = 2e9,
    evaluations: int = 200,
    steps: int = 1,
    schedule: Kind = "linear",
    force: bool = False,
    inbound_groups: int = 0,
    masked: bool = False,
    sparsity_among: Among = "auto",
    timing: Timing | None = None,
    measure_latency: bool = True,
    executor: Executor | None = None,
    progress: Progress = silent,
) -> Result:
    """Remove whole channels until the budget is met.

    Args:
        model: a file, or a graph.
        ratio: share of the channels of every group to remove; see `Budget`, as for the following.
        macs: multiply-accumulates to keep at the most.
        params: parameters to keep at the most.
        size: bytes of the file to keep at the most.
        latency: time of a run to keep at the most.
        memory_peak: bytes in use during a run to keep at the most.
        max_drop: how far the metric may fall.
        metric: what may fall.
        select: a rule that says how much of every group stays.
        inbound: share of the input channels that every filter keeps.
        sparsity: share of the single weights that become zero; every shape stays.
        calib: samples, for scores, repair and drift; three tenths are held back.
        labels: an `.npz` with inputs and `labels`, to measure accuracy on.
        stats: statistics that `onnxprune calibrate` gathered; else they are measured on `calib`.
        criterion: see `Settings`, as for the following.
        repair: none, bias, fold, reuse, auto.
        round_to: keep a multiple of this many channels of each group; `auto`: of what kernels like.
        min_channels: keep at least this many of each group.
        keep: patterns of node or weight names whose channels must stay.
        granularity: what may go of attention.
        allow_approximate: channels may go that a normalisation runs over; that is not exact.
        simplify: clean the graph first; not for `bn-scale`, as cleaning folds what it reads.
        seed: of everything random.
        batch: samples that run together.
        memory: bytes of activations to hold in memory.
        evaluations: runs of held-back samples to spend on the allocation.
        steps: in how many steps to go there.
        schedule: how much goes in each.
        force: give a result that is not faster or drifts far, too.
        inbound_groups: let so many groups of filters read their own channels, where that is faster.
        masked: zero in place what would go, unrepaired; every shape stays.
        sparsity_among: which weights compete: of the model, a layer, or an output; see `Among`.
        timing: how latency is measured.
        measure_latency: run both models side by side for the verdict.
        executor: where candidates are made, many at a time; here by default.
        progress: told what begins.

    Raises:
        UsageError: the budget or an option is wrong.
        Infeasible: nothing can be pruned, the budget can't be met, or the result is no gain.
        ProofFailed: the surgery was not exact: a bug.
        CheckFailed: the result drifts far.
        InputError: the model or the samples can't be read or don't fit.
    """
    budget = Budget(
        ratio, macs, params, size, latency, memory_peak, max_drop, metric, select, inbound, sparsity
    )
    settings = Settings(
        criterion,
        repair,
        round_to,
        min_channels,
        keep,
        granularity,
        allow_approximate,
        simplify,
        seed,
        batch,
        memory,
        evaluations,
        steps,
        schedule,
        force,
        inbound_groups,
        masked,
        sparsity_among,
    )
    return prune_to(
        model,
        budget,
        settings,
        calib=calib,
        labels=labels,
        stats=stats,
        timing=timing,
        measure_latency=measure_latency,
        executor=executor,
        progress=progress,
    )


def prune_to(  # noqa: PLR0913
    model: str | os.PathLike[str] | Graph,
    budget: Budget,
    settings: Settings | None = None,
    *,
    calib: Source | Calibration | None = None,
    labels: str | os.PathLike[str] | Labelled | None = None,
    stats: str | os.PathLike[str] | Stats | None = None,
    timing: Timing | None = None,
    measure_latency: bool = True,
    executor: Executor | None = None,
    progress: Progress = silent,
) -> Result:
    """As `prune`, for a budget and settings in one piece each."""
    timing = timing or Timing()
    job = begin(model, budget, settings, timing, calib=calib, labels=labels, stats=stats, progress=progress)
    job = replace(job, measure_latency=measure_latency, executor=executor)
    if budget.sparsity is not None:
        return solve(job, budget)
    return consistently(job, lambda job: solve(job, budget))


def pareto(  # noqa: PLR0913
    model: str | os.PathLike[str] | Graph,
    number: int,
    budget: Budget | None = None,
    settings: Settings | None = None,
    *,
    calib: Source | Calibration | None = None,
    labels: str | os.PathLike[str] | Labelled | None = None,
    stats: str | os.PathLike[str] | Stats | None = None,
    timing: Timing | None = None,
    executor: Executor | None = None,
    progress: Progress = silent,
) -> Pareto:
    """Models along the curve of cost against quality.

    Args:
        model: a file, or a graph.
        number: how many models.
        budget: where the curve ends; by default at a fifth of the multiply-accumulates.
        settings: how.
        calib: samples, as for `prune`.
        labels: an `.npz` with inputs and `labels`; without them quality is agreement with the original.
        stats: statistics that `onnxprune calibrate` gathered.
        timing: how latency is measured.
        executor: where models are made, many at a time; latency isn't measured then.
        progress: told what begins.

    Raises:
        UsageError: the budget is a ratio, or there are no samples to judge quality on.
        Infeasible: nothing can be pruned, or the budget can't be met.
        InputError: the model or the samples can't be read or don't fit.
    """
    timing = timing or Timing()
    job = begin(model, budget, settings, timing, calib=calib, labels=labels, stats=stats, progress=progress)
    return consistently(replace(job, executor=executor), lambda job: along(job, budget, number))


def begin(
    model: str | os.PathLike[str] | Graph,
    budget: Budget | None,
    settings: Settings | None,
    timing: Timing,
    *,
    calib: Source | Calibration | None,
    labels: str | os.PathLike[str] | Labelled | None,
    stats: str | os.PathLike[str] | Stats | None,
    progress: Progress,
) -> Job:
    """Load and analyse a model, read samples, measure what the criterion needs.

    Raises:
        Infeasible: nothing can be pruned.
        InputError: the model or the samples can't be read or don't fit.
    """
    settings = settings or Settings()
    settings.require_use(budget)
    if budget is not None and budget.inbound is not None:
        settings = _by_inbound(settings)
    single = budget is not None and budget.sparsity is not None
    if single:
        settings = for_single_weights(settings, sampled=calib is not None, measured=stats is not None)
    if settings.masked:
        settings = replace(settings, repair="none")
    criterion = _criterion(settings, sampled=calib is not None or stats is not None)
    if criterion.name in _READS_NORMS:
        settings = replace(settings, simplify=False)
    original = model if isinstance(model, Graph) else load(model)
    data = None if calib is None else opened(calib, original, settings.seed)
    timing = replace(timing, dims={**sample_sizes(data, original), **timing.dims})
    ready = prepare(
        original,
        simplify=settings.simplify,
        granularity=settings.granularity,
        allow_approximate=settings.allow_approximate,
        keep=() if single else settings.keep,
        dims=timing.dims,
        progress=progress,
    )
    if not single:
        require_groups(ready)
    marked = labels if labels is None or isinstance(labels, Labelled) else labelled(labels, ready.original)
    if marked is not None and (budget is None or budget.metric in (None, "accuracy", "agreement")):
        require_classes(marked.labels)
    promised = budget is not None and budget.drop is not None and marked is None
    measured = settings.evaluations if budget is None or budget.of_costs else 0
    known = calibration.load(stats) if isinstance(stats, str | os.PathLike) else stats
    evidence = gather(
        ready,
        frozenset() if single else needed(criterion, measured),
        data,
        known,
        shares=TO_PROMISE if promised else HELD_BACK,
        batch=settings.batch,
        seed=settings.seed,
        progress=progress,
    )
    return Job(ready, evidence, criterion, settings, marked, timing, progress=progress)


def apply(  # noqa: PLR0913
    model: str | os.PathLike[str] | Graph,
    plan: Plan | str | os.PathLike[str],
    *,
    calib: Source | Calibration | None = None,
    labels: str | os.PathLike[str] | Labelled | None = None,
    batch: int = 32,
    memory: float = 2e9,
    weights: Weights = "kept",
    seed: int | None = None,
    measure_latency: bool = True,
    progress: Progress = lambda _: None,
) -> Result:
    """Replay a plan on the model it was made for, or on one with the same weights' names and shapes.

    Repair is replayed as well; where it was fitted to samples it needs them again, as `calib`.

    Args:
        model: a file, or a graph.
        plan: a plan, or its file.
        calib: the samples that repair was fitted to; without them it is left out, and a note says so.
        labels: an `.npz` with inputs and `labels`, to measure accuracy on.
        batch: samples that run together.
        memory: bytes of activations to hold in memory.
        weights: those of `model` at the kept indices, or `random` ones to train from scratch, unrepaired.
        seed: of random weights; by default the plan's.
        measure_latency: run both models side by side for the verdict.
        progress: told what begins.

    Raises:
        InputError: the plan does not fit; the message names the first difference.
        ProofFailed: the surgery was not exact: a bug.
    """
    plan = plan if isinstance(plan, Plan) else plans.read(Path(plan))
    made = dict(plan.options)
    settings = Settings(
        repair=made.get("repair", "none") if weights == "kept" else "none",
        granularity=made.get("granularity", "auto"),
        allow_approximate=bool(made.get("allow_approximate", False)),
        simplify=bool(made.get("simplify", True)),
        seed=int(made.get("seed", 0)),
        batch=batch,
        memory=memory,
        force=True,
    )
    original = model if isinstance(model, Graph) else load(model)
    data = None if calib is None else opened(calib, original, settings.seed)
    timing = Timing(dims=sample_sizes(data, original))
    ready = prepare(
        original,
        simplify=settings.simplify,
        granularity=settings.granularity,
        allow_approximate=settings.allow_approximate,
        dims=timing.dims,
        progress=progress,
    )
    kept = fit(plan, ready.graph, ready.analysis)
    made.pop("masked", None)
    if "inbound" in made:
        raise InputError(
            "a plan of --inbound can't be replayed: it says which channels go, not which kernels",
            where=ready.original.where,
            hint="run 'prune --inbound' again",
        )
    if "sparsity" in made:
        raise InputError(
            "a plan of --sparsity can't be replayed: it is of single weights",
            where=ready.original.where,
            hint="run 'prune --sparsity' again",
        )
    evidence = Evidence()
    plain = get_criterion("l1")
    if data is not None:
        choice, held = made.get("held_back", HELD_BACK)
        evidence = gather(
            ready, plain.needs, data, None, shares=(choice, held), seed=settings.seed, progress=progress
        )
    elif made.get("calibrated") and settings.repair != "none":
        note = "the plan's repair was fitted to samples, and is left out without --calib"
        settings, evidence = replace(settings, repair="none"), Evidence(notes=(note,))
    marked = labels if labels is None or isinstance(labels, Labelled) else labelled(labels, ready.original)
    job = Job(ready, evidence, plain, settings, marked, timing, measure_latency, progress=progress)
    with blaming(original, timing.dims):
        pruned = proved(job, kept)
        if weights == "random":
            pruned = untrained(pruned, settings.seed if seed is None else seed)
        return finished(job, pruned, made)


def _by_inbound(settings: Settings) -> Settings:
    """With the criterion that `inbound` goes by.

    Raises:
        UsageError: another one was asked for, or a mask.
    """
    if settings.masked:
        raise UsageError("zeroes kernels in place already", where="--inbound", hint="leave out --masked")
    name = InboundVariance().name
    if settings.criterion not in (None, name):
        raise UsageError(f"goes by {name}", where="--inbound", hint="leave out --criterion")
    return replace(settings, criterion=name)


def _criterion(settings: Settings, *, sampled: bool) -> Criterion:
    wanted = settings.criterion or ("obs" if sampled else "l1")
    return get_criterion(wanted) if isinstance(wanted, str) else wanted
