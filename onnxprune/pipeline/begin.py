"""From what a user gives to a run: the model is loaded, samples are read and parted."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from dataclasses import replace

from .. import calibration
from ..contracts.sampling import Calibration, Source
from ..contracts.stats import Need, Stats
from ..contracts.timing import Timing
from ..errors import InputError, UsageError
from ..graph import Graph, Network, load
from ..tuning import FinetuneOptions
from ..types import Progress
from .evidence import (
    HELD_BACK,
    HELD_BACK_FOR_DROP,
    Evidence,
    Labelled,
    first_sample,
    labelled_if_given,
    opened,
    require_classes,
    sample_sizes,
    split,
)
from .load import Loaded, loaded
from .options import Options
from .recipe import READS_NORMS, phases
from .run import Run
from .search import Setting

_OF_THE_LOSS: frozenset[Need] = frozenset({"slopes", "curvature"})


def begin(  # noqa: PLR0913
    model: str | os.PathLike[str] | Graph,
    options: Options,
    *,
    calib: Source | Calibration | None = None,
    labels: str | os.PathLike[str] | Labelled | None = None,
    stats: str | os.PathLike[str] | Stats | None = None,
    timing: Timing | None = None,
    measure_latency: bool = True,
    executor: Executor | None = None,
    finetune: FinetuneOptions | None = None,
    rewind: str | os.PathLike[str] | Graph | None = None,
    progress: Progress = lambda _: None,
) -> Run:
    """Load a model, read samples, and find out what is asked for.

    Raises:
        UsageError: options contradict one another, or a criterion is unknown.
        InputError: the model or the samples can't be read or don't fit.
    """
    options.require_sense()
    if finetune is not None:
        _require_samples(options, finetune, calib, labels)
        if rewind is not None and (finetune.order != "once" or finetune.regularize != "none"):
            reason = "goes with fine-tuning at the end alone"
            raise UsageError(reason, where="--rewind", hint="leave out --order and --regularize")
    recipe = phases(options, sampled=calib is not None or stats is not None)
    if options.masked:
        options = replace(options, repair="none")
    if any(phase.criterion.name in READS_NORMS for phase in recipe):
        options = replace(options, simplify=False)
    original = model if isinstance(model, Graph) else load(model)
    data = None if calib is None else opened(calib, original, options.seed)
    timing = timing or Timing()
    sample = first_sample(data)
    timing = replace(timing, dims={**sample_sizes(data, original), **timing.dims}, sample=sample)
    found = loaded(
        original,
        simplify=options.simplify,
        dims=timing.dims,
        sample=sample,
        must_run=True,
        allow_state=options.allow_state,
        progress=progress,
    )
    marked = labelled_if_given(labels, original)
    if marked is not None and options.metric in (None, "accuracy", "agreement"):
        require_classes(marked.labels)
    by_agreement = options.max_drop is not None and marked is None
    shares = HELD_BACK_FOR_DROP if by_agreement else HELD_BACK
    evidence = Evidence(shares=shares) if data is None else split(data, shares, options.seed)
    learns = finetune is not None and finetune.towards in ("labels", "both")
    if learns or any(phase.criterion.needs & _OF_THE_LOSS for phase in recipe):
        evidence, marked = _taught(evidence, marked, options)
    if stats is not None:
        known = stats if isinstance(stats, Stats) else calibration.load(stats)
        calibration.require_same(known, found.graph, "--stats", found.facts)
        evidence = replace(evidence, stats=known)
    earlier = None if rewind is None else _earlier(rewind, found, options, timing)
    setting = Setting(found, options, timing, executor, progress, finetune, earlier)
    return Run(setting, recipe, evidence, marked, measure_latency)


def _earlier(
    rewind: str | os.PathLike[str] | Graph, found: Loaded, options: Options, timing: Timing
) -> Network:
    """The network with the weights of an earlier export, rewritten in the same way.

    Raises:
        InputError: it is another network.
        UsageError: nothing may change.
    """
    if options.masked:
        raise UsageError("what is masked keeps its weights", where="--rewind", hint="leave out --masked")
    other = loaded(rewind, simplify=options.simplify, dims=timing.dims)
    if other.graph.fingerprint() != found.graph.fingerprint():
        reason = (
            f"is another network than {found.origin.where}, not an earlier one of the same nodes and shapes"
        )
        raise InputError(reason, where=other.origin.where, hint="export both in the same way")
    return other.network


def _require_samples(options: Options, finetune: FinetuneOptions, calib: object, labels: object) -> None:
    """Refuse to fine-tune where there is nothing to learn from, or where nothing may change.

    Raises:
        UsageError: there isn't, or it may not.
    """
    where = "--finetune"
    if options.masked:
        raise UsageError("what is masked is not fine-tuned", where=where, hint="leave out --masked")
    if options.pareto is not None:
        raise UsageError("models along a curve are not fine-tuned", where=where, hint="fine-tune the one")
    if calib is None:
        raise UsageError("there are no samples to learn from", where=where, hint="give --calib")
    if finetune.towards in ("labels", "both") and labels is None:
        raise UsageError("there are no labels to learn from", where=where, hint="give --labels")


def _taught(
    evidence: Evidence, marked: Labelled | None, options: Options
) -> tuple[Evidence, Labelled | None]:
    """The evidence with the loss that a criterion looks at, and the labelled samples that are left to judge.

    Raises:
        InputError: the loss can't be read.
    """
    loss = None if options.loss is None else load(options.loss)
    if marked is None:
        return replace(evidence, loss=loss), None
    learned, judge = marked.split(options.seed)
    note = (
        f"{learned.samples.rows} labelled samples, drawn at random, are learned from; "
        f"accuracy is measured on the other {judge.samples.rows}"
    )
    return replace(evidence, loss=loss, learned=learned, notes=(*evidence.notes, note)), judge
