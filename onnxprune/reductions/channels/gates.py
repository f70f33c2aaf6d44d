"""A factor for one unit of a group, wherever it is read: at 0 the unit is removed, as the proof has it."""

from __future__ import annotations

import numpy as np

from ...contracts.gates import GATES, UNIT, Gated
from ...graph import Edits, Network, make_node
from ...types import Units
from .analysis import Analysis, ChannelGroup, Reader
from .mask import merged, spread
from .sites import hands_on, local


def gated(network: Network, analysis: Analysis, group: ChannelGroup) -> Gated:
    """The graph with the factor of a unit of a group as an input."""
    graph = network.graph
    edits, first = Edits(), len(graph.nodes)
    coarse = None
    for index, reader in enumerate(analysis.readers):
        units = reader.place.units
        if hands_on(reader) or not np.isin(units, group.units).any():
            continue
        first = min(first, reader.node)
        at = (reader.node, reader.input)
        name = graph.nodes[reader.node].inputs[reader.input]
        dtype = graph.dtype(name) if name in graph.constants else network.facts.dtypes[name]
        if reader.zero or dtype.name not in GATES:
            coarse = (graph.nodes[reader.node].name, dtype.name)
            continue
        fresh = f"{name}.gated{index}"
        edits.added[f"{fresh}.units"] = _over(local(group, units), reader, network, name)
        edits.added[f"{fresh}.one"] = np.ones((), dtype)
        edits.before.setdefault(reader.node, []).extend(
            make_node(op, inputs, [output], output)
            for op, inputs, output in (
                ("Equal", [f"{fresh}.units", UNIT], f"{fresh}.is"),
                ("Where", [f"{fresh}.is", GATES[dtype.name], f"{fresh}.one"], f"{fresh}.factor"),
                ("Mul", [edits.rewire.get(at, name), f"{fresh}.factor"], fresh),
            )
        )
        edits.rewire[at] = fresh
    return Gated(graph.edited(edits), first, coarse)


def _over(units: Units, reader: Reader, network: Network, name: str) -> Units:
    spreaded = spread(units, reader)
    if name not in network.graph.constants:
        return merged(spreaded, reader, network.facts.shapes[name] or ())
    shape = network.graph.shape_of_constant(name)
    return spreaded if shape == reader.view else np.broadcast_to(spreaded, reader.view).reshape(shape)
