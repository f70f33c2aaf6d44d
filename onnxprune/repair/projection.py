"""Repair from sums alone: what a layer can no longer use is predicted from what it can.

No sample is run: the Gram matrices of the original network say everything, as long as nothing before a layer
has changed. That is so for one group at a time, and near enough to the truth for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..contracts.reduction import Cut, Lost, Sparse
from ..contracts.stats import Moments, Stats
from ..contracts.traces import Unchanged
from ..execution.linalg import solve, solve_within, threads_for
from ..graph import Graph, Network
from ..ops.layers.bias import shift
from ..ops.layers.storage import weights as stored_weights
from ..types import Floats, Mask
from .compensation import Compensation, compensated, outputs_of, place_for_shift
from .task import Task

RIDGE = 1e-3
"""Added to the covariance, relative to its mean diagonal, together with channels / rows."""


def predicted(reference: Network, lost: Iterable[Lost | Sparse], base: Graph, stats: Stats) -> Network:
    """A masked reference whose layers make up for what they no longer read.

    With C the covariance of what is read, r the removed and k the kept channels: B = C_rk (C_kk + ridge)^-1,
    W_k += W_r B, and W_r (mean_r - B mean_k) goes into the bias; for a kernel of many taps, in each. Where
    there can be no bias, C is not centred.

    Args:
        reference: the network with zeros for what is gone.
        lost: what its layers can no longer use (`Space.lost`).
        base: the graph without a mask.
        stats: moments of what its layers read.
    """
    found = _projections(reference.graph, list(lost), base, stats, weights=True).found
    return compensated(reference, Unchanged(), found)


def projected(task: Task, stats: Stats, *, weights: bool = True) -> tuple[Network, int]:
    """The cut network whose layers make up for what they no longer read; see `predicted`.

    A weight that several layers read stays: one for each would be more weights than there were.

    Args:
        task: what was done.
        stats: of the network that was cut.
        weights: whether weights may change, or biases only.

    Returns:
        The network, and how many layers the statistics don't cover.
    """
    cut: Cut = task.cut
    own = [one for one in cut.lost if _is_own(task.network.graph, one)]
    result = _projections(task.network.graph, own, cut.base.graph, stats, weights=weights)
    return compensated(task.network, cut.trace, result.found), result.unknown


def _is_own(graph: Graph, lost: Lost | Sparse) -> bool:
    """Whether a layer is there, and the only one that reads its weight, a constant."""
    if isinstance(lost, Sparse):
        output, index = lost.layer.output, lost.layer.input
    else:
        output, index = lost.consumer.output, lost.consumer.input
    node = graph.producer.get(output)
    name = "" if node is None else node.inputs[index]
    return name in graph.constants and len(graph.readers[name]) == 1


@dataclass(frozen=True, eq=False)
class _Projections:
    """New weights, and how many layers there are without statistics."""

    found: tuple[Compensation, ...]
    unknown: int


def _projections(
    target: Graph, lost: Sequence[Lost | Sparse], base: Graph, stats: Stats, *, weights: bool
) -> _Projections:
    sparse = {one.layer.output: one for one in lost if isinstance(one, Sparse)}
    found: list[Compensation] = []
    unknown = 0
    for one in lost:
        if isinstance(one, Sparse):
            continue
        consumer = one.consumer
        if consumer.output in sparse:
            also = sparse[consumer.output]
            spread = consumer.rows(np.ones(also.support.shape))
            spread[~one.kept] = 0
            left = consumer.array(spread, also.support.shape) != 0
            sparse[consumer.output] = replace(also, support=also.support & left)
            continue
        moments = stats.moments.get(consumer.activation)
        if moments is None or moments.gram is None:
            unknown += 1
            continue
        found += _of_channels(target, base, one, moments, weights=weights)
    for also in sparse.values():
        moments = None if also.activation is None else stats.moments.get(also.activation)
        if moments is None or moments.gram is None:
            unknown += 1
            continue
        found += _of_values(target, base, also, moments, weights=weights)
    return _Projections(tuple(found), unknown)


def _of_channels(
    target: Graph, base: Graph, lost: Lost, moments: Moments, *, weights: bool
) -> Iterator[Compensation]:
    """Without some channels."""
    consumer, kept = lost.consumer, lost.kept
    array = stored_weights(base, consumer.weight).astype(np.float64)
    rows = consumer.rows(array)
    flat = rows.reshape(len(rows), -1)
    if kept.all() or not kept.any() or moments.gram is None or len(moments.gram) != kept.size:
        return
    # Of groups, or of a stack of matrices, there is no bias that is one vector.
    plain = len(consumer.axes) == 1 and (consumer.op != "MatMul" or rows.ndim == 2)
    slot = place_for_shift(target, consumer.output, consumer.input) if plain else None
    second = moments.gram / moments.rows if slot is None else moments.covariance
    with threads_for(int(kept.sum())):
        predictor = _predictor(second, moments.rows, kept, consumer.lanes) * weights
    new = flat.copy()
    new[~kept] = 0
    new[kept] += predictor.T @ flat[~kept]
    change = None
    if slot is not None:
        missing = moments.mean[~kept] - predictor @ moments.mean[kept]
        change = shift(base.nodes[consumer.node], rows[~kept], missing)
    weight = consumer.array(new.reshape(rows.shape), array.shape)
    yield Compensation(consumer.output, consumer.input, weight, change, outputs_of(base, consumer, rows))


def _predictor(second: Floats, rows: int, kept: Mask, lanes: int) -> Floats:
    """B (removed, kept): zero between the groups of a grouped convolution."""
    lane = np.repeat(np.arange(lanes), kept.size // lanes)
    second = second * (lane[:, None] == lane)
    inner = second[np.ix_(kept, kept)]
    ridge = _ridge(second, inner, rows)
    if ridge <= 0:
        return np.zeros((int((~kept).sum()), len(inner)))
    return solve(inner + ridge * np.eye(len(inner)), second[np.ix_(kept, ~kept)]).T


def _ridge(second: Floats, inner: Floats, rows: int) -> float:
    return (RIDGE + len(second) / rows) * float(np.trace(inner)) / len(inner)


def _of_values(
    target: Graph, base: Graph, sparse: Sparse, moments: Moments, *, weights: bool
) -> Iterator[Compensation]:
    """Without single values: taps of a kernel are taken as independent, as sums know no others."""
    layer, layout = sparse.layer, sparse.layer.layout
    array = base.array(layer.weight).astype(np.float64)
    matrix, support = layout.matrix(array), layout.matrix(sparse.support.astype(np.float64)) != 0
    groups, outputs, _ = matrix.shape
    split = (groups, outputs, -1, layout.taps)
    # (groups, outputs x taps, channels): what each tap reads are the channels of its group.
    whole, left = (
        m.reshape(split).swapaxes(2, 3).reshape(groups, outputs * layout.taps, -1) for m in (matrix, support)
    )
    slot = place_for_shift(target, layer.output, layer.input)
    if moments.gram is None or len(moments.gram) != groups * whole.shape[2]:
        return
    second = moments.gram / moments.rows if slot is None else moments.covariance
    new = np.empty_like(whole)
    for g in range(groups):
        own = np.arange(whole.shape[2]) + g * whole.shape[2]
        inner = second[np.ix_(own, own)]
        ridge = _ridge(second, inner, moments.rows)
        start, mask = np.where(left[g], whole[g], 0), left[g]
        new[g] = start
        if ridge > 0 and weights:
            right = (whole[g] - start) @ inner
            with threads_for(len(own)):
                new[g] += solve_within(inner + ridge * np.eye(len(own)), right * mask, mask)
    change = None
    if slot is not None:
        means = moments.mean.reshape(groups, 1, -1)
        lost = ((whole - new) * means).sum(2).reshape(groups, outputs, layout.taps).sum(2)
        change = lost.ravel() / layout.apart
    turned = new.reshape(groups, outputs, layout.taps, -1).swapaxes(2, 3).reshape(matrix.shape)
    numbers = np.broadcast_to(np.arange(groups * outputs).reshape(groups, outputs, 1), matrix.shape)
    index = layout.restored(numbers * 1.0, array.shape) / layout.restored(np.ones(matrix.shape), array.shape)
    found = layout.restored(turned, array.shape)
    yield Compensation(layer.output, layer.input, found, change, np.rint(index).astype(np.int64))
