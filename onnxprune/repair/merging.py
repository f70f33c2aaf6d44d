"""Repair without samples: a channel that is gone is merged into one that stays and is like it.

If the filter of channel j points where that of k does, relu(w_j x + b_j) is about |w_j| / |w_k| times
relu(w_k x + b_k), so what read j can read k instead. Neuron merging: Kim, Kim, Park, Cho and Kim 2020,
"Neuron Merging: Compensating for Pruned Neurons", equations 6 to 8.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..contracts.groups import Group
from ..contracts.reduction import ChannelUnits, Lost
from ..execution.expectation import expected
from ..graph import Network
from ..ops.label import rank
from ..ops.layers.bias import shift
from ..ops.layers.storage import weights
from ..types import Floats, Mask, Units
from .compensation import Compensation, compensated, outputs_of, place_for_shift
from .fitted import own_layer
from .makers import Mixed, UnitMaker, makers
from .task import Task

LEAST_COSINE = 0.45
"""Less similar filters are not merged (as in the paper)."""


def merged(task: Task) -> Network:
    """The cut network in which what read a channel that is gone reads the most similar one that stays.

    Where BatchNormalization says what the means are (see `expectation`), biases make up for what the mean
    of such a channel was beside that of its partner.
    """
    return _redirected(task, matching=True)


def shifted(task: Task) -> Network:
    """The cut network with biases that take over the means that BatchNormalization implies."""
    return _redirected(task, matching=False)


def _redirected(task: Task, *, matching: bool) -> Network:
    found: list[Compensation] = []
    for space in task.cut.spaces:
        if isinstance(space, ChannelUnits):
            partner, factor = np.full(space.effect.count, -1, np.int64), np.zeros(space.effect.count)
            if matching:
                groups = zip(space.groups, space.effect.units, strict=True)
                for group, units in groups:
                    stays = task.cut.choice.of(group)
                    if not stays.all() and stays.any():
                        _match(space, group, units, stays, partner, factor)
            lost = (one for one in space.lost(task.cut.choice) if isinstance(one, Lost))
            for one in lost:
                found += _redirect(task, one, partner, factor)
    return compensated(task.network, task.cut.trace, found)


def _match(
    space: ChannelUnits, group: Group, units: Units, stays: Mask, partner: Units, factor: Floats
) -> None:
    """Find for each unit that is gone the one that stays with the most similar filters."""
    try:
        found = makers(space, group)
    except Mixed:
        return
    cosines, factors = _similar([m for m in found if not m.serial], [m for m in found if m.serial], stays)
    best = cosines.argmax(1)
    similar = cosines.max(1) >= LEAST_COSINE
    gone, kept = np.flatnonzero(~stays)[similar], np.flatnonzero(stays)[best[similar]]
    partner[units[gone]] = units[kept]
    factor[units[gone]] = np.take_along_axis(factors, best[:, None], 1)[similar, 0]


def _similar(first: list[UnitMaker], then: list[UnitMaker], stays: Mask) -> tuple[Floats, Floats]:
    """Cosines between what is gone and what stays, and how many times as large the former is.

    What is added up must be alike in all of its parts, by one factor f. A depthwise filter behind it then
    reads f times as much, so what counts there is how (f d_j, c_j) is like (d_k, c_k), weights and biases.

    Returns:
        (gone, stays), twice.
    """
    if not first:
        return np.zeros(((~stays).sum(), stays.sum())), np.ones(((~stays).sum(), stays.sum()))
    vectors = np.concatenate([part for m in first for part in (m.rows, m.bias)], axis=1)
    products, norms = vectors[~stays] @ vectors[stays].T, np.linalg.norm(vectors, axis=1)
    cosines = _ratio(products, norms[~stays, None] * norms[stays])
    factors = _ratio(np.repeat(norms[~stays, None], stays.sum(), 1), norms[stays])
    for m in then:
        products = factors * (m.rows[~stays] @ m.rows[stays].T) + m.bias[~stays] @ m.bias[stays].T
        weights, biases = (np.square(a).sum(1) for a in (m.rows, m.bias))
        gone = np.sqrt(np.square(factors) * weights[~stays, None] + biases[~stays, None])
        kept = np.sqrt(weights + biases)[stays]
        cosines = cosines * np.maximum(_ratio(products, gone * kept), 0)
        factors = _ratio(gone, kept)
    return cosines, factors


def _ratio(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.where(b > 0, a / np.where(b > 0, b, 1), 0))


def _redirect(task: Task, lost: Lost, partner: Units, factor: Floats) -> Iterator[Compensation]:
    """Add the weights of channels that are gone to those of their partners, and the rest of their means."""
    consumer, kept = lost.consumer, lost.kept
    base, graph = task.cut.base.graph, task.network.graph
    node = graph.producer.get(consumer.output)
    layer = None if node is None else own_layer(graph, node)
    if layer is None or layer.input != consumer.input or len(consumer.axes) != 1:
        return
    array = weights(base, consumer.weight).astype(np.float64)
    rows, units = consumer.rows(array), consumer.units
    times = rank(units)
    entry = {(int(u), int(t)): e for e, (u, t) in enumerate(zip(units, times, strict=True))}
    gone = np.flatnonzero(~kept)
    partners = np.array([entry.get((int(partner[units[e]]), int(times[e])), -1) for e in gone], np.int64)
    paired = partners >= 0
    factors = np.where(paired, factor[units[gone]], 0.0)
    new = rows.copy()
    scaled = factors.reshape(-1, *[1] * (rows.ndim - 1)) * rows[gone]
    np.add.at(new, partners[paired], scaled[paired])
    means = expected(base, task.cut.base.facts, task.normals, layer.data)
    change = None
    if means is not None and means.size == units.size and place_for_shift(graph, layer.output, layer.input):
        change = shift(base.nodes[consumer.node], rows[gone], means[gone] - factors * means[partners])
    weight = consumer.array(new, array.shape)
    yield Compensation(layer.output, layer.input, weight, change, outputs_of(base, consumer, rows))
