"""What a consumer reads of a group, from statistics."""

from __future__ import annotations

import numpy as np

from ...contracts.reduction import Consumer, Reading
from ...contracts.stats import Stats
from ...graph import Graph
from ...ops.layers.storage import weights
from ...types import Units


def reading(graph: Graph, consumer: Consumer, units: Units, stats: Stats) -> Reading:
    """What a consumer reads of a group.

    A kernel larger than 1x1 is taken as that many taps that each read the same channels: cross-moments
    between different taps are left out, so G stays C x C.

    Args:
        graph: the graph.
        consumer: the consumer.
        units: int64 (C,), the unit of each channel within the group; -1 for channels of other groups.
        stats: with the moments of what it reads.

    Raises:
        UsageError: the statistics were gathered for something else.
    """
    found = stats.of(consumer.activation)
    weight = consumer.rows(weights(graph, consumer.weight)).reshape(len(units), -1)
    if found.gram is None:  # too wide for a Gram matrix: channels as if independent
        second = np.diag(found.second)
        centred = np.diag(np.maximum(found.second - found.mean**2, 0))
    else:
        second, centred = found.gram / found.rows, found.covariance
    if consumer.lanes > 1:
        lane = np.repeat(np.arange(consumer.lanes), len(units) // consumer.lanes)
        same = lane[:, None] == lane
        second, centred = second * same, centred * same
    return Reading(weight, second, centred, units, found.rows)
