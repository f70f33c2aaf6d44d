"""Which layers can be fitted so that they make up for what is gone, and in which order."""

from __future__ import annotations

from collections.abc import Collection

from ..execution.prefix import reads
from ..graph import Graph, Node, is_floating
from ..ops.layers import LinearLayer, is_depthwise, layer_at
from .task import Task


def fitted_layers(task: Task, *, depthwise: bool = False) -> list[LinearLayer]:
    """The linear layers of the cut network behind what was removed that have a weight of their own.

    Depthwise convolutions have one input for each output, so nothing to make up with: fitting their weights
    was measured to take as long again and to gain nothing.

    Args:
        task: what was done.
        depthwise: include them all the same, for the sake of their biases.
    """
    graph, found = task.network.graph, []
    for node in graph.nodes:
        if not node.outputs or node.outputs[0] not in task.trace.changed:
            continue
        layer = own_layer(graph, node) if node.outputs[0] in task.origin.graph.producer else None
        if layer is not None and (depthwise or not is_depthwise(graph, node)):
            found.append(layer)
    return found


def own_layer(graph: Graph, node: Node) -> LinearLayer | None:
    """The linear layer that a node is, if its weight is of floats and no other node reads it."""
    layer = layer_at(graph, node)
    if layer is None or len(graph.readers[layer.weight]) > 1 or not is_floating(graph.dtype(layer.weight)):
        return None
    return layer


def stages(graph: Graph, outputs: Collection[str]) -> dict[int, int]:
    """For every node, how many of those with these outputs lie one behind the other on the way to it."""
    behind: dict[str, int] = {}
    result: dict[int, int] = {}
    for node in graph.nodes:
        result[node.index] = max((behind.get(i, 0) for i in reads(node)), default=0)
        step = int(bool(node.outputs) and node.outputs[0] in outputs)
        behind.update(dict.fromkeys(node.outputs, result[node.index] + step))
    return result
