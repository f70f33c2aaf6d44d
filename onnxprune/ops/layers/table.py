"""The linear layers: which operators compute y = W p + b, and where they have their data, weight and bias.

A layer of a new kind is one row here and, if none of the layouts fits, one `Layout`. What scores, fits,
masks, draws or counts weights reads this table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ...graph import Graph, Node, Shape, is_floating
from .convolution import Convolution, Transposed
from .layout import Layout
from .product import Gates, Product

LayoutOf = Callable[[Node, int, Shape], Layout | None]
"""From a node, the input that holds its weight, and the weight's shape to how they lie, if that is known."""


@dataclass(frozen=True)
class LinearRow:
    """An operator that is a linear layer.

    Attributes:
        weights: inputs that may hold the weight that data is multiplied by, the usual one first. With two of
            them, the data is the other one; with one, it is input 0.
        layout: how its patches, outputs and weights lie.
        bias: the input with a value for each output; `None` where only an Add behind it can have one.
        states: further inputs with weights, of a layer's own states.
        vectors: further inputs with a value for each output.
        zero: of a layer that multiplies integers, the input with the zero point of its weight.
        zero_axis: the axis of the weight along which there may be a zero point for each output.
        gates: rows of the weight for each unit that it makes; of recurrent layers.
    """

    weights: tuple[int, ...]
    layout: LayoutOf
    bias: int | None = None
    states: tuple[int, ...] = ()
    vectors: tuple[int, ...] = ()
    zero: int | None = None
    zero_axis: int = 0
    gates: int = 0

    @property
    def recurrent(self) -> bool:
        """Whether what its weights give is not its output."""
        return self.gates > 0

    def data(self, weight: int) -> int:
        """Which input is the data where `weight` holds the weight."""
        return 1 - weight if len(self.weights) > 1 else 0


def _convolution(node: Node, _input: int, weight: Shape) -> Layout | None:
    return Convolution.of(node, weight) if len(weight) > 2 else None


def _transposed(node: Node, _input: int, weight: Shape) -> Layout | None:
    return Transposed.of(node, weight) if len(weight) > 2 else None


def _gemm(node: Node, side: int, weight: Shape) -> Layout | None:
    turned = bool(node.attrs.get("transA", 0)), bool(node.attrs.get("transB", 0))
    factor = float(node.attrs.get("alpha", 1.0))
    return Product(side == 1, turned[1 - side], turned[side], factor) if factor and len(weight) == 2 else None


def _matmul(_node: Node, side: int, weight: Shape) -> Layout | None:
    return Product(side == 1) if len(weight) == 2 else None


def _gates(node: Node, _input: int, weight: Shape) -> Layout | None:
    return Gates(bool(node.attrs.get("layout", 0))) if len(weight) == 3 else None


LINEAR: Mapping[str, LinearRow] = MappingProxyType(
    {
        "Conv": LinearRow((1,), _convolution, bias=2),
        "ConvTranspose": LinearRow((1,), _transposed, bias=2),
        "Gemm": LinearRow((1, 0), _gemm, bias=2),
        "MatMul": LinearRow((1, 0), _matmul),
        "LSTM": LinearRow((1,), _gates, bias=3, states=(2,), vectors=(7,), gates=4),
        "GRU": LinearRow((1,), _gates, bias=3, states=(2,), gates=3),
        "RNN": LinearRow((1,), _gates, bias=3, states=(2,), gates=1),
        "ConvInteger": LinearRow((1,), _convolution, zero=3),
        "MatMulInteger": LinearRow((1,), _matmul, zero=3, zero_axis=-1),
    }
)
"""Operator -> what kind of linear layer it is."""


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """A linear layer of a graph, whose weight is a constant.

    Attributes:
        node: the node.
        input: which of its inputs holds the weight.
        row: of the table.
        layout: how its patches, outputs and weights lie.
    """

    node: Node
    input: int
    row: LinearRow
    layout: Layout

    @property
    def output(self) -> str:
        """Its first output: by this name it is found again in a graph that was changed."""
        return self.node.outputs[0]

    @property
    def data(self) -> str:
        """The tensor that it reads."""
        return self.node.inputs[self.row.data(self.input)]

    @property
    def weight(self) -> str:
        """The constant that it multiplies by."""
        return self.node.inputs[self.input]


def layer_at(graph: Graph, node: Node) -> LinearLayer | None:
    """The linear layer that a node is, if its weight is a constant and its data is not."""
    row = LINEAR.get(node.op)
    if row is None or not node.outputs:
        return None
    for i in row.weights:
        if i >= len(node.inputs) or node.inputs[i] not in graph.constants:
            continue
        if node.inputs[row.data(i)] in graph.constants:
            continue
        layout = row.layout(node, i, graph.shape_of_constant(node.inputs[i]))
        if layout is not None:
            return LinearLayer(node, i, row, layout)
    return None


def float_layers(graph: Graph) -> Iterator[LinearLayer]:
    """All linear layers of a graph with a constant weight of floats, in the order of its nodes."""
    for node in graph.nodes:
        layer = layer_at(graph, node)
        if layer is not None and is_floating(graph.dtype(layer.weight)):
            yield layer


def weight_inputs(op: str) -> tuple[int, ...]:
    """Which inputs of an operator hold weights, as opposed to a bias; none if it is no linear layer."""
    row = LINEAR.get(op)
    return () if row is None else (*sorted(row.weights), *row.states)


def is_depthwise(graph: Graph, node: Node) -> bool:
    """Whether a node is a convolution that makes each channel of one channel."""
    layer = layer_at(graph, node)
    if layer is None or node.op != "Conv":
        return False
    return graph.shape_of_constant(layer.weight)[1] == 1 != layer.layout.groups
