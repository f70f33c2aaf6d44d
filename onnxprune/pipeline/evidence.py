"""What samples are used for: statistics and fits on most of them, choices and the verdict on the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .. import calibration, samples
from ..calibration.meter import batch_size
from ..contracts.stats import Need, Stats
from ..criteria import Context, Criterion
from ..errors import InputError
from ..graph import Array, Graph, Npz, input_specs
from ..samples import DataReader, Preprocessing, Samples
from .prepare import Prepared, Progress

Feeds = Mapping[str, Array]

HELD_BACK = (0.2, 0.1)
"""Shares of the samples that nothing is fitted to: these choose, and these judge."""

TO_PROMISE = (0.25, 0.25)
"""The same where these samples are all that a promise of quality rests on."""

RANDOM_COUNT = 64

ENOUGH_TO_SPLIT = 32
"""With fewer held-back samples the same ones choose and judge."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Samples by their use; all `None` without samples.

    Attributes:
        fit: statistics are gathered on these, weights are fitted to them.
        choice: these decide between candidates.
        held: these say in the verdict how far the result drifts.
        stats: of `fit`, or as they were given.
        notes: what the user should know of them.
        shares: of the samples that choose and judge.
    """

    fit: Samples | None = None
    choice: Samples | None = None
    held: Samples | None = None
    stats: Stats | None = None
    notes: tuple[str, ...] = ()
    shares: tuple[float, float] = HELD_BACK


NOTHING = Evidence()


def gather(
    ready: Prepared,
    needs: frozenset[Need],
    calib: Samples | None,
    stats: Stats | None,
    *,
    shares: tuple[float, float] = HELD_BACK,
    batch: int = 32,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Evidence:
    """Split samples, and measure what is needed.

    Args:
        ready: the model.
        needs: what to measure; see `needed`.
        calib: the samples.
        stats: statistics to use in place of measuring.
        shares: of the samples that choose and judge; nothing is fitted to them.
        batch: samples that run together.
        seed: of the split and of the positions that are looked at.
        progress: told how far measuring is.

    Raises:
        InputError: a sample doesn't fit the model, or the statistics are of another one.
    """
    if stats is not None:
        calibration.require_same(stats, ready.graph, "--stats", ready.facts)
    if calib is None:
        return Evidence(stats=stats, notes=stats.warnings() if stats else ())
    fit, choice, held = _split(calib, shares, seed)
    notes = calib.notes
    if fit is held:
        notes += ("there is one sample only: drift is measured on what was fitted",)
    if stats is None:
        stats = statistics(ready, needs, fit, batch=batch, seed=seed, progress=progress)
    notes += stats.warnings() if stats else ()
    return Evidence(fit, choice, held, stats, notes, shares)


def needed(criterion: Criterion, evaluations: int) -> frozenset[Need]:
    """What a criterion looks up, and what groups are measured with: that takes repairing their consumers."""
    return criterion.needs | calibration.DEFAULT_NEEDS if evaluations else criterion.needs


def statistics(
    ready: Prepared,
    needs: frozenset[Need],
    fit: Samples,
    *,
    batch: int,
    seed: int,
    progress: Progress = lambda _: None,
) -> Stats | None:
    """What has to be known of samples; `None` if that is nothing.

    Raises:
        InputError: a sample doesn't fit the model.
    """
    if not needs:
        return None
    return calibration.measure(
        ready.graph,
        calibration.requests(ready.graph, ready.facts, ready.analysis, needs, samples=fit.count),
        fit.batches(batch),
        seed=seed,
        source=fit.source,
        progress=lambda done: progress(f"Calibrating: sample {done} of {fit.rows}"),
    )


def context(ready: Prepared, evidence: Evidence, seed: int) -> Context:
    """What a criterion may look at."""
    return Context(ready.graph, ready.analysis, evidence.stats, seed, evidence.fit, ready.facts)


def _split(calib: Samples, shares: tuple[float, float], seed: int) -> tuple[Samples, Samples, Samples]:
    if calib.count < 2:
        return calib, calib, calib
    kept_back, fit = calib.split(sum(shares), seed)
    if kept_back.count < ENOUGH_TO_SPLIT:
        return fit, kept_back, kept_back
    choice, held = kept_back.split(shares[0] / sum(shares), seed)
    return fit, choice, held


@dataclass(frozen=True, eq=False)
class Labelled:
    """Samples with the class of each.

    Attributes:
        samples: inputs.
        labels: (count, ...); the class of each sample, or what a metric of the user's makes of them.
    """

    samples: Samples
    labels: Array

    def batches(self, size: int = 32) -> Iterator[tuple[Feeds, Array]]:
        """Inputs and classes."""
        at, alone = 0, self.samples.manner.complete
        for feeds in self.samples.batches(size):
            count = 1 if alone else batch_size(feeds)
            yield feeds, self.labels[at : at + count]
            at += count


def labelled(path: str | os.PathLike[str], graph: Graph) -> Labelled:
    """Read an `.npz` with the inputs of samples by name, and their classes as `labels`.

    Raises:
        InputError: the file can't be read, has no labels, or doesn't fit the model.
    """
    where = os.fspath(path)
    found = samples.load(path, graph)
    file = Npz(path) if where.endswith(".npz") else None
    labels: Any = file.read("labels") if file is not None and "labels" in file.arrays else None
    if labels is None:
        raise InputError("has no array 'labels'", where=where, hint="give an .npz of inputs and labels")
    if not labels.ndim or len(labels) != found.rows + found.manner.left_over:
        reason = f"'labels' has shape {labels.shape}, and there are {found.rows} samples"
        raise InputError(reason, where=where)
    return Labelled(found, labels[: found.rows])


def is_classes(labels: Array) -> bool:
    """Whether labels are one integer for each sample."""
    return labels.dtype.kind in "iu" and labels.ndim == 1


def require_classes(labels: Array) -> None:
    """Refuse labels that are no classes.

    Raises:
        InputError: they aren't one integer for each sample.
    """
    if not is_classes(labels):
        raise InputError(
            f"'labels' should be one integer for each sample, not {labels.dtype} of shape {labels.shape}",
            where="--labels",
            hint="a function of your own can judge others: --metric module:function",
        )


Source = str | os.PathLike[str] | Samples | DataReader | Iterable[Feeds]
"""Where samples come from: see `onnxprune.samples.load`; the word `random` for random ones."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Which samples, and how they are read.

    Attributes:
        source: where they are.
        count: how many at the most; `None`: all, or 64 random ones.
        preprocessing: of images.
    """

    source: Source
    count: int | None = None
    preprocessing: Preprocessing | None = None


def opened(calib: Source | Calibration, graph: Graph, seed: int = 0) -> Samples:
    """The samples that were given.

    Args:
        calib: where they are.
        graph: the model they are for.
        seed: of random ones.

    Raises:
        InputError: they can't be read or don't fit the model.
    """
    wanted = calib if isinstance(calib, Calibration) else Calibration(calib)
    if isinstance(wanted.source, Samples):
        found = wanted.source
    elif isinstance(wanted.source, str) and wanted.source == "random":
        return samples.random(graph, wanted.count or RANDOM_COUNT, seed)
    else:
        found = samples.load(wanted.source, graph, preprocessing=wanted.preprocessing)
    return found if wanted.count is None else found.some(wanted.count, seed)


def sample_sizes(data: Samples | None, graph: Graph) -> dict[str, int]:
    """The sizes that symbolic dimensions have in the first sample, other than how many samples there are."""
    if data is None or data.source == "random":
        return {}
    specs = input_specs(graph)
    counts = {spec.shape[0] for spec in specs if spec.shape}
    found: dict[str, int] = {}
    for feeds in data.first(1):
        for spec in specs:
            for axis, size in enumerate(spec.shape[1:], 1):
                if not isinstance(size, int) and (size is None or size not in counts):
                    found.setdefault(size or f"{spec.name}[{axis}]", feeds[spec.name].shape[axis])
    return found
