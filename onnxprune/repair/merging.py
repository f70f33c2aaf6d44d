"""Repair without samples: a channel that is gone is merged into one that stays and is like it.

If the filter of channel j points where that of k does, relu(w_j x + b_j) is about |w_j| / |w_k| times
relu(w_k x + b_k), so what read j can read k instead. Neuron merging: Kim, Kim, Park, Cho and Kim 2020,
"Neuron Merging: Compensating for Pruned Neurons", equations 6 to 8.
"""

from __future__ import annotations

import numpy as np

from ..graph import Edits, Graph
from ..ops.label import block_on, locate, rank
from ..sites import filters
from ..types import Floats, Group, Reader, Units
from .consumers import consumers
from .surgery import Surgery

LEAST_COSINE = 0.45
"""Less similar filters are not merged (as in the paper)."""


def merge(surgery: Surgery) -> Graph:
    """The pruned graph with what read a channel that is gone reading the most similar one that stays."""
    partner = np.full(surgery.analysis.count, -1, np.int64)
    factor = np.zeros(surgery.analysis.count)
    for group in surgery.analysis.groups:
        _match(surgery, group, partner, factor)
    foldable = {c.key: c.weight for c in consumers(surgery)}
    edits = Edits()
    for reader in surgery.analysis.readers:
        key = surgery.graph.nodes[reader.node].outputs[0]
        if foldable.get(key) == reader.input and len(reader.place.axes) == 1:
            _redirect(surgery, reader, key, partner, factor, edits)
    return surgery.pruned.edited(edits) if edits else surgery.pruned


def _match(surgery: Surgery, group: Group, partner: Units, factor: Floats) -> None:
    """Find for each unit that is gone the one that stays with the most similar filter."""
    if any(surgery.graph.nodes[i].op == "BatchNormalization" for i in _touching(surgery, group)):
        return  # what it does to scales is not in the filters
    parts = [_by_unit(group, f.rows, f.units) for f in filters(surgery.graph, surgery.analysis, group)]
    biases = [_by_unit(group, rows, units) for rows, units in _biases(surgery, group)]
    vectors = np.concatenate([*parts, *biases], axis=1) if parts else np.zeros((group.size, 0))
    norms = np.linalg.norm(vectors, axis=1)
    stays = surgery.kept[group.units]
    if stays.all() or not stays.any() or not vectors.size:
        return
    safe = np.where(norms > 0, norms, 1)[:, None]
    cosines = (vectors / safe)[~stays] @ (vectors / safe)[stays].T
    best = cosines.argmax(1)
    similar = cosines.max(1) >= LEAST_COSINE
    gone, kept = np.flatnonzero(~stays)[similar], np.flatnonzero(stays)[best[similar]]
    partner[group.units[gone]] = group.units[kept]
    factor[group.units[gone]] = norms[gone] / np.where(norms[kept] > 0, norms[kept], 1)


def _touching(surgery: Surgery, group: Group) -> set[int]:
    names = {
        n
        for n, places in surgery.analysis.tensors.items()
        for p in places
        if np.isin(p.units, group.units).any()
    }
    return {node.index for n in names for node, _ in surgery.graph.readers.get(n, [])}


def _by_unit(group: Group, rows: Floats, units: Units) -> Floats:
    """(group.size, d): the rows of each unit one behind the other, zeros where it has none."""
    times = rank(units)
    result = np.zeros((group.size, int(times.max(initial=0)) + 1, rows.shape[1]))
    result[np.searchsorted(group.units, units), times] = rows
    return result.reshape(group.size, -1)


def _biases(surgery: Surgery, group: Group) -> list[tuple[Floats, Units]]:
    found = []
    for member in surgery.analysis.members:
        units = member.places[0].units.ravel() if len(member.places) == 1 else np.zeros(0, np.int64)
        if units.size == np.prod(member.view) and np.isin(units, group.units).all() and units.size:
            found.append((surgery.graph.array(member.constant).astype(np.float64).reshape(-1, 1), units))
    return found


def _redirect(
    surgery: Surgery, reader: Reader, key: str, partner: Units, factor: Floats, edits: Edits
) -> None:
    """Add the weights of entries that are gone to those of their partners."""
    name = surgery.graph.nodes[reader.node].inputs[reader.input]
    known = surgery.constant(name)
    axis = reader.place.axes[0]
    block = block_on(known.label, axis) if known is not None and known.view == reader.view else None
    if block is None or block.axes != (axis,):
        return
    units = reader.place.units
    times = rank(units)
    stay = locate(block.old, block.new)
    position = {(int(units[e]), int(times[e])): i for i, e in enumerate(stay)}
    rows = np.moveaxis(surgery.rows_of(name, (axis,)), axis, 0).astype(np.float64)
    new = rows[stay]
    for entry in np.flatnonzero(partner[units] >= 0):
        to = position.get((int(partner[units[entry]]), int(times[entry])))
        if to is not None:
            new[to] += factor[units[entry]] * rows[entry]
    node = surgery.pruned.producer[key]
    old = surgery.pruned.array(node.inputs[reader.input])
    edits.constants[node.inputs[reader.input]] = (
        np.moveaxis(new, 0, axis).reshape(old.shape).astype(old.dtype)
    )
