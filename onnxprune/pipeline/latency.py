"""The profile of a network whose units are known: where `profile` meets the cut and the cache."""

from __future__ import annotations

from ..contracts.cut import without
from ..contracts.reduction import Space
from ..contracts.timing import Timing
from ..cost.latency import latency_model
from ..cost.model import Cost
from ..cost.sizes import check_dims, sizes
from ..execution.sessions import answering
from ..graph import symbolic_dims
from ..profile import MachineSetting, Measure, Profile, Stopwatch, cached, load, profile, remember
from ..runtime import kernel_seconds
from ..types import Progress


def profiled(
    space: Space,
    timing: Timing | None = None,
    *,
    multiple: int | None = None,
    measure: Measure = kernel_seconds,
    progress: Progress = lambda _: None,
) -> Profile:
    """Time the layers of a network at the widths they have and could have.

    Args:
        space: its units.
        timing: provider, threads, shapes, tables.
        multiple: of which widths shall be multiples; found by measuring if not given.
        measure: how to time models.
        progress: called with what begins.

    Raises:
        InputError: the table can't be read or written, or comes from elsewhere and lacks a layer.
        UsageError: the provider isn't available, or a dimension was named that the graph hasn't.
    """
    graph, timing = space.network.graph, timing or Timing()
    check_dims(symbolic_dims(graph), timing.dims)
    here = MachineSetting.here(timing.options)
    table = cached(here) if timing.table_in is None else load(timing.table_in)
    stopwatch = Stopwatch(table, timing.options, measure=measure, frozen=table.setting != here)
    with answering(graph, timing.dims):
        found = profile(
            graph,
            space.effect,
            lambda choice: without(space.network, [space], choice).network.graph,
            stopwatch,
            sizes(graph, timing.dims, timing.batch),
            multiple=multiple,
            progress=progress,
        )
    if table.setting == here:
        remember(stopwatch.used)
    if timing.table_out is not None:
        stopwatch.used.save(timing.table_out)
    return found


def latency_cost(space: Space, found: Profile) -> Cost:
    """The predicted time of a network, in nanoseconds, as a cost that allocation can drive down."""
    network = space.network
    facts = network.sized(found.setting["dims"]).facts
    return latency_model(network.graph, facts, space.effect, found.rates)
