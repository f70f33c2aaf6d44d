"""Calibration samples by their use: most are fitted to, the others choose between candidates and judge."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from .. import calibration, samples
from ..contracts.gates import WantedGates
from ..contracts.lesson import Lesson
from ..contracts.reduction import Wanted
from ..contracts.sampling import Calibration, Source
from ..contracts.stats import Stats
from ..contracts.verdict import Omission
from ..errors import InputError
from ..graph import Array, Graph, Network, Npz, input_specs
from ..samples import Samples
from ..samples.core import batch_size
from ..types import Progress, Units

Feeds = Mapping[str, Array]

HELD_BACK = (0.2, 0.1)
"""Shares of the samples that nothing is fitted to: these choose, and these judge."""

HELD_BACK_FOR_DROP = (0.25, 0.25)
"""The same where `--max-drop` is judged on these samples alone."""

RANDOM_COUNT = 64

SLOPES = 256
"""Samples whose gradients are taken, at the most: each costs several inferences."""

ENOUGH_TO_SPLIT = 32
"""With fewer held-back samples the same ones choose and judge."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a network's activations: samples by their use, and sums over them.

    Attributes:
        fit: statistics are gathered on these, weights are fitted to them.
        choose: these decide between candidates.
        judge: the drift in the verdict is measured on these.
        stats: of `fit`, or as they were given.
        notes: what the user should know of them.
        shares: of the samples that choose and judge.
        learned: samples with labels that say the loss to criteria that look at one; no others.
        loss: a graph that gives that loss.
    """

    fit: Samples | None = None
    choose: Samples | None = None
    judge: Samples | None = None
    stats: Stats | None = None
    notes: tuple[str, ...] = ()
    shares: tuple[float, float] = HELD_BACK
    learned: Labelled | None = None
    loss: Graph | None = None

    def best(self, step: str, wants: Sequence[EvidenceKind]) -> tuple[EvidenceKind | None, Omission | None]:
        """The best that a step can work from, and what it lacks for more.

        Args:
            step: in words.
            wants: what it can work from, the best first.

        Returns:
            `None` where nothing is there that it can work from.
        """
        have: dict[EvidenceKind, bool] = {
            "samples": self.fit is not None and self.choose is not None,
            "statistics": self.stats is not None,
            "weights": True,
        }
        found = next((kind for kind in wants if have[kind]), None)
        if found is None:
            return None, Omission(step, f"left out, as there are no {wants[0]}", "give --calib")
        if found == wants[0]:
            return found, None
        return found, Omission(step, f"from {found} alone, as there are no {wants[0]}", "give --calib")


EvidenceKind = Literal["samples", "statistics", "weights"]
"""What a step may work from."""


def split(calib: Samples, shares: tuple[float, float], seed: int) -> Evidence:
    """Samples by their use; nothing is measured yet.

    Args:
        calib: the samples.
        shares: of those that choose and judge; nothing is fitted to them.
        seed: of the split.
    """
    if calib.count < 2:
        alone = "there is one sample only: drift is measured on what was fitted"
        return Evidence(calib, calib, calib, notes=(*calib.notes, alone), shares=shares)
    kept_back, fit = calib.split(sum(shares), seed)
    if kept_back.count < ENOUGH_TO_SPLIT:
        same = f"the same {kept_back.count} held-back samples choose and judge: there are too few to split"
        return Evidence(fit, kept_back, kept_back, notes=(*calib.notes, same), shares=shares)
    choose, judge = kept_back.split(shares[0] / sum(shares), seed)
    return Evidence(fit, choose, judge, notes=calib.notes, shares=shares)


def measured(
    evidence: Evidence,
    network: Network,
    wanted: Wanted,
    *,
    batch: int = 32,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Evidence:
    """The evidence with statistics of a network, measured on the samples that weights are fitted to.

    Args:
        evidence: with these samples; without any it stays as it is.
        network: the network.
        wanted: what spaces ask for; it may be nothing, where no layer's weights are known.
        batch: samples that run together.
        seed: of the positions that are looked at.
        progress: called with how far it is.

    Raises:
        InputError: a sample doesn't fit the model.
    """
    fit = evidence.fit
    if fit is None:
        return evidence
    stats = Stats(network.graph.digest(), fit.count, fit.source, {})
    if wanted.kinds or wanted.kernels:
        stats = calibration.measure(
            network.graph,
            calibration.requests(network, wanted, samples=fit.count),
            fit.batches(batch),
            seed=seed,
            source=fit.source,
            progress=lambda done: progress(f"Calibrating: sample {done} of {fit.rows}"),
        )
    if wanted.gates:
        lesson = lesson_of(fit, evidence.learned, evidence.loss, batch, seed)
        stats = with_slopes(stats, network, wanted.gates, lesson, progress)
    return replace(evidence, stats=stats)


def with_slopes(
    stats: Stats, network: Network, gates: WantedGates, lesson: Lesson, progress: Progress
) -> Stats:
    """Statistics, with what a loss feels of each unit.

    Args:
        stats: of the network.
        network: the network.
        gates: where it is asked for.
        lesson: the loss, and samples.
        progress: told how far it is.

    Raises:
        Infeasible: a group is read by a node that can't be differentiated.
        UsageError: labels or the loss don't fit.
    """
    found = calibration.sloped(
        network, gates, lesson, progress=lambda done: progress(f"Taking gradients: sample {done}")
    )
    return replace(stats, slopes=found)


def lesson_of(fit: Samples, learned: Labelled | None, loss: Graph | None, batch: int, seed: int) -> Lesson:
    """The loss that criteria look at, and some samples.

    Args:
        fit: samples that weights are fitted to.
        learned: samples with labels, if there are any that may be learned from: these are looked at then.
        loss: a graph that gives it.
        batch: samples that run together.
        seed: of the samples that are drawn.
    """
    if learned is None:
        return Lesson(_Unlabelled(fit.some(SLOPES, seed).batches(batch)), loss, seed)
    return Lesson(_Pairs(learned.some(SLOPES, seed), batch), loss, seed)


@dataclass(frozen=True, eq=False)
class _Unlabelled:
    """Batches, without labels."""

    batches: Iterable[Feeds]

    def __iter__(self) -> Iterator[tuple[Feeds, None]]:
        return ((feeds, None) for feeds in self.batches)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Batches with their labels, as often as wanted."""

    labelled: Labelled
    size: int

    def __iter__(self) -> Iterator[tuple[Feeds, Array]]:
        return self.labelled.batches(self.size)


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
        at, alone = 0, self.samples.division.complete
        for feeds in self.samples.batches(size):
            count = 1 if alone else batch_size(feeds)
            yield feeds, self.labels[at : at + count]
            at += count

    def some(self, count: int, seed: int) -> Labelled:
        """At most so many samples, drawn at random."""
        drawn = np.random.default_rng(seed).permutation(self.samples.count)[:count]
        return self._at(np.sort(drawn))

    def split(self, seed: int) -> tuple[Labelled, Labelled]:
        """Two halves, drawn at random; of one sample it is both.

        Args:
            seed: of the split.
        """
        if self.samples.count < 2:
            return self, self
        mixed = np.random.default_rng(seed).permutation(self.samples.count)
        half = len(mixed) // 2
        return self._at(np.sort(mixed[:half])), self._at(np.sort(mixed[half:]))

    def parted(self, shares: tuple[float, float], seed: int) -> tuple[Labelled, Labelled, Labelled]:
        """Samples to learn from, to choose by and to judge by, drawn at random; of few, these are the same.

        Args:
            shares: of those that choose and judge.
            seed: of the split.
        """
        count = self.samples.count
        mixed = np.random.default_rng(seed).permutation(count)
        held = min(max(round(sum(shares) * count), 1), count - 1)
        if held < 1:
            return self, self, self
        fit, back = self._at(np.sort(mixed[held:])), mixed[:held]
        if held < ENOUGH_TO_SPLIT:
            both = self._at(np.sort(back))
            return fit, both, both
        chosen = round(held * shares[0] / sum(shares))
        return fit, self._at(np.sort(back[:chosen])), self._at(np.sort(back[chosen:]))

    def _at(self, places: Units) -> Labelled:
        """The samples at these places, with their labels: several for each of a model of a fixed batch."""
        rows = self.labels.reshape(self.samples.count, -1, *self.labels.shape[1:])[places]
        chosen = replace(self.samples, indices=self.samples.indices[places])
        return Labelled(chosen, rows.reshape(-1, *self.labels.shape[1:]))


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
    if not labels.ndim or len(labels) != found.rows + found.division.left_over:
        reason = f"'labels' has shape {labels.shape}, and there are {found.rows} samples"
        raise InputError(reason, where=where)
    return Labelled(found, labels[: found.rows])


def labelled_if_given(labels: str | os.PathLike[str] | Labelled | None, graph: Graph) -> Labelled | None:
    """The labelled samples that a user gives, if any; a path is read: see `labelled`.

    Raises:
        InputError: the file can't be read, has no labels, or doesn't fit the model.
    """
    return labels if labels is None or isinstance(labels, Labelled) else labelled(labels, graph)


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


def first_sample(data: Samples | None) -> Feeds | None:
    """One that was given; `None` where there are none, or random ones."""
    return None if data is None or data.source == "random" else next(iter(data.first(1)), None)


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
