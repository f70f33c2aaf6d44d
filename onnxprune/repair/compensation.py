"""New weights for layers that can no longer use some of them, said in terms of the uncut network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts.reduction import Consumer, Trace
from ..graph import Edits, Graph, Network, dtype_numbered
from ..ops.layers.bias import Intercept, intercept
from ..ops.layers.storage import nearest, weights, zero_point
from ..types import Floats, Units


@dataclass(frozen=True, eq=False)
class Compensation:
    """New weights for one layer.

    Attributes:
        output: first output of the layer.
        input: which of its inputs holds the weight.
        weight: float64, in the shape of the uncut weight; zero, if it is for a masked reference, for what is
            gone.
        shift: float64 (outputs,), what to add to its bias; `None`: nothing.
        outputs: int64, in the shape of the uncut weight, which output each of its values belongs to.
    """

    output: str
    input: int
    weight: Floats
    shift: Floats | None
    outputs: Units


def compensated(network: Network, trace: Trace, found: Iterable[Compensation]) -> Network:
    """A network with such weights, as far as it has their layers.

    Args:
        network: a cut network, or a masked reference.
        trace: from the network that the compensations are about.
        found: the compensations.
    """
    graph, edits = network.graph, Edits()
    for one in found:
        node = graph.producer.get(one.output)
        if node is None:
            continue
        name = node.inputs[one.input]
        weight = trace.weight(one.output, one.input, one.weight)
        zero = zero_point(graph, name)
        dtype = _dtype(graph, name)
        new = weight.astype(dtype) if zero is None else nearest(weight + zero, dtype)
        edits.literals[node.index, one.input] = new
        slot = place_for_shift(graph, one.output, one.input)
        if one.shift is not None and slot is not None:
            left = np.unique(trace.weight(one.output, one.input, one.outputs))
            slot.write(edits, slot.now(left.size) + one.shift[left], new)
    return network.edited(edits)


def place_for_shift(graph: Graph, output: str, index: int) -> Intercept | None:
    """Where a layer with weights of floats has a bias, or can have one."""
    node = graph.producer.get(output)
    if node is None or zero_point(graph, node.inputs[index]) is not None:
        return None
    slot = intercept(graph, node, index)
    return slot if slot is not None and slot.possible else None


def outputs_of(base: Graph, consumer: Consumer, rows: Floats) -> Units:
    """int64, in the shape of a consumer's weight: which of its outputs each value belongs to."""
    convolves = base.nodes[consumer.node].op in ("Conv", "ConvTranspose")
    ends = rows.shape[1:2] if convolves else rows.shape[1:]
    numbers = np.arange(int(np.prod(ends, dtype=np.int64)), dtype=np.float64)
    shape = (*ends, *(1,) * (rows.ndim - 1 - len(ends)))
    spread = np.broadcast_to(numbers.reshape(shape), rows.shape)
    array = consumer.array(spread, weights(base, consumer.weight).shape)
    return np.asarray(np.rint(array), np.int64)


def _dtype(graph: Graph, name: str) -> np.dtype[Any]:
    """Of a constant, of what is made of one (see `storage.stored`), or of one that is masked.

    Of DequantizeLinear the scale has it, of a mask what that lets through: input 1.
    """
    while name not in graph.constants:
        node = graph.producer[name]
        if node.op == "Cast":
            return dtype_numbered(node.attrs["to"])
        name = node.inputs[1 if node.op in ("DequantizeLinear", "Mul", "Where") else 0]
    return graph.dtype(name)
