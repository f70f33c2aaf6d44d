"""Reduce and Reuse (Polyak and Wolf 2015): a 1x1 Conv behind a pruned layer restores its old channels.

What reads them, whatever it is, sees as many as before. It costs multiplications: a group is treated so only
if it pays; other groups lose their channels everywhere, and what reads them is fitted anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..cost.macs import macs
from ..graph import Node
from ..graph.behind import is_free
from ..ops.layers import is_depthwise
from ..reductions.channels.sites import hands_on
from ..types import Units
from .consumers import consumers, fitted_layer
from .surgery import Surgery


@dataclass(frozen=True)
class _Layer:
    """A node that loses outputs, and could have a layer behind it.

    Attributes:
        output: what it gives.
        units: int64, along its channels.
        gain: multiplications that it saves, less those of the layer behind it.
    """

    output: str
    units: Units
    gain: float


def stranded(surgery: Surgery) -> frozenset[int]:
    """Groups that lose units, and that are read by nothing that could be fitted to make up for it."""
    analysis = surgery.analysis
    fitted = {surgery.graph.producer[c.key].index for c in consumers(surgery)}
    read, helped = set[int](), set[int]()
    for reader in analysis.readers:
        if not hands_on(reader):
            groups = set(analysis.group_of[np.unique(reader.place.units)].tolist())
            read |= groups
            helped |= groups if reader.node in fitted else set()
    return narrowed(surgery) & (read - helped)


def narrowed(surgery: Surgery) -> frozenset[int]:
    """Groups that lose units."""
    groups = enumerate(surgery.analysis.groups)
    return frozenset(k for k, g in groups if not surgery.kept[g.units].all())


def arranged(surgery: Surgery, candidates: Iterable[int]) -> Surgery:
    """The same removal, with channels left out by layers alone, to be restored behind them, where that pays.

    `fold` then fits these layers, too.

    Args:
        surgery: what was done.
        candidates: groups to do so with.
    """
    groups = surgery.analysis.groups
    cost = macs(surgery.graph, surgery.facts)
    layers = {i: _layer(surgery, surgery.graph.nodes[i], cost) for g in groups for i in g.nodes}
    group_of = surgery.analysis.group_of
    chosen = set(candidates)

    def fits(index: int) -> bool:
        mine = [
            layers[i] for i in groups[index].nodes if not is_depthwise(surgery.graph, surgery.graph.nodes[i])
        ]
        known = [layer for layer in mine if layer is not None]
        gone = {int(g) for m in known for g in group_of[m.units[~surgery.kept[m.units]]]}
        return len(known) == len(mine) and gone <= chosen and sum(m.gain for m in known) > 0

    while left_out := {k for k in chosen if not fits(k)}:
        chosen -= left_out
    kept = surgery.kept.copy()
    for k in chosen:
        kept[groups[k].units] = True
    if not chosen or (surgery.again is None and not kept.all()):
        return surgery
    pruned = surgery.graph if surgery.again is None or kept.all() else surgery.again(kept)
    restored = {
        layer.output: np.flatnonzero(surgery.kept[layer.units])
        for layer in layers.values()
        if layer is not None and not surgery.kept[layer.units].all() and kept[layer.units].all()
    }
    return replace(surgery, kept=kept, pruned=pruned, restored=restored)


def _layer(surgery: Surgery, node: Node, cost: Mapping[int, int]) -> _Layer | None:
    graph, y = surgery.graph, node.outputs[0]
    layer, shape = fitted_layer(graph, node), surgery.facts.shapes.get(y)
    if layer is None or layer.row.recurrent or (layer.row.bias is not None and layer.input == 0):
        return None
    if shape is None or node.index not in cost or not is_free(graph, y):
        return None
    axis = layer.layout.outputs % len(shape)
    place = next((p for p in surgery.analysis.tensors.get(y, ()) if p.axes == (axis,)), None)
    if place is None:
        return None
    groups = layer.layout.groups
    stays = surgery.kept[place.units].reshape(groups, -1).sum(1)
    if not stays.all() or (stays != stays[0]).any():
        return None
    width, kept = shape[axis], int(stays.sum())
    positions = math.prod(shape) / width
    return _Layer(y, place.units, cost[node.index] * (1 - kept / width) - positions * kept * width / groups)
