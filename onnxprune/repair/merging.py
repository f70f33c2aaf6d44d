"""Repair without samples: a channel that is gone is merged into one that stays and is like it.

If the filter of channel j points where that of k does, relu(w_j x + b_j) is about |w_j| / |w_k| times
relu(w_k x + b_k), so what read j can read k instead. Neuron merging: Kim, Kim, Park, Cho and Kim 2020,
"Neuron Merging: Compensating for Pruned Neurons", equations 6 to 8.
"""

from __future__ import annotations

import numpy as np

from ..calibration.expectation import expected
from ..contracts.analysis import ChannelGroup, Reader
from ..graph import Edits, Graph
from ..ops.label import block_on, locate, rank
from ..ops.layers.bias import intercept, shift
from ..types import Floats, Mask, Units
from .consumers import Consumer, consumers
from .makers import Maker, Mixed, makers
from .surgery import Surgery

LEAST_COSINE = 0.45
"""Less similar filters are not merged (as in the paper)."""


def merge(surgery: Surgery) -> Graph:
    """The pruned graph with what read a channel that is gone reading the most similar one that stays.

    Where BatchNormalization says what the means are (see `expectation`), biases make up for what the mean
    of such a channel was beside that of its partner.
    """
    partner, factor = _nobody(surgery)
    for group in surgery.analysis.groups:
        _match(surgery, group, partner, factor)
    return _redirected(surgery, partner, factor)


def compensate(surgery: Surgery) -> Graph:
    """The pruned graph with biases that take over the means that BatchNormalization tells."""
    return _redirected(surgery, *_nobody(surgery))


def _nobody(surgery: Surgery) -> tuple[Units, Floats]:
    """For each unit its partner, -1 for none, and how many times that one is read."""
    return np.full(surgery.analysis.count, -1, np.int64), np.zeros(surgery.analysis.count)


def _redirected(surgery: Surgery, partner: Units, factor: Floats) -> Graph:
    foldable = {c.key: c for c in consumers(surgery)}
    edits = Edits()
    for reader in surgery.analysis.readers:
        consumer = foldable.get(surgery.graph.nodes[reader.node].outputs[0])
        if consumer is not None and consumer.weight == reader.input and len(reader.place.axes) == 1:
            _redirect(surgery, reader, consumer, partner, factor, edits)
    return surgery.pruned.edited(edits) if edits else surgery.pruned


def _match(surgery: Surgery, group: ChannelGroup, partner: Units, factor: Floats) -> None:
    """Find for each unit that is gone the one that stays with the most similar filters."""
    stays = surgery.kept[group.units]
    if stays.all() or not stays.any():
        return
    try:
        found = makers(surgery.graph, surgery.analysis, group)
    except Mixed:
        return
    cosines, factors = _similar([m for m in found if not m.serial], [m for m in found if m.serial], stays)
    best = cosines.argmax(1)
    similar = cosines.max(1) >= LEAST_COSINE
    gone, kept = np.flatnonzero(~stays)[similar], np.flatnonzero(stays)[best[similar]]
    partner[group.units[gone]] = group.units[kept]
    factor[group.units[gone]] = np.take_along_axis(factors, best[:, None], 1)[similar, 0]


def _similar(first: list[Maker], then: list[Maker], stays: Mask) -> tuple[Floats, Floats]:
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


def _redirect(
    surgery: Surgery, reader: Reader, consumer: Consumer, partner: Units, factor: Floats, edits: Edits
) -> None:
    """Add the weights of entries that are gone to those of their partners, and the rest of their means."""
    name = surgery.graph.nodes[reader.node].inputs[reader.input]
    known = surgery.constant(name)
    axis = reader.place.axes[0]
    block = block_on(known.label, axis) if known is not None and known.view == reader.view else None
    if block is None or block.axes != (axis,):
        return
    units = reader.place.units
    times = rank(units)
    entry = {(int(u), int(t)): e for e, (u, t) in enumerate(zip(units, times, strict=True))}
    stay = locate(block.old, block.new)
    gone = np.setdiff1d(np.arange(units.size), stay)
    if not gone.size:
        return
    partners = np.array([entry.get((int(partner[units[e]]), int(times[e])), -1) for e in gone], np.int64)
    factors = np.where(partners >= 0, factor[units[gone]], 0.0)
    rows = np.moveaxis(surgery.rows_of(name, (axis,)), axis, 0).astype(np.float64)
    new, paired = rows.copy(), partners >= 0
    scaled = factors.reshape(-1, *[1] * (rows.ndim - 1)) * rows[gone]
    np.add.at(new, partners[paired], scaled[paired])
    node = surgery.pruned.producer[consumer.key]
    old = surgery.pruned.array(node.inputs[reader.input])
    edits.constants[node.inputs[reader.input]] = (
        np.moveaxis(new[stay], 0, axis).reshape(old.shape).astype(old.dtype)
    )
    means = expected(surgery.graph, surgery.facts, surgery.normals, consumer.data)
    slot = intercept(surgery.pruned, node, reader.input)
    if means is not None and means.size == units.size and slot is not None and slot.possible:
        change = shift(node, rows[gone], means[gone] - factors * means[partners])
        slot.write(edits, slot.now(change.size) + change, old)
