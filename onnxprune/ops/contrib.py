"""Fused operators of ONNX Runtime's own domain (com.microsoft), and the attention of opset 23.

Attention over explicit heads: a head goes whole, in queries, keys, values and output. Its width stays, as
the scale that divides the products depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .label import Block, Label, block_on, single
from .linear import conv, conv_macs, gemm, gemm_macs, matmul, matmul_macs
from .op import Op, Rule
from .record import Letter

# ---------------------------------------------------------------- heads


Part = tuple[Block, int]
"""Heads, and how many entries of an axis each of them has."""


def _columns(parts: Sequence[Part], axis: int) -> Block:
    """Parts of one axis, one after the other; in each, every head has a run of so many entries."""
    old, new = (
        np.concatenate([np.repeat(ids, width) for ids, (_, width) in zip(side, parts, strict=True)])
        for side in ([b.old for b, _ in parts], [b.new for b, _ in parts])
    )
    return Block((axis,), old, new)


def _joined(op: Op, i: int, axis: int, *parts: Part) -> None:
    """Input `i` holds heads along an axis; what else there is to it must stay."""
    if not op.has(i):
        return
    shape = op.shape(i)
    heads = [block for block, _ in parts]
    entries = sum(block.old.size * width for block, width in parts)
    if shape is None or len(shape) <= axis:
        reason = f"the shape of input {i} of {op.node.op} is not known"
        op.freeze([*heads, *op.label(i)], reason, op.known_shapes)
        return
    label = op.mix(
        op.label(i), [a for a in range(len(shape)) if a not in (0, axis)], f"{op.node.op} mixes positions"
    )
    block = single(label, axis)
    op.freeze(
        [b for b in label if b is not block and b.axes != (0,)], f"{op.node.op} can't distinguish its heads"
    )
    if shape[axis] == 1 and entries > 1:
        return
    if block is None:
        name = op.node.inputs[i]
        op.freeze(heads, f"meets '{name}', which has no removable heads", op.walk.lacking(name))
    elif block.old.size != entries:
        op.freeze([*heads, block], f"{op.node.op} can't distinguish its heads")
    else:
        op.join(_columns(parts, axis), block)


def _numbers(op: Op, inputs: Sequence[int]) -> None:
    """Inputs that belong to no head: masks, positions, lengths, caches of angles."""
    for i in inputs:
        if op.has(i) and not op.is_constant(i):
            op.freeze(op.label(i), f"enters {op.node.op} as positions or masks")


def _heads(op: Op, count: int) -> Block:
    heads = op.walk.fresh(op.node, (count,), (0,))
    op.produce(heads)
    return heads


def _shared_heads(op: Op, count: int, shared: int) -> tuple[Block, Block]:
    """Heads of the query, and those of key and value, which equally many of them read."""
    grid = op.walk.fresh(op.node, (shared, count // shared), (0, 1))
    op.grid(grid.old)
    op.produce(grid)
    return grid.map([0], np.ravel), op.project(grid, [0])


def attention(op: Op) -> list[Label]:
    """Input (B, S, C), weight (C, q + k + v), bias, mask, past (2, B, N, T, d), score bias (B, N, S, T)."""
    x, w, count = op.shape(0), op.shape(1), int(op.attr("num_heads"))
    if x is None or w is None:
        return op.unknown(f"the shapes of the {op.node.op} are not known")
    sizes = list(op.attr("qkv_hidden_sizes") or [w[1] // 3] * 3)
    widths = [size // count for size in sizes]
    data = op.mix(op.label(0), [1], f"{op.node.op} mixes positions")
    operands: list[tuple[int, Sequence[Letter]]] = [(0, ["b", "s", "c"]), (1, ["c", "n"])]
    if op.has(2):
        operands.append((2, ["n"]))
    projected = op.combine(operands, ["b", "n"], {0: (x, data)})
    heads, block = _heads(op, count), single(projected, 1)
    if block is None:
        op.freeze([heads, *projected], f"{op.node.op} can't distinguish its heads")
    else:
        op.join(_columns([(heads, width) for width in widths], 1), block)
    _numbers(op, [3, 6])
    _joined(op, 4, 2, (heads, 1))
    _joined(op, 5, 1, (heads, 1))
    op.set_attr("num_heads", heads.new.size)
    if op.attr("qkv_hidden_sizes"):
        op.set_attr("qkv_hidden_sizes", [width * heads.new.size for width in widths])
    return _attended(op, (heads, widths[2]), heads, [2])


def _attended(op: Op, out: Part, cached: Block, present: Sequence[int]) -> list[Label]:
    """The output (B, S, heads * width), then caches that hold heads on the axes `present`."""
    labels: list[Label] = [(_columns([out], 2),), *((cached.moved([axis]),) for axis in present)]
    return [*labels, *[()] * len(op.node.outputs)][: len(op.node.outputs)]


def multi_head_attention(op: Op) -> list[Label]:
    """Query, key, value (B, S, N * d), bias (q + k + v), masks, bias of scores, past k and v (B, N, T, d)."""
    q, out, count = op.shape(0), op.out_shape(0), int(op.attr("num_heads"))
    shapes = [op.shape(i) if op.has(i) else None for i in (1, 2)]
    if q is not None and (len(q) != 3 or not (op.has(1) and op.has(2))):
        return op.barrier(
            f"the {op.node.op} has packed inputs", "query, key and value as inputs of their own"
        )
    if q is None or out is None or None in shapes:
        return op.unknown(f"the shapes of the {op.node.op} are not known")
    heads, width, value = _heads(op, count), q[2] // count, out[2] // count
    _joined(op, 0, 2, (heads, width))
    for i, each in ((1, width), (2, value)):
        cached = len(op.shape(i) or ()) == 4
        _joined(op, i, *((1, (heads, 1)) if cached else (2, (heads, each))))
    _joined(op, 3, 0, (heads, width), (heads, width), (heads, value))
    _numbers(op, [4, 8, 9])
    for i in (5, 6, 7):
        _joined(op, i, 1, (heads, 1))
    op.set_attr("num_heads", heads.new.size)
    return _attended(op, (heads, value), heads, [1, 1])


def grouped_query_attention(op: Op) -> list[Label]:
    """As MultiHeadAttention, where equally many heads of the query read each one of key and value."""
    q, count, shared = op.shape(0), int(op.attr("num_heads")), int(op.attr("kv_num_heads"))
    packed = not op.has(1)
    if q is None or len(q) != 3:
        return op.unknown(f"the shapes of the {op.node.op} are not known")
    width = q[2] // (count + 2 * shared if packed else count)
    heads, read = _shared_heads(op, count, shared)
    _joined(op, 0, 2, (heads, width), *([(read, width)] * 2 if packed else []))
    for i in (1, 2):
        _joined(op, i, 2, (read, width))
    for i in (3, 4):
        _joined(op, i, 1, (read, 1))
    _joined(op, 10, 1, (heads, 1))
    _joined(op, 11, 0, (heads, 1))
    _numbers(op, [i for i in range(5, len(op.node.inputs)) if i not in (10, 11)])
    op.set_attr("num_heads", heads.new.size)
    op.set_attr("kv_num_heads", read.new.size)
    return _attended(op, (heads, width), read, [1, 1])


def standard_attention(op: Op) -> list[Label]:
    """Q, K, V as (B, N, S, d), or (B, S, N * d) with counts as attributes; mask, past key and value."""
    shapes = [op.shape(i) for i in range(3)]
    if any(s is None or len(s) not in (3, 4) for s in shapes) or len({len(s or ()) for s in shapes}) > 1:
        return op.unknown("the shapes of the Attention are not known")
    q, k, v = (s or () for s in shapes)
    flat = len(q) == 3
    count, shared = (op.attr("q_num_heads"), op.attr("kv_num_heads")) if flat else (q[1], k[1])
    axis = 2 if flat else 1
    heads, read = _shared_heads(op, count, shared)
    widths = [q[2] // count, k[2] // shared, v[2] // shared] if flat else [1, 1, 1]
    for i, (block, width) in enumerate(zip((heads, read, read), widths, strict=True)):
        _joined(op, i, axis, (block, width))
    mask = op.shape(3) if op.has(3) else ()
    if mask is None:
        op.freeze([heads, *op.label(3)], "the shape of the mask is not known", op.known_shapes)
    elif len(mask) == 4:
        _joined(op, 3, 1, (heads, 1))
    elif len(mask) == 3 and mask[0] > 1:
        _joined(op, 3, 0, (heads, 1))
    else:
        _numbers(op, [3])
    for i in (4, 5):
        _joined(op, i, 1, (read, 1))
    _numbers(op, [6])
    if flat:
        op.set_attr("q_num_heads", heads.new.size)
        op.set_attr("kv_num_heads", read.new.size)
    labels: list[Label] = [(_columns([(heads, widths[2])], axis),), *[(read.moved([1]),)] * 2]
    return [*labels, (heads.moved([1]),)][: len(op.node.outputs)]


def rotary(op: Op) -> list[Label]:
    """Rotates pairs of entries within each head: (B, N, S, d), or (B, S, N * d)."""
    shape = op.shape(0)
    standard = ":" not in op.node.op
    angles = op.shape(1 if standard else 2)
    if shape is None or angles is None:
        return op.unknown("the shapes of the RotaryEmbedding are not known")
    _numbers(op, range(1, len(op.node.inputs)))
    positions = f"{op.node.op} mixes positions"
    if len(shape) == 4:
        return [op.keep_shape(op.label(0), [2, 3], positions)]
    count = op.attr("num_heads", 0) or shape[2] // (2 * angles[-1])
    block = single(op.label(0), 2)
    if block is None:
        op.freeze(op.label(0), f"{op.node.op} can't distinguish its heads")
        return [()]
    heads = op.walk.fresh(op.node, (count,), (0,))
    op.join(_columns([(heads, shape[2] // count)], 2), block)
    if op.attr("num_heads", 0):
        op.set_attr("num_heads", heads.new.size)
    return [op.keep_shape(op.label(0), [1], positions)]


# ---------------------------------------------------------------- normalisation


def skip_norm(op: Op) -> list[Label]:
    """The sum of input, skip (and a bias) is normalised; the fourth output is the sum itself."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    last = len(shape) - 1
    letters: list[Letter] = list(range(len(shape)))
    inputs = [i for i in range(len(op.node.inputs)) if op.has(i)]
    if any(op.shape(i) is None for i in inputs):
        return op.unknown(f"the shapes that {op.node.op} reads are not known")
    total = op.combine([(i, letters[len(shape) - len(op.shape(i) or ()) :]) for i in inputs], letters)
    op.normalise(total, [last], f"{op.node.op} normalises over its channels")
    return [total, (), (), total][: len(op.node.outputs)]


def embedding_norm(op: Op) -> list[Label]:
    """Rows of three tables are summed and normalised."""
    tables = [i for i in (2, 3, 4) if op.has(i)]
    operands: list[tuple[int, Sequence[Letter]]] = [(i, [f"row{i}", "c"]) for i in tables]
    out = op.combine([*operands, *((i, ["c"]) for i in (5, 6))], ["b", "t", "c"])
    op.freeze([b for i in tables for b in op.label(i) if b.axes == (0,)], "is looked up by computed indices")
    block = block_on(out, 2)
    if block is not None:
        op.produce(block)
    op.normalise(out, [2], f"{op.node.op} normalises over its channels")
    return [out, (), out][: len(op.node.outputs)]


# ---------------------------------------------------------------- fused layers


def fused_conv(op: Op) -> list[Label]:
    """Conv, a tensor added to it, and an activation."""
    (label,), shape = conv(op), op.out_shape(0)
    if not op.has(3) or shape is None:
        return [label]
    letters: list[Letter] = list(range(len(shape)))
    return [op.combine([(0, letters), (3, letters)], letters, {0: (shape, label)})]


def fused_matmul(op: Op) -> list[Label]:
    """MatMul of transposed matrices, times a number."""
    if op.attr("transBatchA", 0) or op.attr("transBatchB", 0):
        return op.barrier("its batch axes are transposed")
    return matmul(op)


RULES: dict[str, Rule] = {
    "Attention": standard_attention,
    "RotaryEmbedding": rotary,
    "com.microsoft:Attention": attention,
    "com.microsoft:EmbedLayerNormalization": embedding_norm,
    "com.microsoft:FusedConv": fused_conv,
    "com.microsoft:FusedGemm": gemm,
    "com.microsoft:FusedMatMul": fused_matmul,
    "com.microsoft:GroupQueryAttention": grouped_query_attention,
    "com.microsoft:MultiHeadAttention": multi_head_attention,
    "com.microsoft:RotaryEmbedding": rotary,
    "com.microsoft:SkipLayerNormalization": skip_norm,
    "com.microsoft:SkipSimplifiedLayerNormalization": skip_norm,
}
MACS = {
    "com.microsoft:FusedConv": conv_macs,
    "com.microsoft:FusedGemm": gemm_macs,
    "com.microsoft:FusedMatMul": matmul_macs,
}
