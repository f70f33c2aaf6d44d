"""The masked reference: the original graph, with zero read for what is removed."""

from __future__ import annotations

import numpy as np

from ...contracts.analysis import Analysis
from ...graph import Edits, Facts, Graph, make_node
from ...ops.layers.storage import zero_point
from ...types import Mask
from .sites import merged, spread


def masked(graph: Graph, facts: Facts, analysis: Analysis, kept: Mask) -> Graph:
    """The original graph, reading zero wherever a removed unit is summed over."""
    edits = Edits()
    for index, reader in enumerate(analysis.readers):
        keep = kept[reader.place.units]
        if keep.all():
            continue
        name = graph.nodes[reader.node].inputs[reader.input]
        where = (reader.node, reader.input)
        mask = spread(keep, reader)
        zero = zero_point(graph, name) if reader.zero else np.zeros(())
        if name in graph.constants and zero is not None:
            array = edits.literals.get(where, graph.array(name))
            none = np.broadcast_to(zero.astype(array.dtype), array.shape)
            part = np.where(mask, array.reshape(reader.view), none.reshape(reader.view))
            edits.literals[where] = part.reshape(array.shape)
            continue
        current = edits.rewire.get(where, name)
        fresh = f"{name}.masked{index}"
        edits.added[f"{fresh}.mask"] = merged(mask, reader, facts.shapes[name] or ())
        if not reader.zero:
            edits.added[f"{fresh}.zero"] = np.zeros((), facts.dtypes[name])
        node = make_node("Where", [f"{fresh}.mask", current, reader.zero or f"{fresh}.zero"], [fresh], fresh)
        edits.before.setdefault(reader.node, []).append(node)
        edits.rewire[where] = fresh
    return graph.edited(edits)
