"""Which nodes have weights that can make up for what was removed before them, and in which order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..execution.prefix import reads
from ..graph import Graph, Node, is_floating
from ..ops import quant
from ..ops.layers import LinearLayer, is_depthwise, layer_at
from .surgery import Surgery


@dataclass(frozen=True)
class Consumer:
    """A node that can be fitted anew.

    Attributes:
        key: its first output, by which it is found before and after the surgery.
        weight: which input is the weight.
        data: the tensor that it reads.
        recurrent: what its weights give is not its output.
    """

    key: str
    weight: int
    data: str
    recurrent: bool


def consumers(surgery: Surgery, *, depthwise: bool = False) -> list[Consumer]:
    """The linear nodes behind what was removed that have a floating-point weight of their own.

    Depthwise convolutions have one input for each output, so nothing to make up with: fitting their weights
    was measured to take as long again and to gain nothing.

    Args:
        surgery: what was done.
        depthwise: include them all the same, for the sake of their biases.
    """
    found = []
    for node in surgery.pruned.nodes:
        if not _is_inexact(surgery, node):
            continue
        layer = fitted_layer(surgery.pruned, node)
        if layer is not None and (depthwise or not is_depthwise(surgery.pruned, node)):
            found.append(Consumer(layer.output, layer.input, layer.data, layer.row.recurrent))
    return found


def quantised(surgery: Surgery, fitted: Collection[str]) -> int:
    """How many layers that lost inputs compute with integers, other than those that can be `fitted` anew."""
    lost = {r.node for r in surgery.analysis.readers if not surgery.kept[r.place.units].all()}
    nodes = [surgery.graph.nodes[index] for index in lost]
    return sum(node.op in quant.MACS and node.outputs[0] not in fitted for node in nodes)


def _is_inexact(surgery: Surgery, node: Node) -> bool:
    return (
        bool(node.outputs)
        and node.outputs[0] in surgery.changed
        and node.outputs[0] in surgery.graph.producer
    )


def fitted_layer(graph: Graph, node: Node) -> LinearLayer | None:
    """The linear layer that a node is, if its weight is of floats and no other node reads it."""
    layer = layer_at(graph, node)
    if layer is None or len(graph.readers[layer.weight]) > 1 or not is_floating(graph.dtype(layer.weight)):
        return None
    return layer


def stages(graph: Graph, keys: Collection[str]) -> dict[int, int]:
    """For every node, how many of those named by `keys` lie one behind the other on the longest way to it."""
    behind: dict[str, int] = {}
    result: dict[int, int] = {}
    for node in graph.nodes:
        result[node.index] = max((behind.get(i, 0) for i in reads(node)), default=0)
        step = int(bool(node.outputs) and node.outputs[0] in keys)
        behind.update(dict.fromkeys(node.outputs, result[node.index] + step))
    return result
