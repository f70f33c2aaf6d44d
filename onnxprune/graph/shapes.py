"""Shapes of operators that onnx can't infer: ONNX Runtime's own, and functions without inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ..types import Shape

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class ShapeRule:
    """How the outputs of an operator look.

    Attributes:
        shapes: of the outputs that are known, from the attributes and the shapes of the inputs. An
            input that is missing or unknown has shape `None`.
        like: the input whose dtype the outputs have.
    """

    shapes: Callable[[Attributes, Sequence[Shape | None]], Sequence[Shape | None]]
    like: int = 0


def _same(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    """As the first input."""
    del attrs
    return [inputs[0]]


def _broadcast(*operands: int) -> ShapeRule:
    def shapes(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
        del attrs
        found = [s for i in operands if (s := inputs[i]) is not None]
        return [np.broadcast_shapes(*found) if len(found) == len(operands) else None]

    return ShapeRule(shapes)


def _matmul(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    a, b = inputs[:2]
    if a is None or b is None or min(len(a), len(b)) < 2:
        return [None]
    if attrs.get("transBatchA", 0) or attrs.get("transBatchB", 0):
        return [None]
    rows, columns = a[-1 if attrs.get("transA", 0) else -2], b[-2 if attrs.get("transB", 0) else -1]
    return [(*np.broadcast_shapes(a[:-2], b[:-2]), rows, columns)]


def _product(a: int, b: int, like: int) -> ShapeRule:
    def shapes(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
        return _matmul(attrs, [inputs[a], inputs[b]])

    return ShapeRule(shapes, like)


def _matmul_bits(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    return [None if inputs[0] is None else (*inputs[0][:-1], attrs["N"])]


def _attention(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    """Attention with a fused weight (C, q + k + v)."""
    x, w = inputs[:2]
    if x is None or w is None:
        return [None]
    sizes = attrs.get("qkv_hidden_sizes")
    return [(*x[:2], sizes[2] if sizes else w[1] // 3)]


def _multi_head(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    """As the query, but as wide as the values; (B, S, D) each, or values (B, heads, T, D)."""
    del attrs
    q, v = inputs[0], inputs[2] if len(inputs) > 2 else None
    if q is None or v is None or len(q) != 3:
        return [None]
    return [(*q[:2], v[2] if len(v) == 3 else v[1] * v[3])]


def _grouped_query(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    """As the query, which holds keys and values as well where these are not given."""
    q, heads, shared = inputs[0], attrs["num_heads"], attrs["kv_num_heads"]
    if q is None:
        return [None]
    return [q if inputs[1] is not None else (*q[:2], q[2] * heads // (heads + 2 * shared))]


def _skip_norm(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    """The normalised sum; mean and deviation; the sum."""
    del attrs
    reduced = None if inputs[0] is None else (*inputs[0][:-1], 1)
    return [inputs[0], reduced, reduced, inputs[0]]


def _embedding(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    del attrs
    ids, words = inputs[0], inputs[2]
    if ids is None or words is None:
        return [None]
    return [(*ids, words[1]), (ids[0],), (*ids, words[1])]


def _global_pool(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    x = inputs[0]
    if x is None:
        return [None]
    ones = (1,) * (len(x) - 2)
    return [(x[0], *ones, x[-1]) if attrs.get("channels_last", 0) else (*x[:2], *ones)]


def _quantised_lstm(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    """The sequence (time, directions, batch, hidden), and the last states."""
    x, w = inputs[:2]
    if x is None or w is None:
        return [None]
    state = (w[0], x[1], attrs["hidden_size"])
    return [(x[0], w[0], x[1], attrs["hidden_size"]), state, state]


def _concat(attrs: Attributes, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    """QLinearConcat: scale and zero point of the output, then (tensor, scale, zero point) for each input."""
    parts = [s for s in inputs[2::3] if s is not None]
    if len(parts) != len(inputs[2::3]):
        return [None]
    axis = attrs["axis"] % len(parts[0])
    return [(*parts[0][:axis], sum(p[axis] for p in parts), *parts[0][axis + 1 :])]


_SAME = (
    "GroupNormalization MeanVarianceNormalization SimplifiedLayerNormalization com.microsoft:BiasGelu"
    " com.microsoft:FastGelu com.microsoft:Gelu com.microsoft:QLinearLeakyRelu com.microsoft:QLinearSigmoid"
    " com.microsoft:QuickGelu com.microsoft:RotaryEmbedding"
)

SHAPES: Mapping[str, ShapeRule] = MappingProxyType(
    {
        **dict.fromkeys(_SAME.split(), ShapeRule(_same)),
        "GreaterOrEqual": _broadcast(0, 1),
        "LessOrEqual": _broadcast(0, 1),
        "com.microsoft:Attention": ShapeRule(_attention),
        "com.microsoft:DequantizeLinear": ShapeRule(_same, like=1),
        "com.microsoft:DynamicQuantizeLSTM": ShapeRule(_quantised_lstm),
        "com.microsoft:DynamicQuantizeMatMul": _product(0, 1, like=0),
        "com.microsoft:EmbedLayerNormalization": ShapeRule(_embedding, like=2),
        "com.microsoft:FusedMatMul": ShapeRule(_matmul),
        "com.microsoft:GroupQueryAttention": ShapeRule(_grouped_query),
        "com.microsoft:MatMulIntegerToFloat": _product(0, 1, like=2),
        "com.microsoft:MatMulNBits": ShapeRule(_matmul_bits),
        "com.microsoft:MultiHeadAttention": ShapeRule(_multi_head),
        "com.microsoft:QGemm": _product(0, 3, like=0),
        "com.microsoft:QLinearAdd": _broadcast(0, 3),
        "com.microsoft:QLinearConcat": ShapeRule(_concat, like=1),
        "com.microsoft:QLinearGlobalAveragePool": ShapeRule(_global_pool),
        "com.microsoft:QLinearMul": _broadcast(0, 3),
        "com.microsoft:QuantizeLinear": ShapeRule(_same, like=2),
        "com.microsoft:SkipLayerNormalization": ShapeRule(_skip_norm),
        "com.microsoft:SkipSimplifiedLayerNormalization": ShapeRule(_skip_norm),
    }
)
"""Operator -> shapes, where onnx knows none."""

BASES: Mapping[str, str] = MappingProxyType(
    {
        "com.microsoft:FusedConv": "Conv",
        "com.microsoft:FusedGemm": "Gemm",
        "com.microsoft:QLinearAveragePool": "AveragePool",
    }
)
"""Operators that are a standard one and more, with outputs of its shapes."""
