"""The masked reference of channels: the graph as it is, with zero read for what goes.

The zero goes in at the *reader*: BatchNormalization and Sigmoid turn a zero from the producer into something
else. Nothing here knows a rule, so this shares no code with the cut.
"""

from __future__ import annotations

import numpy as np

from ...graph import Array, Edits, Graph, Network, Node, Shape, make_node
from ...ops.layers.storage import zero_point
from ...types import Mask
from .analysis import Analysis, Reader


def masked(network: Network, analysis: Analysis, kept: Mask, reference: Graph | None = None) -> Graph:
    """The graph, reading zero wherever a removed unit is summed over.

    Args:
        network: the network that was analysed.
        analysis: its units.
        kept: (analysis.count,), whether each unit stays.
        reference: a graph that other masks were put into already; by default the network's own.
    """
    graph = network.graph
    reference = graph if reference is None else reference
    edits = Edits()
    for index, reader in enumerate(analysis.readers):
        keep = kept[reader.place.units]
        if keep.all():
            continue
        node = counterpart(reference, graph.nodes[reader.node])
        original, name = graph.nodes[reader.node].inputs[reader.input], node.inputs[reader.input]
        where = (node.index, reader.input)
        mask = spread(keep, reader)
        zero = zero_point(graph, original) if reader.zero else np.zeros(())
        if name in reference.constants and zero is not None:
            array = edits.literals.get(where, reference.array(name))
            none = np.broadcast_to(zero.astype(array.dtype), array.shape)
            part = np.where(mask, array.reshape(reader.view), none.reshape(reader.view))
            edits.literals[where] = part.reshape(array.shape)
            continue
        current = edits.rewire.get(where, name)
        fresh = f"{name}.masked{index}"
        edits.added[f"{fresh}.mask"] = merged(mask, reader, network.facts.shapes[original] or ())
        if not reader.zero:
            edits.added[f"{fresh}.zero"] = np.zeros((), network.facts.dtypes[original])
        inserted = make_node(
            "Where", [f"{fresh}.mask", current, reader.zero or f"{fresh}.zero"], [fresh], fresh
        )
        edits.before.setdefault(node.index, []).append(inserted)
        edits.rewire[where] = fresh
    return reference.edited(edits)


def counterpart(graph: Graph, node: Node) -> Node:
    """The node of another graph that gives the same tensors."""
    return graph.producer[next(name for name in node.outputs if name)]


def spread(values: Array, reader: Reader) -> Array:
    """A value for each unit of `reader.place`, so that it broadcasts over `reader.view`."""
    shape = [1] * len(reader.view)
    for axis, length in zip(reader.place.axes, values.shape, strict=True):
        shape[axis] = length
    return values.reshape(shape)


def merged(values: Array, reader: Reader, shape: Shape) -> Array:
    """What `spread` gives, over the tensor itself, of `shape`: one of its axes may be split in the view."""
    view = reader.view
    if view == shape:
        return values
    split = next(a for a in range(len(shape)) if (*view[:a], view[a] * view[a + 1], *view[a + 2 :]) == shape)
    over = values.shape
    return values.reshape((*over[:split], over[split] * over[split + 1], *over[split + 2 :]))
