"""Which nodes have weights that can make up for what was removed before them, and in which order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..graph import Graph, Node, Shape, is_floating
from ..ops import quant
from ..prefix import reads
from .convolution import Convolution, Transposed
from .layout import Layout
from .product import Gates, Product
from .surgery import Surgery

_WEIGHTS = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (1, 0),
    "MatMul": (1, 0),
    "LSTM": (1,),
    "GRU": (1,),
    "RNN": (1,),
}
"""Which inputs may be the weight; the data is the other one of the first two."""


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
        side = weight_of(surgery.pruned, node)
        if side is None:
            continue
        weight = surgery.pruned.shape_of_constant(node.inputs[side])
        if depthwise or not is_depthwise(node, weight):
            recurrent = node.op in ("LSTM", "GRU", "RNN")
            found.append(Consumer(node.outputs[0], side, node.inputs[1 - side], recurrent))
    return found


def quantised(surgery: Surgery, fitted: Collection[str]) -> int:
    """How many layers that lost inputs compute with integers, other than those that can be `fitted` anew."""
    lost = {r.node for r in surgery.analysis.readers if not surgery.kept[r.place.units].all()}
    nodes = [surgery.graph.nodes[index] for index in lost]
    return sum(node.op in quant.MACS and node.outputs[0] not in fitted for node in nodes)


def weight_of(graph: Graph, node: Node) -> int | None:
    """Which input is a floating-point weight that no other node reads, while the other one is data."""
    return next((i for i in _WEIGHTS.get(node.op, ()) if _is_weight(graph, node, i)), None)


def _is_inexact(surgery: Surgery, node: Node) -> bool:
    return (
        bool(node.outputs)
        and node.outputs[0] in surgery.changed
        and node.outputs[0] in surgery.graph.producer
    )


def _is_weight(graph: Graph, node: Node, i: int) -> bool:
    name = node.inputs[i]
    if name not in graph.constants or node.inputs[1 - i] in graph.constants or len(graph.readers[name]) > 1:
        return False
    return is_floating(graph.dtype(name))


def is_depthwise(node: Node, weight: Shape | None) -> bool:
    """Whether a node is a convolution that makes each channel of one channel.

    Args:
        node: the node.
        weight: the shape of its second input, which may be computed; `None` where it isn't known.
    """
    grouped = node.op == "Conv" and node.attrs.get("group", 1) != 1
    return grouped and weight is not None and weight[1] == 1


def layout(node: Node, side: int, weight: Shape, y: Shape) -> Layout | None:
    """How a node's patches, outputs and weights lie, if they can be told.

    Args:
        node: the node.
        side: which input is the weight.
        weight: its shape.
        y: shape of the output.
    """
    if node.op == "Conv":
        return Convolution.of(node, weight)
    if node.op == "ConvTranspose":
        return Transposed.of(node, weight)
    if node.op == "Gemm":
        turned = bool(node.attrs.get("transA", 0)), bool(node.attrs.get("transB", 0))
        factor = float(node.attrs.get("alpha", 1.0))
        return Product(side == 1, turned[1 - side], turned[side], factor) if factor else None
    if node.op == "MatMul":
        return Product(side == 1) if len(weight) == 2 and len(y) > 1 else None
    return Gates(bool(node.attrs.get("layout", 0)))


def stages(graph: Graph, keys: Collection[str]) -> dict[int, int]:
    """For every node, how many of those named by `keys` lie one behind the other on the longest way to it."""
    behind: dict[str, int] = {}
    result: dict[int, int] = {}
    for node in graph.nodes:
        result[node.index] = max((behind.get(i, 0) for i in reads(node)), default=0)
        step = int(bool(node.outputs) and node.outputs[0] in keys)
        behind.update(dict.fromkeys(node.outputs, result[node.index] + step))
    return result
