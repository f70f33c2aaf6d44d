"""From what a user gives to a run: the model is loaded, samples are read and parted."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from dataclasses import replace

from .. import calibration
from ..contracts.stats import Stats
from ..execution.timing import Timing
from ..graph import Graph, load
from ..types import Progress
from .evidence import (
    HELD_BACK,
    TO_PROMISE,
    Calibration,
    Evidence,
    Labelled,
    Source,
    first_sample,
    labelled,
    opened,
    require_classes,
    sample_sizes,
    split,
)
from .load import loaded
from .options import Options
from .recipe import READS_NORMS, phases
from .run import Run
from .search import Setting


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
    progress: Progress = lambda _: None,
) -> Run:
    """Load a model, read samples, and find out what is asked for.

    Raises:
        UsageError: options contradict one another, or a criterion is unknown.
        InputError: the model or the samples can't be read or don't fit.
    """
    options.require_sense()
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
    marked = labels if labels is None or isinstance(labels, Labelled) else labelled(labels, original)
    if marked is not None and options.metric in (None, "accuracy", "agreement"):
        require_classes(marked.labels)
    promised = options.max_drop is not None and marked is None
    shares = TO_PROMISE if promised else HELD_BACK
    evidence = Evidence(shares=shares) if data is None else split(data, shares, options.seed)
    if stats is not None:
        known = stats if isinstance(stats, Stats) else calibration.load(stats)
        calibration.require_same(known, found.graph, "--stats", found.facts)
        evidence = replace(evidence, stats=known)
    setting = Setting(found, options, timing, executor, progress)
    return Run(setting, recipe, evidence, marked, measure_latency)
