"""`--sparsity`: which single weights become zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .. import calibration
from ..contracts.request import Request
from ..contracts.stats import Stats
from ..errors import Infeasible, UsageError
from ..reductions.weights.single import Layer, layers, masks, notes, zeroed
from ..repair import Outcome
from .job import Job, Made
from .keep import fits
from .settings import Settings

CRITERIA = ("l1", "wanda")
"""|w|, and |w| times the norm of what it meets."""


def for_single_weights(settings: Settings, *, sampled: bool, measured: bool) -> Settings:
    """With the criterion that goes by single weights, and no repair.

    Args:
        settings: what a user asks for.
        sampled: whether there are samples.
        measured: whether there are statistics in their place.

    Raises:
        UsageError: an option doesn't go with `sparsity`.
    """
    name = settings.criterion or ("wanda" if sampled else "l1")
    reason = None
    if name not in CRITERIA:
        reason = f"single weights go by {' or '.join(CRITERIA)}", "choose another --criterion"
    elif name == "wanda" and not sampled:
        reason = "'wanda' needs samples", "give --calib, or say --criterion l1"
    elif measured:
        reason = "what single weights meet is not in statistics", "give --calib in place of --stats"
    elif settings.repair not in ("auto", "none"):
        reason = "single weights that go are not made up for", "leave out --repair"
    elif settings.masked:
        reason = "zeroes weights in place already", "leave out --masked"
    elif settings.steps > 1:
        reason = "goes there in one step", "leave out --steps"
    if reason is not None:
        raise UsageError(reason[0], where="--sparsity", hint=reason[1])
    return replace(settings, criterion=name, repair="none")


def with_sparsity(job: Job, share: float) -> Made:
    """A share of the weights of convolutions and matrix products becomes zero.

    Args:
        job: the run; its patterns of what to keep are of names of layers or weights.
        share: of the weights.

    Raises:
        UsageError: a pattern names no such layer.
        Infeasible: no layers are left.
    """
    graph, among = job.ready.graph, job.settings.sparsity_among
    found = _without(layers(graph), job.settings.keep)
    if not found:
        raise Infeasible("no layer has weights that could be zero", where=job.ready.original.where)
    stats = _measured(job, found) if job.criterion.name == "wanda" else None
    scores = [
        layer.scores(
            graph.array(layer.weight), None if stats is None else stats.moments[layer.weight, -1].second
        )
        for layer in found
    ]
    if among == "auto":
        among = "model" if stats is None else "output"
    job.progress("Zeroing weights")
    kept = masks(scores, share, among)
    sparse = zeroed(graph, found, kept)
    said = notes(graph, sparse, {layer.weight: mask for layer, mask in zip(found, kept, strict=True)})
    said += () if stats is None else stats.warnings()
    everything = np.ones(job.ready.analysis.count, bool)
    return Made(everything, Outcome(sparse, "none"), notes=said, in_place=True)


def _measured(job: Job, found: Sequence[Layer]) -> Stats:
    """Mean squares of what each layer reads, under its weight's name."""
    wanted = {}
    for layer in found:
        name = layer.node.inputs[layer.data]
        shape = job.ready.facts.shapes.get(name)
        if shape is None:
            hint = "say --criterion l1"
            raise UsageError(f"the shape of '{name}' is not known", where="--sparsity", hint=hint)
        axis = layer.axis % len(shape)
        wanted[layer.weight, -1] = Request(name, axis, shape, frozenset({"squares"}))
    samples = job.evidence.fit
    if samples is None:
        raise UsageError("'wanda' needs samples", where="--sparsity", hint="give --calib")
    return calibration.measure(
        job.ready.graph, wanted, samples.batches(job.settings.batch), source=samples.source
    )


def _without(found: Sequence[Layer], patterns: Sequence[str]) -> list[Layer]:
    left = list(found)
    for pattern in patterns:
        named = [x for x in found if fits(x.node.name, pattern) or fits(x.weight, pattern)]
        if not named:
            raise UsageError("no layer or weight has such a name", where=f"--keep {pattern}")
        left = [layer for layer in left if layer not in named]
    return left
