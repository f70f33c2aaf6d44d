"""What `onnxprune calibrate` gathers: sums, and what the outputs lose with each group of channels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from .. import calibration
from ..calibration import DEFAULT_NEEDS
from ..contracts.budget import Budget
from ..contracts.reduction import Wanted
from ..contracts.sampling import Calibration, Source
from ..contracts.stats import Need, Stats
from ..contracts.timing import Timing
from ..contracts.traces import Unchanged
from ..criteria import get as get_criterion
from ..execution.sessions import answering
from ..graph import Graph, Network, load
from ..reductions.channels import Channels
from ..reductions.weights import Kernels, Weights
from ..runtime import ExecutionOptions
from ..samples import Samples
from ..strategies.curves import plain
from ..strategies.widths import DEFAULT_MULTIPLE
from ..types import Progress
from .costs import sensitivities_of
from .evidence import Evidence, first_sample, lesson_of, opened, sample_sizes, with_slopes
from .load import Loaded, loaded
from .options import Options
from .recipe import Phase
from .search import Search, Setting

MEASURED = 64
"""Samples that groups are measured on, at the most: with more of them the digits are cut no better."""


def with_samples(
    model: str | os.PathLike[str] | Graph,
    calib: Source | Calibration,
    *,
    simplify: bool = True,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> tuple[Loaded, Samples]:
    """A model, loaded and rewritten, and its samples.

    Args:
        model: a file, or a graph.
        calib: where samples are.
        simplify: clean the graph, as `prune` does.
        seed: of random samples.
        progress: told what begins.

    Raises:
        InputError: the model or the samples can't be read or don't fit.
    """
    original = model if isinstance(model, Graph) else load(model)
    samples = opened(calib, original, seed)
    found = loaded(
        original,
        simplify=simplify,
        dims=sample_sizes(samples, original),
        sample=first_sample(samples),
        must_run=True,
        progress=progress,
    )
    return found, samples


def calibrated(  # noqa: PLR0913
    loaded: Loaded,
    samples: Samples,
    criteria: Sequence[str] = (),
    *,
    positions: int | None = None,
    evaluations: int = 200,
    batch: int = 32,
    threads: int = 0,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Stats:
    """Gather what pruning has to know of samples, so that it needs no samples any more.

    Args:
        loaded: the model.
        samples: of its inputs.
        criteria: names of criteria to gather for; without any, what most of them need.
        positions: pixels or tokens of each sample to look at; 0: all; `None`: as many as cost little.
        evaluations: runs of some samples to spend on what the outputs lose with each group; 0: not measured.
        batch: samples that run together.
        threads: within an operator; 0 leaves it to ONNX Runtime.
        seed: of the positions that are looked at.
        progress: called with how far it is.

    Raises:
        UsageError: there is no such criterion.
        InputError: a sample doesn't fit the model.
    """
    options = Options(evaluations=evaluations, batch=batch, seed=seed)
    with answering(loaded.original, batches=samples):
        stats = _measured(loaded, samples, criteria, positions, threads, options, progress)
        return _with_sensitivities(loaded, samples, stats, options, progress)


def _measured(
    loaded: Loaded,
    samples: Samples,
    criteria: Sequence[str],
    positions: int | None,
    threads: int,
    options: Options,
    progress: Progress,
) -> Stats:
    network = loaded.network
    asked = wanted(network, criteria)
    stats = calibration.measure(
        network.graph,
        calibration.requests(network, asked, positions=positions, samples=samples.count),
        samples.batches(options.batch),
        seed=options.seed,
        source=samples.source,
        options=ExecutionOptions(threads=threads),
        progress=lambda done: progress(f"Calibrating: sample {done} of {samples.count}"),
    )
    if asked.gates:
        lesson = lesson_of(samples, None, None, options.batch, options.seed)
        stats = with_slopes(stats, network, asked.gates, lesson, progress)
    return stats


def _with_sensitivities(
    loaded: Loaded, samples: Samples, stats: Stats, options: Options, progress: Progress
) -> Stats:
    """With what the outputs lose with each group, if runs may be spent on that."""
    if not options.evaluations:
        return stats
    network = loaded.network
    setting = Setting(loaded, options, Timing(), None, progress)
    phase = Phase("channels", (Channels(),), Budget(), get_criterion("obs"))
    evidence = Evidence(choose=samples.some(MEASURED, options.seed), stats=stats)
    space = phase.reductions[0].find(network)
    search = Search(setting, phase, network, Unchanged(), (space,), evidence)
    if not space.groups or stats.samples < 2:
        return stats
    ladders = plain(space.groups, search.scores(), options.widths(DEFAULT_MULTIPLE))
    found = sensitivities_of(search, ladders, MEASURED) or []
    known = {
        ladder.group.id: tuple(sorted((ladder.counts[rung], loss) for rung, loss in losses.items()))
        for ladder, losses in zip(ladders, found, strict=True)
        if losses
    }
    return replace(stats, sensitivities=known)


def wanted(network: Network, criteria: Sequence[str]) -> Wanted:
    """What criteria look up, whatever the units, and what repair from statistics needs.

    Args:
        network: the network.
        criteria: names; without any, what most criteria need.

    Raises:
        UsageError: there is no such criterion.
        Infeasible: no consistent set of channels was found (a rule is broken).
    """
    none: frozenset[Need] = frozenset()
    needs = none.union(*(get_criterion(name).needs for name in criteria)) | DEFAULT_NEEDS
    found = Channels().find(network).wanted(needs)
    if "kernels" in needs:
        found |= Kernels().find(network).wanted(needs)
    if "inputs" in needs:
        found |= Weights().find(network).wanted(needs)
    return found
