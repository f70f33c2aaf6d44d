"""What fused operators cost: attention, mixtures of experts, packed weights.

Widths are taken from shapes, not from attributes, so that the same functions also count a narrower node.
Attention counts every pair of positions, masked or not: for the scores, and for the values that they weigh.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..graph import Node, Shape
from .linear import conv_macs, conv_transpose_macs, gemm_macs, matmul_macs
from .op import MacsRule


def _has(node: Node, i: int) -> bool:
    return i < len(node.inputs) and bool(node.inputs[i])


# ---------------------------------------------------------------- attention


def standard_attention(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Q, K, V as (B, N, S, d), or (B, S, N * d); past keys (B, N, P, d) are the fifth input."""
    q, k = inputs[0], inputs[1]
    keys = k[-2] + (inputs[4][2] if _has(node, 4) else 0)
    if len(q) == 3:
        return q[0] * q[1] * keys * (q[2] + outputs[0][2])
    return q[0] * q[1] * q[2] * keys * (q[3] + inputs[2][3])


def multi_head(past: int) -> MacsRule:
    """Query (B, S, C); keys (B, T, C), (B, N, T, d), (B, T, N, 2, d), or with the query in (B, S, N, 3, d).

    `past`: the input that holds past keys (B, N, P, d).
    """

    def macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        q, value = inputs[0], outputs[0][-1]
        width = q[-1] * q[2] if len(q) == 5 else q[2]
        keys = q[1]
        if _has(node, 1):
            keys = inputs[1][2 if len(inputs[1]) == 4 else 1]
        keys += inputs[past][2] if _has(node, past) else 0
        return q[0] * q[1] * keys * (width + value)

    return macs


def grouped_query(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Query (B, S, N * d), or keys and values in it as well; past keys (B, N, P, d), with room for more."""
    q, width = inputs[0], outputs[0][2]
    keys = q[1] + (inputs[3][2] if _has(node, 3) else 0)
    return q[0] * q[1] * keys * 2 * width


def projected(past: int) -> MacsRule:
    """Input (B, S, C), weight (C, q + k + v); `past`: the input of past keys and values (2, B, N, P, d)."""

    def macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        (batch, steps, _), w, value = inputs[0], inputs[1], outputs[0][2]
        keys = steps + (inputs[past][3] if _has(node, past) else 0)
        width = (w[1] - value) // 2
        return batch * steps * (math.prod(w) + keys * (width + value))

    return macs


def packed_attention(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Input (tokens, C), weight (C, q + k + v); offsets (B, S): sequences may be as long as S."""
    del node
    tokens, w, value = inputs[0][0], inputs[1], outputs[0][1]
    return tokens * (math.prod(w) + inputs[3][1] * ((w[1] - value) // 2 + value))


def packed_multi_head(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Query (tokens, C), or all in (tokens, N, 3, d); offsets (B, S): sequences may be as long as S."""
    del node
    q = inputs[0]
    width = q[1] * q[3] if len(q) == 4 else q[1]
    return q[0] * inputs[4][1] * (width + outputs[0][1])


def decoder_attention(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Query (S, B, C) and key (T, B, C), each projected: weights (C, C) and (C, 2 C)."""
    del node, outputs
    (steps, batch, width), keys = inputs[0], inputs[1][0]
    projections = steps * math.prod(inputs[2]) + keys * math.prod(inputs[3])
    return batch * (projections + 2 * steps * keys * width)


def ordered_attention(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Input (B, S, C), a weight each for query, key and value; past (2, B, N, P, d)."""
    (batch, steps, _), value = inputs[0], outputs[0][2]
    keys = steps + (inputs[18][3] if _has(node, 18) else 0)
    weights = sum(math.prod(inputs[i]) for i in (5, 6, 7))
    return batch * steps * (weights + keys * (inputs[5][1] + value))


def linear_attention(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """A state (d, e) of each head is updated at each step and read by its queries; `delta` reads it twice."""
    (batch, steps, width), value = inputs[0], inputs[2]
    queries, heads = int(node.attrs["q_num_heads"]), int(node.attrs["kv_num_heads"])
    state = (width // queries) * (value[2] // heads)
    updates = 2 if "delta" in str(node.attrs.get("update_rule", "gated_delta")) else 1
    return batch * steps * state * (updates * heads + max(queries, heads))


def gated_bias(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Each head of the query (..., N * d) meets a matrix (d, D)."""
    del node, outputs
    return math.prod(inputs[0]) * inputs[3][1]


# ---------------------------------------------------------------- experts


def experts(*weights: int) -> MacsRule:
    """Every token goes to `k` experts, each with matrices (out, in) at these inputs, or packed along `in`."""

    def macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        del outputs
        tokens, width = math.prod(inputs[0][:-1]), inputs[0][-1]
        first, second = (inputs[i] for i in weights[:2])
        inner = first[1] // 2 if int(node.attrs.get("swiglu_fusion", 0)) else first[1]
        total = first[1] * width + second[1] * inner
        if _has(node, weights[2]):
            total += inputs[weights[2]][1] * width
        return tokens * int(node.attrs.get("k", 1)) * total

    return macs


# ---------------------------------------------------------------- matrices and kernels


def packed_matmul(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """A (..., K) with a weight that is packed in some way."""
    del node
    return math.prod(outputs[0]) * inputs[0][-1]


def packed_mlp(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Two products with the same (..., K)."""
    return 2 * packed_matmul(node, inputs, outputs)


def packed_projections(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Three products with the same (..., K): queries, keys and values."""
    del node
    return sum(math.prod(outputs[i]) for i in range(3)) * inputs[0][-1]


def low_rank_matmul(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """A (..., K) with a packed weight, and with two of rank R whose scales are (R, blocks)."""
    rows, rank = math.prod(inputs[0][:-1]), inputs[4][0]
    return packed_matmul(node, inputs, outputs) + rows * rank * (inputs[0][-1] + outputs[0][-1])


def causal_conv(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Depthwise: every output value takes one weight per tap."""
    del node
    return math.prod(outputs[0]) * math.prod(inputs[1][2:])


def quantised_conv(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """As Conv, with the weight as the fourth input."""
    del node
    return math.prod(outputs[0]) * math.prod(inputs[3][1:])


def distances(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Between all rows of (M, N) and (K, N)."""
    del node, outputs
    return math.prod(inputs[0]) * inputs[1][0]


def from_attribute(name: str) -> MacsRule:
    """All numbers of an attribute, for each row of the input."""

    def macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        del outputs
        rows = inputs[0][0] if len(inputs[0]) > 1 else 1
        return rows * len(node.attrs.get(name, ()))

    return macs


MACS: dict[str, MacsRule] = {
    "Attention": standard_attention,
    "CausalConvWithState": causal_conv,
    "DeformConv": conv_macs,
    "LinearAttention": linear_attention,
    "ai.onnx.ml:LinearClassifier": from_attribute("coefficients"),
    "ai.onnx.ml:LinearRegressor": from_attribute("coefficients"),
    "ai.onnx.ml:SVMClassifier": from_attribute("support_vectors"),
    "ai.onnx.ml:SVMRegressor": from_attribute("support_vectors"),
    "com.microsoft:Attention": projected(4),
    "com.microsoft:CDist": distances,
    "com.microsoft:ConvTransposeWithDynamicPads": conv_transpose_macs,
    "com.microsoft:DecoderAttention": decoder_attention,
    "com.microsoft:DecoderMaskedMultiHeadAttention": multi_head(5),
    "com.microsoft:DecoderMaskedSelfAttention": projected(4),
    "com.microsoft:FusedMatMulActivation": matmul_macs,
    "com.microsoft:GatedRelativePositionBias": gated_bias,
    "com.microsoft:GemmFastGelu": packed_matmul,
    "com.microsoft:GemmFloat8": gemm_macs,
    "com.microsoft:GroupQueryAttention": grouped_query,
    "com.microsoft:LinearAttention": linear_attention,
    "com.microsoft:MatMulBnb4": packed_matmul,
    "com.microsoft:MatMulFpQ4": packed_matmul,
    "com.microsoft:MatMulInteger16": packed_matmul,
    "com.microsoft:MatMulNBits": packed_matmul,
    "com.microsoft:MatMulNBitsMlp": packed_mlp,
    "com.microsoft:MatMulNBitsQLoRA": low_rank_matmul,
    "com.microsoft:MatMulNBitsQkv": packed_projections,
    "com.microsoft:MatMulPacked": packed_matmul,
    "com.microsoft:MoE": experts(2, 4, 6),
    "com.microsoft:MultiHeadAttention": multi_head(6),
    "com.microsoft:NhwcConv": conv_macs,
    "com.microsoft:NhwcFusedConv": conv_macs,
    "com.microsoft:PackedAttention": packed_attention,
    "com.microsoft:PackedMultiHeadAttention": packed_multi_head,
    "com.microsoft:QAttention": projected(8),
    "com.microsoft:QGemm": gemm_macs,
    "com.microsoft:QLinearConv": quantised_conv,
    "com.microsoft:QMoE": experts(2, 5, 8),
    "com.microsoft:QOrderedAttention": ordered_attention,
    "com.microsoft:QOrderedMatMul": packed_matmul,
    "com.microsoft:SparseToDenseMatMul": matmul_macs,
    "com.microsoft:TransposeMatMul": matmul_macs,
    "com.ms.internal.nhwc:Conv": conv_macs,
    "com.ms.internal.nhwc:ConvTranspose": conv_transpose_macs,
    "com.ms.internal.nhwc:QLinearConv": quantised_conv,
}
