"""Iterative pruning: a part of the way, then a look at what is left, and on.

Only choices are made step by step. The result is cut from the original at the end and repaired once, against
the original's own activations, so errors of repair don't add up and a plan can be replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..contracts.analysis import Analysis
from ..cost.model import macs_model
from ..graph import infer
from ..reductions.channels.find import analyze
from ..strategies.ladder import Ladder
from ..strategies.schedule import schedule
from ..types import Mask, Units
from .choice import ladders
from .evidence import context, needed, statistics
from .job import Job, tried
from .prepare import Prepared
from .route import Route, within


def stepwise(job: Job, way: Route, target: float | None = None) -> Route:
    """The way down as it looks from where all steps but the last have led.

    Args:
        job: with the number of steps, and their schedule.
        way: as it looks from the top.
        target: the share to keep in the end; by default what the budgets allow.

    Raises:
        Infeasible: a budget can't be met.
    """
    settings = job.settings
    if settings.steps == 1:
        return way
    if target is None:
        target = way.descent.share(within(job, way))
    for number, share in enumerate(schedule(target, settings.steps, settings.schedule)[:-1], 1):
        job.progress(f"Step {number} of {settings.steps}: to {share:.3g} of the {way.descent.what}")
        way = _refreshed(job, way, way.descent.kept(max(share, way.descent.floor)))
    return way


def _refreshed(job: Job, way: Route, kept: Mask) -> Route:
    """The way down with what is left scored anew, on statistics of the narrowed and repaired graph."""
    if kept.all():
        return way
    settings, evidence = job.settings, job.evidence
    graph = tried(job, kept).graph
    facts = infer(graph, job.timing.dims)
    analysis = analyze(graph, facts, granularity=settings.granularity, approximate=settings.allow_approximate)
    smaller = Prepared(graph, graph, facts, analysis)
    if evidence.fit is not None:
        stats = statistics(
            smaller,
            needed(job.criterion, settings.evaluations),
            evidence.fit,
            batch=settings.batch,
            seed=settings.seed,
            progress=job.progress,
        )
        evidence = replace(evidence, stats=stats)
    scores = job.criterion.scores(context(smaller, evidence, settings.seed))
    cost = macs_model(graph, facts, analysis)
    found = ladders(smaller, evidence, scores, settings, way.widths, cost, job.progress)
    origin = origins(job.ready.analysis, kept, analysis)
    anew = {tuple(origin[ladder.group.units].tolist()): ladder for ladder in found}
    return replace(way, descent=replace(way.descent, ladders=_continued(job, way, kept, anew)))


def _continued(job: Job, way: Route, kept: Mask, anew: Mapping[tuple[int, ...], Ladder]) -> list[Ladder]:
    """Ladders of the original's groups on which what is gone goes first, for nothing.

    Args:
        job: with the least width.
        way: its ladders.
        kept: (units,), whether each unit is left.
        anew: ladders of what is left, by the units of the original that they are about.
    """
    result = []
    for old in way.descent.ladders:
        stays = kept[old.group.units]
        gone = int((~stays).sum())
        new = anew.get(tuple(old.group.units[stays].tolist()))
        left = old.scores[stays] if new is None else new.scores
        curve = old.curve[gone:] - old.curve[gone] if new is None else new.curve
        scores = np.full(old.group.size, left.min() - 1.0)
        scores[stays] = left
        result.append(
            Ladder(
                old.group,
                scores,
                np.concatenate([np.zeros(gone), curve]),
                round_to=way.widths.of(old.group),
                min_channels=job.settings.min_channels,
            )
        )
    return result


def origins(before: Analysis, kept: Mask, after: Analysis) -> Units:
    """For every unit of a narrowed graph, the unit of the original that it was; -1 where there is none.

    Tensors keep their names, and units that stay keep their order.

    Args:
        before: of the original.
        kept: (before.count,), whether each unit stayed.
        after: of the narrowed graph.
    """
    found = np.full(after.count, -1, np.int64)
    for name, places in before.tensors.items():
        for old in places:
            for new in after.tensors.get(name, ()):
                left = old.units[kept[old.units]]
                if new.axes == old.axes and new.units.size == left.size:
                    found[new.units.ravel()] = left
    return found
