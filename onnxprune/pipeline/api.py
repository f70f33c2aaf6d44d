"""`prune`, `pareto` and `apply`: what Python and the command line call."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import plan as plans
from ..contracts.choices import WeightSource
from ..contracts.options import declared, signed
from ..contracts.plan import Plan
from ..contracts.sampling import Calibration, Source
from ..contracts.stats import Stats
from ..contracts.timing import Timing
from ..errors import InputError
from ..graph import Graph, load
from ..tuning import FinetuneOptions
from ..types import Progress
from .begin import begin
from .curve import Pareto, along
from .evidence import (
    HELD_BACK,
    Evidence,
    Labelled,
    first_sample,
    labelled_if_given,
    opened,
    sample_sizes,
    split,
)
from .finetuning import read
from .load import loaded
from .options import Options
from .recipe import replayed
from .run import Result, Run, finish
from .search import Setting


def silent(_: str) -> None:
    """Report no progress."""


def prune(  # noqa: PLR0913
    model: str | os.PathLike[str] | Graph,
    options: Options | None = None,
    *,
    calib: Source | Calibration | None = None,
    labels: str | os.PathLike[str] | Labelled | None = None,
    stats: str | os.PathLike[str] | Stats | None = None,
    timing: Timing | None = None,
    measure_latency: bool = True,
    executor: Executor | None = None,
    finetune: FinetuneOptions | None = None,
    rewind: str | os.PathLike[str] | Graph | None = None,
    progress: Progress = silent,
    **given: Any,
) -> Result:
    """Remove units of a model until a budget is met.

    Args:
        model: a file, or a graph.
        options: a budget, and how it is met.
        calib: samples, for scores, repair and drift; three tenths are held back.
        labels: an `.npz` with inputs and `labels`, to measure accuracy on.
        stats: statistics that `onnxprune calibrate` gathered; else they are measured on `calib`.
        timing: how latency is measured.
        measure_latency: run both models side by side for the verdict.
        executor: where candidates are made, many at a time; here by default.
        finetune: fine-tune the result on `calib`, and how: towards the original's outputs, or towards half of
            the labels as well.
        rewind: the same network with earlier weights: the result has these at the units that stay, and is
            meant to be trained again, as by `finetune` towards labels. Its plan says what stays; `apply` it
            to the earlier network.
        progress: called with what begins.
        given: fields of `Options`: `macs=0.5`.

    Raises:
        UsageError: the budget or an option is wrong.
        Infeasible: nothing can be pruned, the budget can't be met, or the result is no gain.
        ProofFailed: the surgery was not exact: a bug.
        CheckFailed: the result drifts far.
        InputError: the model or the samples can't be read or don't fit.

    Example:
        >>> import onnxprune
        >>> model = "models/digits-plain.onnx"
        >>> result = onnxprune.prune(model, ratio=0.5, repair="none", measure_latency=False)
        >>> result.verdict.exact
        True
        >>> result.verdict.after.params < result.verdict.before.params
        True
        >>> [(group.size, group.kept) for group in result.plan.groups]
        [(32, 16), (32, 16), (64, 32), (64, 32), (128, 64), (128, 64)]
    """
    run = begin(
        model,
        _options(options, given),
        calib=calib,
        labels=labels,
        stats=stats,
        timing=timing,
        measure_latency=measure_latency,
        executor=executor,
        finetune=finetune,
        rewind=rewind,
        progress=progress,
    )
    return finish(run)


def pareto(  # noqa: PLR0913
    model: str | os.PathLike[str] | Graph,
    number: int,
    options: Options | None = None,
    *,
    calib: Source | Calibration | None = None,
    labels: str | os.PathLike[str] | Labelled | None = None,
    stats: str | os.PathLike[str] | Stats | None = None,
    timing: Timing | None = None,
    executor: Executor | None = None,
    progress: Progress = silent,
    **given: Any,
) -> Pareto:
    """Models along the curve of cost against quality.

    Args:
        model: a file, or a graph.
        number: how many models.
        options: where the curve ends (by default at a fifth of the multiply-accumulates), and how models
            are made.
        calib: samples, as for `prune`.
        labels: an `.npz` with inputs and `labels`; without them quality is agreement with the original.
        stats: statistics that `onnxprune calibrate` gathered.
        timing: how latency is measured.
        executor: where models are made, many at a time; latency isn't measured then.
        progress: called with what begins.
        given: fields of `Options`.

    Raises:
        UsageError: the budget is a ratio, or there are no samples to judge quality on.
        Infeasible: nothing can be pruned, or the budget can't be met.
        InputError: the model or the samples can't be read or don't fit.
    """
    run = begin(
        model,
        replace(_options(options, given), pareto=number),
        calib=calib,
        labels=labels,
        stats=stats,
        timing=timing,
        executor=executor,
        progress=progress,
    )
    return along(run, number)


def apply(  # noqa: PLR0913
    model: str | os.PathLike[str] | Graph,
    plan: Plan | str | os.PathLike[str],
    *,
    calib: Source | Calibration | None = None,
    labels: str | os.PathLike[str] | Labelled | None = None,
    batch: int = 32,
    memory: float = 2e9,
    weights: WeightSource = "kept",
    seed: int | None = None,
    measure_latency: bool = True,
    progress: Progress = silent,
) -> Result:
    """Replay a plan on the model it was made for, or on one with the same weights' names and shapes.

    Repair is replayed as well; where it was fitted to samples it needs them again, as `calib`.

    Args:
        model: a file, or a graph.
        plan: a plan, or its file.
        calib: the samples that repair was fitted to; without them it is left out, with a note.
        labels: an `.npz` with inputs and `labels`, to measure accuracy on.
        batch: samples that run together.
        memory: bytes of activations to hold in memory.
        weights: those of `model` at the kept indices, or `random` ones to train from scratch, unrepaired.
        seed: of random weights; by default the plan's.
        measure_latency: run both models side by side for the verdict.
        progress: called with what begins.

    Raises:
        InputError: the plan does not fit; the message names the first difference.
        ProofFailed: the surgery was not exact: a bug.

    Example:
        >>> import onnxprune
        >>> model = "models/digits-plain.onnx"
        >>> first = onnxprune.prune(model, ratio=0.5, repair="none", measure_latency=False)
        >>> again = onnxprune.apply(model, first.plan, measure_latency=False)
        >>> again.model == first.model
        True
    """
    plan = plan if isinstance(plan, Plan) else plans.read(Path(plan))
    made = dict(plan.options)
    original = model if isinstance(model, Graph) else load(model)
    options = _of_plan(made, weights, batch, memory)
    data = None if calib is None else opened(calib, original, options.seed)
    notes: tuple[str, ...] = ()
    if data is None and made.get("calibrated") and options.repair != "none":
        notes = ("the plan's repair was fitted to samples, and is left out without --calib",)
        options = replace(options, repair="none")
    tuned = read(made["finetune"]) if "finetune" in made and weights == "kept" else None
    if tuned is not None and (data is None or tuned.towards in ("labels", "both")):
        lacking = "--calib" if data is None else "the labels that it learned from"
        notes = (*notes, f"the plan's fine-tuning was fitted to samples, and is left out without {lacking}")
        tuned = None
    timing = Timing(dims=sample_sizes(data, original), sample=first_sample(data))
    found = loaded(
        original,
        simplify=options.simplify,
        dims=timing.dims,
        sample=timing.sample,
        must_run=True,
        allow_state=options.allow_state,
        progress=progress,
    )
    marked = labelled_if_given(labels, original)
    choose, judge = made.get("held_back", HELD_BACK)
    evidence = Evidence() if data is None else split(data, (choose, judge), options.seed)
    phases = replayed(plan, options, found.origin.where)
    _require_replayable(plan, made, found.origin.where)
    run = Run(
        Setting(found, options, timing, None, progress, tuned),
        phases,
        evidence,
        marked,
        measure_latency,
        weights,
        options.seed if seed is None else seed,
        {name: value for name, value in made.items() if name not in ("masked", "finetune")},
        {one.rewrite: one.sites for one in plan.rewrites},
        notes,
    )
    return finish(run)


def _options(options: Options | None, given: dict[str, Any]) -> Options:
    return replace(options, **given) if options is not None else Options(**given)


_REPLAYED = (
    "repair",
    "granularity",
    "allow_approximate",
    "allow_state",
    "simplify",
    "seed",
    "inbound_groups",
)


def _of_plan(made: dict[str, Any], weights: WeightSource, batch: int, memory: float) -> Options:
    """The options of a plan that say how it is replayed."""
    known = {d.name for d in declared(Options)}
    kept = {name: made[name] for name in _REPLAYED if name in made and name in known}
    if weights == "random":
        kept["repair"] = "none"
    return Options(**{"repair": "none", **kept}, batch=batch, memory=memory, force=True)


def _require_replayable(plan: Plan, made: dict[str, Any], where: str) -> None:
    """Refuse a plan of version 1 that lacks what was removed.

    Raises:
        InputError: it does.
    """
    for name, what in (("inbound", "kernels"), ("sparsity", "weights")):
        reductions = {one.reduction for phase in plan.phases for one in phase.reductions}
        if name in made and what not in reductions and not plan.layers:
            raise InputError(
                f"a plan of --{name} without its {what} can't be replayed",
                where=where,
                hint=f"run 'prune --{name}' again",
            )


for _function in (prune, pareto):
    vars(_function)["__signature__"] = signed(_function, Options)
