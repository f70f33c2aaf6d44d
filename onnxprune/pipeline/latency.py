"""The profile of a graph that was analysed: where `profile` meets the cut and the cache."""

from __future__ import annotations

from collections.abc import Callable

from ..contracts.analysis import Analysis
from ..cost.latency import latency_model
from ..cost.model import Cost
from ..cost.sizes import check_dims, sizes
from ..execution.sessions import blaming
from ..execution.timing import Timing
from ..graph import Facts, Graph, infer, symbolic_dims
from ..profile import Measure, Profile, Setting, Stopwatch, cached, load, profile, remember
from ..reductions.channels.cut import rewrite
from ..runtime import kernel_seconds


def profiled(
    graph: Graph,
    facts: Facts,
    analysis: Analysis,
    timing: Timing | None = None,
    *,
    multiple: int | None = None,
    measure: Measure = kernel_seconds,
    progress: Callable[[str], None] = lambda _: None,
) -> Profile:
    """Time the layers of a graph at the widths they have and could have.

    Args:
        graph: the graph.
        facts: what it was analysed with.
        analysis: its groups.
        timing: provider, threads, shapes, tables.
        multiple: of which widths shall be multiples; found by measuring if not given.
        measure: how to time models.
        progress: told what begins.

    Raises:
        InputError: the table can't be read or written, or comes from elsewhere and lacks a layer.
        UsageError: the provider isn't available, or a dimension was named that the graph hasn't.
    """
    timing = timing or Timing()
    check_dims(symbolic_dims(graph), timing.dims)
    here = Setting.here(timing.options)
    table = cached(here) if timing.table_in is None else load(timing.table_in)
    stopwatch = Stopwatch(table, timing.options, measure=measure, frozen=table.setting != here)
    known = sizes(graph, timing.dims, timing.batch)
    with blaming(graph, known):
        found = profile(
            graph,
            analysis,
            lambda kept: rewrite(graph, facts, analysis, kept),
            stopwatch,
            known,
            multiple=multiple,
            progress=progress,
        )
    if table.setting == here:
        remember(stopwatch.used)
    if timing.table_out is not None:
        stopwatch.used.save(timing.table_out)
    return found


def latency_cost(graph: Graph, analysis: Analysis, found: Profile) -> Cost:
    """The predicted time of a graph, in nanoseconds, as a cost that allocation can drive down."""
    return latency_model(graph, infer(graph, found.setting["dims"]), analysis, found.rates)
