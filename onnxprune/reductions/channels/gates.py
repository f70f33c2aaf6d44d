"""Everywhere that units of a group are read: at gates of 0 there one is removed, as the proof has it."""

from __future__ import annotations

import numpy as np

from ...contracts.gates import GatedGroup, Site
from ...graph import Graph, Network, Node, Shape, infer, symbolic_dims
from ...types import Units
from .analysis import Analysis, ChannelGroup, Reader
from .mask import merged, spread
from .sites import axis_of, floats, hands_on, is_data, local

_BATCHES = (2, 3)


def gated(network: Network, analysis: Analysis, group: ChannelGroup) -> GatedGroup:
    """The gates of a group.

    A layer reads its data and a weight along the same units. The gate is at the data, whose gradients are
    known for each sample; at the weight where that is the only one of both that holds the units, as in the
    state of a recurrent layer.
    """
    found: dict[tuple[str, int], Site] = {}
    for reader in analysis.readers:
        if not hands_on(reader) and np.isin(reader.place.units, group.units).any():
            site = _site(network, analysis, group, reader)
            found.setdefault(site.reader, site)
    return GatedGroup(group.name, group.size, tuple(found.values()))


def _site(network: Network, analysis: Analysis, group: ChannelGroup, reader: Reader) -> Site:
    graph = network.graph
    node = graph.nodes[reader.node]
    read = node.inputs[reader.input]
    if not is_data(graph, read):
        known = np.unique(reader.place.units)
        for index, name in enumerate(node.inputs[: 1 if reader.input else 2]):
            found = axis_of(analysis.tensors.get(name, ()), known) if name != read else None
            if found is not None and np.array_equal(np.unique(found[1]), known):
                axis, units = found
                return _at(network, node, index, (axis,), local(group, units))
    axes, units = _over(local(group, reader.place.units), reader, _shape(network, read))
    return _at(network, node, reader.input, axes, units)


def _at(network: Network, node: Node, index: int, axes: tuple[int, ...], units: Units) -> Site:
    """The gate at an input; before it was quantised, if the node reads it as integers."""
    tensor, reader = node.inputs[index], (node.outputs[0], index)
    before = floats(network.graph, tensor)
    if before != tensor:
        tensor, reader = before, (network.graph.producer[tensor].outputs[0], 0)
    by_sample = axes[0] > 0 and tensor in _of_samples(network)
    return Site(tensor, axes, units, reader, by_sample)


def _shape(network: Network, name: str) -> Shape:
    if name in network.graph.constants:
        return network.graph.shape_of_constant(name)
    return network.facts.shapes[name] or ()


def _over(units: Units, reader: Reader, shape: Shape) -> tuple[tuple[int, ...], Units]:
    """The axes of a tensor that its units lie along, and these; the view of a reader may split an axis."""
    spreaded, axes, view = spread(units, reader), reader.place.axes, reader.view
    if view == shape:
        return axes, units
    if len(view) != len(shape) + 1:
        return tuple(range(len(shape))), np.broadcast_to(spreaded, view).reshape(shape)
    split = next(a for a in range(len(shape)) if (*view[:a], view[a] * view[a + 1], *view[a + 2 :]) == shape)
    if len({split, split + 1} & set(axes)) == 1:
        both = [n if a in (split, split + 1) else spreaded.shape[a] for a, n in enumerate(view)]
        spreaded = np.broadcast_to(spreaded, both)
    along = sorted({a if a <= split else a - 1 for a in axes})
    whole = merged(spreaded, reader, shape)
    return tuple(along), whole.reshape([whole.shape[a] for a in along])


def _of_samples(network: Network) -> frozenset[str]:
    """The tensors whose first axis is that of samples: it alone has another length where there are more."""
    return network.cached(_of_samples, _find_of_samples)


def _find_of_samples(network: Network) -> frozenset[str]:
    graph: Graph = network.graph
    symbols = [name for name, (_, axis) in symbolic_dims(graph).items() if axis == 0]
    if not symbols:
        return frozenset()
    dims = {s: n for s, n in network.facts.dims.items() if s not in symbols}
    one, other = (infer(graph, {**dims, **dict.fromkeys(symbols, n)}).shapes for n in _BATCHES)
    return frozenset(
        name
        for name, shape in one.items()
        if shape and shape[0] == _BATCHES[0] and other.get(name) == (_BATCHES[1], *shape[1:])
    )
