"""Repair of single consumers from statistics alone: what is gone is predicted from what stays.

No sample is run: the Gram matrices of the original network say everything, as long as nothing before the
consumers has changed. That is so for one group at a time, and good enough to tell what a group is worth.
"""

from __future__ import annotations

import numpy as np

from ..contracts.analysis import Analysis, ChannelGroup
from ..contracts.stats import Moments, Stats
from ..execution.linalg import solve, threads_for
from ..graph import Edits, Graph
from ..ops.layers.bias import intercept, shift
from ..ops.layers.storage import nearest, weights, zero_point
from ..reductions.channels.sites import Consumer, consumers
from ..types import Floats, Mask, Units

RIDGE = 1e-3
"""Added to the covariance, relative to its mean diagonal, together with channels / rows."""


def projected(
    reference: Graph, graph: Graph, analysis: Analysis, stats: Stats, group: ChannelGroup, kept: Mask
) -> Graph:
    """The masked graph with the consumers of a group making up for what they no longer read.

    With C the covariance of what is read, r the removed and k the kept channels: B = C_rk (C_kk + ridge)^-1,
    W_k += W_r B, and W_r (mean_r - B mean_k) goes into the bias; for a kernel of many taps, in each. Where
    there can be no bias, C is not centred.

    Args:
        reference: the original with zeros for what is gone (`validate.masked`).
        graph: the original.
        analysis: its units.
        stats: moments of what its consumers read.
        group: the only group that loses units.
        kept: (analysis.count,), which units stay.
    """
    edits = Edits()
    for consumer in consumers(graph, analysis):
        if np.isin(consumer.units, group.units).any() and not kept[consumer.units].all():
            _project(reference, graph, stats.moments.get(consumer.activation), consumer, kept, edits)
    return reference.edited(edits) if edits else reference


def _project(
    reference: Graph, graph: Graph, moments: Moments | None, consumer: Consumer, kept: Mask, edits: Edits
) -> None:
    place, view = consumer.reader.place, consumer.reader.view
    node = reference.producer.get(graph.nodes[consumer.node].outputs[0])
    if node is None or moments is None or moments.gram is None:
        return
    array = weights(graph, consumer.weight)
    moved = np.moveaxis(array.astype(np.float64).reshape(view), place.axes, range(len(place.axes)))
    rows = moved.reshape(place.units.size, *moved.shape[len(place.axes) :])
    flat = rows.reshape(len(rows), -1)
    stays = kept[place.units.ravel()]
    if stays.all() or not stays.any() or len(moments.gram) != stays.size:
        return
    zero = zero_point(graph, consumer.weight)
    slot = intercept(reference, node, consumer.reader.input) if zero is None else None
    shifted = slot if slot is not None and slot.possible and len(place.axes) == 1 else None
    second = moments.covariance if shifted is not None else moments.gram / moments.rows
    with threads_for(int(stays.sum())):
        predictor = _predictor(second, moments.rows, stays, _lanes(place.units))
    new = flat.copy()
    new[~stays] = 0
    new[stays] += predictor.T @ flat[~stays]
    unfolded = np.moveaxis(new.reshape(moved.shape), range(len(place.axes)), place.axes)
    again = unfolded.reshape(array.shape)
    edits.literals[node.index, consumer.reader.input] = (
        again.astype(array.dtype) if zero is None else nearest(again + zero, graph.dtype(consumer.weight))
    )
    if shifted is not None:
        missing = moments.mean[~stays] - predictor @ moments.mean[stays]
        change = shift(node, rows[~stays], missing)
        shifted.write(edits, shifted.now(change.size) + change, array)


def _predictor(second: Floats, rows: int, stays: Mask, lanes: Units) -> Floats:
    """B (removed, kept): zero between the groups of a grouped convolution."""
    second = second * (lanes[:, None] == lanes)
    inner = second[np.ix_(stays, stays)]
    level = float(np.trace(inner)) / len(inner)
    if level <= 0:
        return np.zeros((int((~stays).sum()), len(inner)))
    ridge = (RIDGE + len(second) / rows) * level
    return solve(inner + ridge * np.eye(len(inner)), second[np.ix_(stays, ~stays)]).T


def _lanes(units: Units) -> Units:
    rows = units.shape[0] if units.ndim > 1 else 1
    return np.repeat(np.arange(rows), units.size // rows)
