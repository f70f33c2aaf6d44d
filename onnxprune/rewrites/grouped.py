"""A Gather and a grouped convolution in place of a dense one whose kernels are zero in blocks."""

from __future__ import annotations

import numpy as np

from ..contracts.rewrite import NotApplied
from ..graph import Edits, Network, make_node
from ..types import Mask


def grouped(network: Network, output: str, kept: Mask, groups: int) -> Network:
    """Let runs of filters read their own channels.

    Args:
        network: the network; kernels that are not kept are zero.
        output: of the convolution.
        kept: bool (filters, channels), whether each kernel stays.
        groups: how many runs of consecutive filters.

    Raises:
        NotApplied: kernels don't form such groups.
    """
    graph = network.graph
    node = graph.producer[output]
    weight = node.inputs[1]
    if len(kept) % groups:
        raise NotApplied(f"filters don't divide into {groups} groups")
    blocks = kept.reshape(groups, -1, kept.shape[1])
    if (blocks != blocks[:, :1]).any():
        raise NotApplied("filters of a group keep different channels")
    own = blocks[:, 0]
    if len(set(own.sum(axis=1).tolist())) > 1 or not own.any():
        raise NotApplied("groups keep unequally many channels")
    channels = [np.flatnonzero(row) for row in own]
    array = graph.array(weight).reshape(groups, -1, *graph.shape_of_constant(weight)[1:])
    parts = [block[:, index] for block, index in zip(array, channels, strict=True)]
    gathered = f"{output}.inbound"
    edits = Edits()
    edits.constants[weight] = np.concatenate(parts)
    edits.added[f"{gathered}.channels"] = np.concatenate(channels).astype(np.int64)
    inputs = [node.inputs[0], f"{gathered}.channels"]
    edits.before[node.index] = [make_node("Gather", inputs, [gathered], gathered, axis=1)]
    edits.rewire[node.index, 0] = gathered
    edits.attrs[node.index, "group"] = groups
    return network.edited(edits)
