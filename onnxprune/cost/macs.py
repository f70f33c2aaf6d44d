"""Multiply-accumulates of a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from ..graph import Facts, Graph, Network, Node, Shape, bodies_of, has_bodies, iterations, operators_within
from ..ops import MACS, RULES
from ..ops.op import MacsRule

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

    Of an If its most expensive branch counts, of a Loop or Scan all iterations. Nodes whose shapes are not
    known are left out, and where the number of iterations isn't known, one counts: see `uncounted`.
    """
    result: dict[int, int] = {}
    for node in graph.nodes:
        if has_bodies(node) and not MACS.keys().isdisjoint(operators_within(graph, node)):
            inside = [sum(macs(b.graph, b.facts).values()) for b in bodies_of(graph, facts, node)]
            if any(inside):
                times = iterations(graph, facts, node)
                result[node.index] = max(inside) * (1 if times is None else times)
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


def one_sample_macs(network: Network) -> int:
    """Multiply-accumulates of a network for one sample, at the other sizes that it is at."""
    one = network.of_one_sample
    return network.cached("one sample's MACs", lambda _: sum(macs(one.graph, one.facts).values()))


@dataclass(frozen=True)
class Uncounted:
    """Nodes that multiply, or may, and whose products a number of multiply-accumulates doesn't hold in full.

    Attributes:
        op: their operator.
        nodes: how many.
        why: the reason, in words.
    """

    op: str
    nodes: int
    why: str

    def __str__(self) -> str:
        times = f"{self.nodes} \N{MULTIPLICATION SIGN} " if self.nodes > 1 else ""
        return f"{times}{self.op} ({self.why})"


def uncounted(graph: Graph, facts: Facts) -> tuple[Uncounted, ...]:
    """What `macs` leaves out: operators whose products it can't count, and nodes whose shapes aren't known.

    Operators of domains that are not known may multiply. Bodies are included.
    """
    found = Counter(_uncounted(graph, facts))
    return tuple(Uncounted(op, nodes, why) for (op, why), nodes in sorted(found.items()))


def _uncounted(graph: Graph, facts: Facts) -> Iterator[tuple[str, str]]:
    costs = macs(graph, facts)
    for node in graph.nodes:
        if has_bodies(node):
            for body in bodies_of(graph, facts, node):
                yield from _uncounted(body.graph, body.facts)
            if node.index in costs and iterations(graph, facts, node) is None:
                yield node.op, "its number of iterations is not known: one is counted"
        elif node.index not in costs and node.op in MACS:
            yield node.op, "shapes are not known"
        elif node.index not in costs and _may_multiply(node.op):
            yield node.op, "no rule"


def _may_multiply(op: str) -> bool:
    domain = op.rpartition(":")[0]
    return bool(domain) and op not in RULES and op not in _WITHOUT_PRODUCTS and domain not in _TREES
