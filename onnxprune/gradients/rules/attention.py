"""Attention, computed again where its cotangents need the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..tape import BOOL, Tensor
from ..vjp import Cotangent, Rule, Undifferentiable, Vjp
from .linear import swapped


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values by head: (samples, heads, positions, width)."""

    q: Tensor
    k: Tensor
    v: Tensor


@dataclass(frozen=True)
class Slopes:
    """Cotangents of queries, keys and values by head, and of what is added to the scores."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor


def attention(v: Vjp) -> Sequence[Cotangent]:
    """Attention of opset 23: (batch, heads, positions, width), or (batch, positions, heads x width).

    Queries may have more heads than keys and values.

    Raises:
        Undifferentiable: there is a cache, or scores are put out.
    """
    if any(v.has(i) for i in range(4, len(v.node.inputs))) or any(v.gives(i) for i in range(1, 4)):
        raise Undifferentiable("Attention with a cache, padding or scores put out")
    flat = v.rank(0) == 3
    shapes = [v.shape(i) for i in range(3)]
    counts = [v.attr("q_num_heads"), v.attr("kv_num_heads"), v.attr("kv_num_heads")]
    if not flat:
        counts = [s[1] for s in shapes]
    repeats = counts[0] // counts[1]
    tensors = [_by_head(v.x(i), counts[i], flat) for i in range(3)]
    heads = Heads(tensors[0], _repeat(tensors[1], repeats), _repeat(tensors[2], repeats))
    dy = _by_head(v.dy, counts[0], flat)
    width = shapes[0][-1] // (counts[0] if flat else 1)
    scale = v.attr("scale") or 1 / math.sqrt(width)
    found = _slopes(heads, dy, scale, _mask(v), float(v.attr("softcap", 0.0) or 0.0))
    back = [found.q, _shared(found.k, counts[1], repeats), _shared(found.v, counts[1], repeats)]
    result: list[Cotangent] = [_from_head(x, flat) for x in back]
    if v.wants(3):
        lengths = (v.lengths(0)[0], counts[0], v.lengths(0)[-2], v.lengths(1)[-2])
        result.append(v.collapsed(found.bias, 3, lengths))
    return result


def _mask(v: Vjp) -> Tensor | None:
    """What is added to the scores."""
    mask = None
    if v.has(3):
        mask = v.x(3)
        if mask.dtype == BOOL:
            mask = (1.0 - mask.cast(v.dtype)) * float(np.finfo(np.float32).min)
    if v.attr("is_causal", 0):
        rows, columns = v.lengths(0)[-2], v.lengths(1)[-2]
        if rows is None or columns is None:
            raise Undifferentiable("causal Attention over positions that are not fixed")
        later = np.triu(np.full((rows, columns), np.finfo(np.float32).min), 1)
        causal = v.tape.constant(later, v.dtype)
        mask = causal if mask is None else mask + causal
    return mask


def _slopes(heads: Heads, dy: Tensor, scale: float, mask: Tensor | None, cap: float) -> Slopes:
    scores = heads.q.matmul(swapped(heads.k, 4)) * scale
    bent = None
    if cap:
        bent = (scores / cap).map("Tanh")
        scores = bent * cap
    scores = scores if mask is None else scores + mask
    p = scores.map("Softmax", axis=-1)
    share = dy.matmul(swapped(heads.v, 4)) * p
    bias = share - p * share.sum([3], keep=True)
    inner = bias if bent is None else bias * (1.0 - bent * bent)
    inner = inner * scale
    return Slopes(
        inner.matmul(heads.k),
        swapped(inner, 4).matmul(heads.q),
        swapped(p, 4).matmul(dy),
        bias,
    )


def _by_head(x: Tensor, count: int, flat: bool) -> Tensor:
    return x.reshape([0, 0, count, -1]).transpose(0, 2, 1, 3) if flat else x


def _from_head(x: Tensor, flat: bool) -> Tensor:
    return x.transpose(0, 2, 1, 3).reshape([0, 0, -1]) if flat else x


def _repeat(x: Tensor, times: int) -> Tensor:
    """Each head as often as queries share it."""
    if times == 1:
        return x
    shape = x.shape()
    ints = x.tape.ints
    wide = x.tape.concat([shape.slice([0], [2], [0]), ints([times]), shape.slice([2], [4], [0])], 0)
    whole = x.tape.concat([shape.slice([0], [1], [0]), ints([-1]), shape.slice([2], [4], [0])], 0)
    return x.unsqueeze(2).expand(wide).reshape(whole)


def _shared(x: Tensor, count: int, times: int) -> Tensor:
    """The sum over the queries that share a head."""
    if times == 1:
        return x
    shape = x.shape()
    grouped = x.tape.concat(
        [shape.slice([0], [1], [0]), x.tape.ints([count, times]), shape.slice([2], [4], [0])], 0
    )
    return x.reshape(grouped).sum([2])


def multi_head(v: Vjp) -> Sequence[Cotangent]:
    """MultiHeadAttention of com.microsoft: queries, keys and values (batch, positions, heads x width).

    Raises:
        Undifferentiable: there are masks, caches, or packed inputs.
    """
    packed = any(v.rank(i) != 3 for i in range(3) if v.has(i)) or not (v.has(1) and v.has(2))
    if packed or any(v.has(i) for i in (4, 6, 7, 8, 9)) or any(v.gives(i) for i in (1, 2, 3)):
        raise Undifferentiable("MultiHeadAttention with a mask, a cache or packed inputs")
    if v.attr("unidirectional", 0):
        raise Undifferentiable("MultiHeadAttention that looks back only")
    count, width = v.attr("num_heads"), v.shape(0)[2]
    tensors = [v.x(i) for i in range(3)]
    if v.has(3):
        sizes = [v.shape(i)[2] for i in range(3)]
        biases = v.x(3).split(sizes, 0, 3)
        tensors = [x + bias for x, bias in zip(tensors, biases, strict=True)]
    heads = Heads(*(_by_head(x, count, True) for x in tensors))
    scale = v.attr("scale") or 1 / math.sqrt(width // count)
    found = _slopes(heads, _by_head(v.dy, count, True), scale, v.x(5) if v.has(5) else None, 0.0)
    back = [_from_head(x, True) for x in (found.q, found.k, found.v)]
    bias = v.tape.concat([x.sum([0, 1]) for x in back], 0) if v.wants(3) else None
    added = None
    if v.wants(5):
        added = v.collapsed(found.bias, 5, (v.lengths(0)[0], count, v.lengths(0)[1], v.lengths(1)[1]))
    return [*back, bias, None, added]


def rotary(v: Vjp) -> Sequence[Cotangent]:
    """RotaryEmbedding turns pairs of features: turned back by the opposite sine."""
    contrib = v.node.op.startswith("com.microsoft:")
    cos, sin = (2, 3) if contrib else (1, 2)
    if v.wants(cos) or v.wants(sin):
        raise Undifferentiable("the angles of RotaryEmbedding are no weights")
    inputs = [v.x(i) if v.has(i) else None for i in range(len(v.node.inputs))]
    inputs[0] = v.dy
    sine = inputs[sin]
    inputs[sin] = None if sine is None else -sine
    return [v.tape.emit(v.node.op, *inputs, attrs=v.node.attrs)]


RULES: dict[str, Rule] = {
    "Attention": attention,
    "RotaryEmbedding": rotary,
    "com.microsoft:MultiHeadAttention": multi_head,
    "com.microsoft:RotaryEmbedding": rotary,
}
