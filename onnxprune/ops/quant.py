"""Quantised operators: scales and zero points of single channels go with them.

What is dropped of a quantised tensor reads as its zero point, not as 0. A scale that is computed from the
whole tensor is a barrier: without some channels the others would be rounded differently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..graph import Node, Shape
from .elementwise import passing
from .index import concatenated
from .label import Block, Label, block_on, locate, single
from .linear import convolution
from .op import Op, Rule
from .record import CONSTANT, Inconsistent, Letter
from .recurrent import recurrent_macs
from .spatial import pool

_CHANNEL = "one scale for each channel"
_TENSOR = "one scale and zero point for the tensor"

# ---------------------------------------------------------------- to and fro


def quantize(op: Op) -> list[Label]:
    """QuantizeLinear and DequantizeLinear: one scale, one for each index of an axis, or for each block."""
    shape, scale = op.shape(0), op.shape(1)
    if shape is None or scale is None:
        return op.unknown(f"the shapes that {op.node.op} reads are not known")
    letters: list[Letter] = list(range(len(shape)))
    if math.prod(scale) == 1:
        return [op.combine([(0, letters)], letters)]
    axis = op.attr("axis", 1) % len(shape)
    if len(scale) == 1:
        vectors = [(i, [axis]) for i in (1, 2) if op.has(i)]
        return [op.combine([(0, letters), *vectors], letters)]
    whole = [b for i in (0, 1, 2) if op.has(i) for b in op.label(i) if axis in b.axes]
    op.freeze(whole, f"{op.node.op} has a scale for each block of this axis", _CHANNEL)
    blocks: list[Letter] = [x if x != axis else "block" for x in letters]
    return [op.combine([(0, letters), *((i, blocks) for i in (1, 2) if op.has(i))], letters)]


def dynamic(op: Op) -> list[Label]:
    """DynamicQuantizeLinear finds one scale for a range that always holds 0: what is gone reads as that."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    for block in op.label(0):
        op.mask(0, shape, block.axes, block.old)
    return [op.label(0), (), ()]


# ---------------------------------------------------------------- layers


def _zero(op: Op, i: int) -> str:
    return op.node.inputs[i] if op.has(i) else ""


def _is_single(op: Op, i: int) -> bool:
    shape = op.shape(i) if op.has(i) else ()
    return shape is not None and math.prod(shape) == 1


def qlinear_conv(op: Op) -> list[Label]:
    """x, its scale and zero point; weight, scales, zero points; scale and zero point of the result; bias."""
    return convolution(op, kernels=3, vectors=(4, 5, 8), zeros={0: _zero(op, 2)})


def _weight_zero(op: Op, i: int) -> dict[int, str]:
    """Where a constant weight, the second input, reads as 0."""
    known = op.is_constant(1) and (not op.has(i) or op.is_constant(i))
    return {1: _zero(op, i)} if known else {}


def conv_integer(op: Op) -> list[Label]:
    """x, weight and their zero points."""
    return convolution(op, vectors=(3,), zeros={0: _zero(op, 2), **_weight_zero(op, 3)})


def _product(
    op: Op, a: int, b: int, zero: int | None, vectors: Sequence[int], also: Mapping[int, str] | None = None
) -> list[Label]:
    """A (..., M, K) with B (..., K, N); `vectors` hold a value for each of N, or one.

    `also`: where B may be masked, with its zero point.
    """
    left, right = op.shape(a), op.shape(b)
    if left is None or right is None or min(len(left), len(right)) < 2:
        return op.unknown(f"the shapes of the {op.node.op} are not known")
    if zero is not None and not _is_single(op, zero):
        return op.barrier(f"{op.node.op} has a zero point for each row", _TENSOR)
    batch = max(len(left), len(right)) - 2
    own: list[Letter] = ["k", "m"] if op.attr("transA", 0) else ["m", "k"]
    other: list[Letter] = ["n", "k"] if op.attr("transB", 0) else ["k", "n"]
    operands: list[tuple[int, Sequence[Letter]]] = [
        (a, [*range(batch - len(left) + 2, batch), *own]),
        (b, [*range(batch - len(right) + 2, batch), *other]),
    ]
    for i in vectors:
        if not _is_single(op, i):
            if len(op.shape(i) or ()) > 1:
                return op.barrier(f"{op.node.op} has scales of several axes", _CHANNEL)
            operands.append((i, ["n"]))
    zeros = {a: "" if zero is None else _zero(op, zero), **(also or {})}
    out = op.combine(operands, [*range(batch), "m", "n"], zeros=zeros)
    made = block_on(out, batch + 1)
    if made is not None and op.is_weight(b):
        op.produce(made)
    return [out]


def qlinear_matmul(op: Op) -> list[Label]:
    """a, its scale and zero point; b, scales, zero points; scale and zero point of the result."""
    if not _is_single(op, 1):
        return op.barrier("QLinearMatMul has a scale for each row", _TENSOR)
    return _product(op, 0, 3, 2, (4, 5))


def matmul_integer(op: Op) -> list[Label]:
    """A, B and their zero points."""
    return _product(op, 0, 1, 2, (3,), _weight_zero(op, 3))


# ---------------------------------------------------------------- com.microsoft


def dynamic_lstm(op: Op) -> list[Label]:
    """X (seq, batch, I); W (D, I, 4 H): what is read can shrink.

    What it makes can't: states are quantised on the way, so those that stay would be rounded differently.
    """
    x, w = op.shape(0), op.shape(1)
    if x is None or w is None:
        return op.unknown("the shapes of the DynamicQuantizeLSTM are not known")
    if not op.is_constant(1):
        return op.barrier("the weights of the DynamicQuantizeLSTM are not constants", CONSTANT)
    steps = op.mix(op.label(0), [0, 1], "DynamicQuantizeLSTM runs along time")
    weight = op.mix(op.label(1), [0, 2], "DynamicQuantizeLSTM quantises its states on the way")
    for i in (4, 5, 6):
        if op.has(i):
            op.freeze(op.label(i), "are states of the DynamicQuantizeLSTM")
    views = {0: (x, steps), 1: (w, weight)}
    op.combine([(0, ["t", "b", "i"]), (1, ["d", "i", "g"])], ["t", "d", "b"], views, {0: ""})
    return [()] * len(op.node.outputs)


def qgemm(op: Op) -> list[Label]:
    """A, its scale and zero point; B, scales, zero points; C; scale and zero point of the result."""
    if not _is_single(op, 1):
        return op.barrier("QGemm has a scale for each row", _TENSOR)
    return _product(op, 0, 3, 2, (4, 5, 6))


def dynamic_matmul(op: Op) -> list[Label]:
    """A as floats, quantised here as DynamicQuantizeLinear does; B, scales, zero points; bias."""
    return _product(op, 0, 1, None, (2, 3, 4))


def matmul_to_float(op: Op) -> list[Label]:
    """A, B, their scales, their zero points; bias."""
    if not _is_single(op, 2):
        return op.barrier("MatMulIntegerToFloat has a scale for each row", _TENSOR)
    return _product(op, 0, 1, 4, (3, 5, 6))


def _runs(op: Op, block: Block, size: int) -> Block:
    """Runs of `size` entries along an axis go together; the last one may be shorter. One id for each run."""
    old, length = block.old[::size], block.old.size
    op.walk.record.edges.append((np.repeat(old, size)[:length], block.old))
    if op.walk.selection is None:
        return Block(block.axes, old, old)
    places = locate(block.old, block.new)
    starts = places[::size]
    whole = (starts[:, None] + np.arange(size)).ravel()
    if (starts % size).any() or not np.array_equal(whole[whole < length], places):
        raise Inconsistent(op.node, "its blocks would be cut", block.old)
    return Block(block.axes, old, block.new[::size])


def _blocks(op: Op, shape: Shape, count: int) -> tuple[Label, Block | None]:
    """What MatMulNBits reads, with one id for each block of its last axis, and that axis by itself."""
    last, label = len(shape) - 1, op.label(0)
    block = single(label, last)
    if block is None:
        op.freeze([b for b in label if last in b.axes], "is read in blocks together with another axis")
        return tuple(b for b in label if last not in b.axes), None
    op.mask(0, shape, block.axes, block.old)
    runs = _runs(op, block, int(op.attr("block_size")))
    if runs.old.size != count:
        op.freeze([runs], "MatMulNBits has other blocks than its weight")
        return tuple(b for b in label if last not in b.axes), None
    op.set_attr("K", block.new.size)
    return (*(b for b in label if b is not block), runs), runs


def matmul_bits(op: Op) -> list[Label]:
    """MatMulNBits: B (N, blocks, bytes); scales and zero points for each row and block; bias (N).

    A block of the input has a scale of its own, so it goes whole. Zero points of less than eight bits are
    packed: the blocks whose zero points are in one byte go together.
    """
    shape, weight = op.shape(0), op.shape(1)
    if shape is None or weight is None or not all(op.is_constant(i) for i in (1, 2, 3) if op.has(i)):
        return op.barrier("the weights of the MatMulNBits are not constants", CONSTANT)
    rows, last = weight[0], len(shape) - 1
    if op.has(4):
        return op.barrier("MatMulNBits takes its columns in another order", "weights without g_idx")
    data, runs = _blocks(op, shape, weight[1])
    letters: list[Letter] = [*range(last), "blocks"]
    operands: list[tuple[int, Sequence[Letter]]] = [(0, letters), (1, ["n", "blocks", "bytes"])]
    views: dict[int, tuple[Shape, Label]] = {0: ((*shape[:-1], weight[1]), data)}
    views[1] = (weight, op.walk.declare(op.node, op.node.inputs[1], 1, weight, [(0,), (1,)]))
    for i in (2, 3):
        if not op.has(i):
            continue
        view = (rows, math.prod(op.shape(i) or ()) // rows)
        own = op.walk.declare(op.node, op.node.inputs[i], i, view, [(0,), (1,)])
        packed = single(own, 1) if view[1] != weight[1] else None
        views[i] = (view, tuple(b for b in own if b is not packed))
        operands.append((i, ["n", "bytes3" if packed else "blocks"]))
        if packed is not None and runs is not None:
            op.join(_runs(op, runs, 8 // int(op.attr("bits"))).map([1], np.copy), packed)
        elif packed is not None:
            op.keep(packed.old, "holds zero points of blocks")
    if op.has(5):
        operands.append((5, ["n"]))
    out = op.combine(operands, [*range(last), "n"], views, zeros={})
    made = block_on(out, last)
    if made is not None:
        op.produce(made)
        op.set_attr("N", made.new.size)
    return [out]


def qlinear_binary(op: Op) -> list[Label]:
    """Two tensors, a scale and a zero point behind each, and those of the result."""
    shapes = [op.shape(i) for i in (0, 3)]
    if any(s is None for s in shapes):
        return op.unknown(f"the shapes that {op.node.op} reads are not known")
    rank = max(len(s or ()) for s in shapes)
    operands = [(i, range(rank - len(s or ()), rank)) for i, s in zip((0, 3), shapes, strict=True)]
    return [op.combine(operands, range(rank))]


def qlinear_concat(op: Op) -> list[Label]:
    """Scale and zero point of the result; then each tensor with its own."""
    return concatenated(op, range(2, len(op.node.inputs), 3))


def qlinear_pool(op: Op) -> list[Label]:
    """Pooling, where channels are on axis 1."""
    if op.attr("channels_last", 0):
        return op.barrier("its channels come last", "channels on axis 1")
    return pool(op)


# ---------------------------------------------------------------- cost


def _macs(
    weight: int, contracted: Callable[[Shape], int]
) -> Callable[[Node, Sequence[Shape], Sequence[Shape]], int]:
    """Every output value takes as many products as the weight has values for one output channel."""

    def macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        del node
        return math.prod(outputs[0]) * contracted(inputs[weight])

    return macs


def _of_conv(weight: Shape) -> int:
    return math.prod(weight[1:])


def _of_matmul(weight: Shape) -> int:
    return weight[-2]


RULES: dict[str, Rule] = {
    "ConvInteger": conv_integer,
    "DequantizeLinear": quantize,
    "DynamicQuantizeLinear": dynamic,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize,
    "com.microsoft:DequantizeLinear": quantize,
    "com.microsoft:DynamicQuantizeLSTM": dynamic_lstm,
    "com.microsoft:DynamicQuantizeMatMul": dynamic_matmul,
    "com.microsoft:MatMulIntegerToFloat": matmul_to_float,
    "com.microsoft:MatMulNBits": matmul_bits,
    "com.microsoft:QGemm": qgemm,
    "com.microsoft:QLinearAdd": qlinear_binary,
    "com.microsoft:QLinearAveragePool": qlinear_pool,
    "com.microsoft:QLinearConcat": qlinear_concat,
    "com.microsoft:QLinearGlobalAveragePool": qlinear_pool,
    "com.microsoft:QLinearLeakyRelu": passing,
    "com.microsoft:QLinearMul": qlinear_binary,
    "com.microsoft:QLinearSigmoid": passing,
    "com.microsoft:QuantizeLinear": quantize,
}
MACS = {
    "ConvInteger": _macs(1, _of_conv),
    "MatMulInteger": _macs(1, _of_matmul),
    "com.microsoft:DynamicQuantizeLSTM": recurrent_macs,
    "com.microsoft:DynamicQuantizeMatMul": _macs(1, _of_matmul),
    "com.microsoft:MatMulIntegerToFloat": _macs(1, _of_matmul),
    "QLinearConv": _macs(3, _of_conv),
    "QLinearMatMul": _macs(3, _of_matmul),
}
