"""Inbound pruning: which kernels go, and what becomes of the convolutions."""

from __future__ import annotations

from dataclasses import replace

from .. import calibration
from ..contracts.request import Request
from ..criteria.inbound_variance import InboundVariance
from ..graph import Graph, infer
from ..reductions.channels.sites import consumers
from ..reductions.weights.kernels import Masks, compensated, masks, narrowed, notes, read_units, rewritten
from .evidence import context
from .job import Job, Made, proved
from .judge import speed_of


def with_inbound(job: Job, share: float) -> Made:
    """Every filter keeps a share of its input channels; channels that none keeps are removed.

    Unless repair is `none`, the kernels that are left make up for those that go.

    Args:
        job: the run; its statistics are those that `inbound-variance` needs.
        share: of the input channels.

    Raises:
        UsageError: the statistics are not there.
    """
    ready, groups = job.ready, job.settings.inbound_groups
    found = consumers(ready.graph, ready.analysis)
    seen = context(ready, job.evidence, job.settings.seed)
    kept = masks(ready.graph, found, InboundVariance().kernels(seen), share, groups)
    stay = read_units(ready.analysis, found, kept)
    made = proved(job, stay)
    job.progress("Dropping kernels")

    def faster(before: Graph, after: Graph) -> bool:
        return speed_of(before, after, job.timing).high < 1

    left = narrowed(ready.graph, ready.analysis, found, kept, stay)
    graph, layers = rewritten(_compensated(job, made.graph, left), left, groups, faster)
    return replace(made, outcome=replace(made.outcome, graph=graph), notes=notes(layers))


def _compensated(job: Job, graph: Graph, left: Masks) -> Graph:
    """The graph with kernels fitted one convolution after the other, each to what it reads by then."""
    if job.evidence.fit is None or job.settings.repair == "none":
        return graph
    shapes = infer(graph, job.timing.dims).shapes
    for weight in sorted(left, key=lambda name: graph.readers[name][0][0].index):
        node = graph.readers[weight][0][0]
        shape = shapes.get(node.inputs[0]) or ()
        request = Request(node.inputs[0], 1, shape, frozenset({"gram"}))
        stats = calibration.measure(
            graph, {(weight, 1): request}, job.evidence.fit.batches(job.settings.batch)
        )
        graph = compensated(graph, {weight: left[weight]}, {weight: stats.moments[weight, 1]})
    return graph
