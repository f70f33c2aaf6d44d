"""What a graph costs to run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

from ..graph import Facts, Graph, Node, Shape
from . import MACS, RULES
from .op import MacsRule

_WITHOUT_PRODUCTS = frozenset(
    f"com.microsoft:{name}"
    for name in [
        *("BiasAdd", "BiasDropout", "BiasSoftmax", "BiasSplitGelu", "BifurcationDetector"),
        *("BitmaskBiasDropout", "BitmaskDropout", "BranchwiseRMSNorm", "ComplexMul", "ComplexMulConj"),
        *("ConvStateReplay", "CropAndResize", "DequantizeBFP", "DequantizeWithOrder", "DynamicTimeWarping"),
        *("EngramGate", "ExpandDims", "GatedAdd", "GatedRMSNorm", "GatherBlockQuantized", "GatherND"),
        *("GatherPacked", "GemmaRotaryEmbedding", "GridSample", "GroupNorm", "Inverse", "Irfft"),
        *("IsAllFinite", "LinearAttentionGate", "MRotaryEmbedding", "MaxpoolWithMask", "MoEGroupRouter"),
        *("MulInteger", "MurmurHash3", "NGramHashMapping", "NGramRepeatBlock", "NhwcMaxPool", "Pad"),
        *("QEmbedLayerNormalization", "QLinearReduceMean", "QLinearSoftmax", "QLinearWhere"),
        *("QOrderedGelu", "QOrderedLayerNormalization", "QuantizeBFP", "QuantizeWithOrder", "Range"),
        *("ReduceSumInteger", "RelativePositionBias", "RemovePadding", "RestorePadding", "Rfft"),
        *("RMSNormRotary", "SampleOp", "ScaledSiLU", "SkipGroupNorm", "SwiGLU", "Tokenizer"),
        *("TorchEmbedding", "Trilu", "UnfoldTensor", "Unique", "VarlenNGramHashMapping"),
    ]
)
"""Operators of ONNX Runtime that hold no products of matrices, as far as there is no rule for them."""

_TREES = frozenset({"ai.onnx.ml"})
"""Domains whose operators compare, look up and scale, except for those that are counted."""


class Unknown(Exception):
    """A shape that a cost depends on is not known."""


class _Shapes(Sequence[Shape]):
    """Shapes, of which only those that are looked at have to be known."""

    def __init__(self, shapes: Iterable[Shape | None]) -> None:
        self._shapes = tuple(shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    @overload
    def __getitem__(self, index: int) -> Shape: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Shape]: ...

    def __getitem__(self, index: int | slice) -> Shape | Sequence[Shape]:
        if isinstance(index, slice):
            return _Shapes(self._shapes[index])
        shape = self._shapes[index]
        if shape is None:
            raise Unknown
        return shape


def products(
    rule: MacsRule, node: Node, inputs: Iterable[Shape | None], outputs: Iterable[Shape | None]
) -> int | None:
    """Multiply-accumulates of one node; `None` where they depend on a shape that isn't known.

    Args:
        rule: of its operator.
        node: the node.
        inputs: shapes of its inputs, `()` for one that is left out.
        outputs: shapes of its outputs.
    """
    try:
        return rule(node, _Shapes(inputs), _Shapes(outputs))
    except (Unknown, IndexError, KeyError, ValueError):  # not known, or not as the operator wants it
        return None


def macs(graph: Graph, facts: Facts) -> dict[int, int]:
    """Multiply-accumulates of every node that multiplies, by node index, for the batch that `facts` assumes.

    Nodes whose shapes are not known are left out: see `uncounted`.
    """
    result: dict[int, int] = {}
    for node in graph.nodes:
        rule = MACS.get(node.op)
        if rule is None:
            continue
        inputs, outputs = (
            [facts.shapes.get(name) if name else () for name in names]
            for names in (node.inputs, node.outputs)
        )
        count = products(rule, node, inputs, outputs)
        if count is not None:
            result[node.index] = count
    return result


@dataclass(frozen=True)
class Uncounted:
    """Nodes that multiply, or may, and that no number of multiply-accumulates holds.

    Attributes:
        op: their operator.
        nodes: how many.
        known: whether the operator is counted where shapes are known.
    """

    op: str
    nodes: int
    known: bool

    def __str__(self) -> str:
        times = f"{self.nodes} \N{MULTIPLICATION SIGN} " if self.nodes > 1 else ""
        return f"{times}{self.op} ({'shapes are not known' if self.known else 'no rule'})"


def uncounted(graph: Graph, facts: Facts) -> tuple[Uncounted, ...]:
    """What `macs` leaves out: operators whose products it can't tell, and nodes whose shapes aren't known.

    Operators of domains that are not known may multiply.
    """
    costs = macs(graph, facts)
    found = Counter(
        (node.op, node.op in MACS)
        for node in graph.nodes
        if node.index not in costs and (node.op in MACS or _may_multiply(node.op))
    )
    return tuple(Uncounted(op, nodes, known) for (op, known), nodes in sorted(found.items()))


def _may_multiply(op: str) -> bool:
    domain = op.rpartition(":")[0]
    return bool(domain) and op not in RULES and op not in _WITHOUT_PRODUCTS and domain not in _TREES
