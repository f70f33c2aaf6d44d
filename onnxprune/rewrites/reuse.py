"""Reduce and Reuse (Polyak and Wolf 2015): a 1x1 layer behind a narrow one restores the channels it had.

What reads them, whatever it is, sees as many as before. The rewrite puts an identity layer behind a layer
that is to lose outputs; these are a group of their own then, which only the identity reads, and repair fits
the identity like any other layer. It costs multiplications: a group is treated so only where that pays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Choice, Group
from ..contracts.reduction import ChannelUnits, Space
from ..cost.macs import macs
from ..graph import Edits, Graph, Network, Node, make_node
from ..graph.behind import fresh, insert, is_free
from ..ops.layers import LinearLayer, is_depthwise, layer_at
from ..types import Mask


@dataclass(frozen=True, eq=False)
class Widened:
    """The same removal, by layers alone that have their channels restored behind them.

    Attributes:
        network: with identity layers.
        space: its units.
        choice: which of them stay.
        outputs: of the layers that have an identity layer behind them.
    """

    network: Network
    space: ChannelUnits
    choice: Choice
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Site:
    """A layer that loses outputs, and could have another one behind it.

    Attributes:
        layer: the layer.
        kept: bool (channels,), which of its outputs stay.
        owners: ids of the groups that the others are of.
        gain: multiplications that it saves, less those of the layer behind it.
    """

    layer: LinearLayer
    kept: Mask
    owners: frozenset[str]
    gain: float


def widened(
    space: ChannelUnits,
    choice: Choice,
    candidates: Collection[str],
    find: Callable[[Network], Space],
) -> Widened | None:
    """Leave out channels by layers alone, where that pays; `None` where it does nowhere.

    Args:
        space: units of a network.
        choice: which of them stay.
        candidates: ids of the groups to do so with.
        find: finds the units of another network.
    """
    network = space.network
    cost = macs(network.graph, network.facts)
    cut = [group for group in space.groups if choice.cuts(group)]
    sites = {
        output: _site(space, choice, cut, network.graph.producer[output], cost)
        for group in cut
        for output in group.layers
    }
    chosen = set(candidates) & {group.id for group in cut}

    def fits(group: Group) -> bool:
        own = [o for o in group.layers if not is_depthwise(network.graph, network.graph.producer[o])]
        known = [site for o in own if (site := sites[o]) is not None]
        gone = {owner for site in known for owner in site.owners}
        return len(known) == len(own) and gone <= chosen and sum(site.gain for site in known) > 0

    while left_out := {group.id for group in cut if group.id in chosen and not fits(group)}:
        chosen -= left_out
    used = {
        output: site
        for output, site in sites.items()
        if site is not None and site.owners and site.owners <= chosen
    }
    if not used:
        return None
    new = with_identities(network, [site.layer for site in used.values()])
    found = find(new)
    if not isinstance(found, ChannelUnits):
        return None
    left = _translated(found, choice, chosen, {output: site.kept for output, site in used.items()})
    return None if left is None else Widened(new, found, left, tuple(used))


def with_identities(network: Network, layers: Collection[LinearLayer]) -> Network:
    """The network with an identity layer behind each of these."""
    edits = Edits()
    for layer in layers:
        _insert(edits, network.graph, layer)
    return network.edited(edits)


def identities_at(network: Network, outputs: Collection[str]) -> Network:
    """The network with an identity layer behind each of the layers with these outputs."""
    made = (network.graph.producer.get(output) for output in outputs)
    layers = [layer_at(network.graph, node) for node in made if node is not None]
    return with_identities(network, [layer for layer in layers if layer is not None])


def _site(
    space: ChannelUnits, choice: Choice, cut: Collection[Group], node: Node, cost: Mapping[int, int]
) -> _Site | None:
    graph, y = space.network.graph, node.outputs[0]
    layer, shape = layer_at(graph, node), space.network.facts.shapes.get(y)
    if layer is None or layer.row.recurrent or (layer.row.bias is not None and layer.input == 0):
        return None
    if len(graph.readers[layer.weight]) > 1 or graph.dtype(layer.weight).kind != "f":
        return None
    if shape is None or node.index not in cost or not is_free(graph, y):
        return None
    axis = layer.layout.outputs % len(shape)
    kept, owners = np.ones(shape[axis], bool), set()
    for group in cut:
        place = space.along(y, group)
        if place is None:
            continue
        if place[0] != axis:
            return None
        mine = place[1] >= 0
        gone = mine & ~choice.of(group)[place[1]]
        if gone.any():
            kept &= ~gone
            owners.add(group.id)
    groups = layer.layout.groups
    stays = kept.reshape(groups, -1).sum(1)
    if not owners or not stays.all() or (stays != stays[0]).any():
        return None
    width, left = shape[axis], int(stays.sum())
    positions = math.prod(shape) / width
    gain = cost[node.index] * (1 - left / width) - positions * left * width / groups
    return _Site(layer, kept, frozenset(owners), gain)


def _translated(
    space: ChannelUnits, choice: Choice, restored: Collection[str], kept: Mapping[str, Mask]
) -> Choice | None:
    """A choice in terms of the network with identity layers; `None` where its units don't allow it."""
    found = {key: mask for key, mask in choice.kept.items() if key not in restored and not mask.all()}
    by_id = {group.id: group for group in space.groups}
    if any(key not in by_id or by_id[key].size != len(mask) for key, mask in found.items()):
        return None
    for output, channels in kept.items():
        covered = channels.copy()
        for group in space.groups:
            place = space.along(output, group)
            if place is None:
                continue
            mine = place[1] >= 0
            stays = np.ones(group.size, bool)
            stays[place[1][mine & ~channels]] = False
            if not stays[place[1][mine & channels]].all():
                return None
            if not stays.all():
                found[group.id] = stays
                covered |= mine
        if not covered.all():
            return None
    return Choice(found)


def _insert(edits: Edits, graph: Graph, layer: LinearLayer) -> None:
    y, node, layout = layer.output, layer.node, layer.layout
    name = fresh(graph, f"{y}.restored")
    dtype, shape = graph.dtype(layer.weight), graph.shape_of_constant(layer.weight)
    width = layout.matrix(graph.array(layer.weight)).shape[1]
    matrix, bias = np.eye(width, dtype=dtype), np.zeros(width * layout.groups, dtype)
    w, b = f"{name}.weight", f"{name}.bias"
    if node.op in ("Conv", "ConvTranspose"):
        whole = np.tile(matrix, (layout.groups, 1)).reshape(-1, width, *(1,) * (len(shape) - 2))
        edits.added.update({w: whole, b: bias})
        nodes = [make_node("Conv", [y, w, b], [name], name, group=layout.groups)]
    elif node.op == "Gemm":
        edits.added.update({w: matrix, b: bias})
        nodes = [make_node("Gemm", [y, w, b], [name], name, transB=1)]
    else:
        column = layout.outputs != -1
        edits.added.update({w: matrix, b: bias[:, None] if column else bias})
        inputs = [w, y] if column else [y, w]
        nodes = [make_node("MatMul", inputs, [f"{name}.product"], f"{name}.product")]
        nodes.append(make_node("Add", [f"{name}.product", b], [name], name))
    insert(edits, graph, y, nodes, name)
