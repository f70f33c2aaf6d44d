"""Operators that sum over channels: Conv, ConvTranspose, Gemm, MatMul, Einsum.

The channels that are summed over are dropped here; the others are new ones that the weight makes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..graph import Node, Shape
from .index import keep_in_step
from .label import Block, Label, block_on, single
from .op import Op, Rule
from .record import Letter


def _produce(op: Op, label: Label, axis: int) -> None:
    block = block_on(label, axis)
    if block is not None:
        op.produce(block)


def split_axis(op: Op, label: Label, axis: int, groups: int) -> tuple[Block, ...]:
    """The block on one axis as a grid (groups, channels of one group) on axes 0 and 1, if there is one."""
    block = single(label, axis)
    if block is None:
        op.freeze([b for b in label if axis in b.axes], "is split into groups together with another axis")
        return ()
    old = block.old.reshape(groups, -1)
    op.grid(old)
    keep_in_step(op, block, [old.shape[1]] * groups)
    return (Block((0, 1), old, op.walk.close_up_as(op.node, old, block.new)),)


def convolution(
    op: Op,
    *,
    transposed: bool = False,
    kernels: int = 1,
    vectors: Sequence[int] = (2,),
    zeros: Mapping[int, str] | None = None,
) -> list[Label]:
    """A convolution of input 0.

    Args:
        op: the node.
        transposed: its weight is (C, O/group, ...) rather than (O, C/group, ...).
        kernels: the input that holds the weight.
        vectors: inputs with a value for each output channel.
        zeros: see `Op.combine`.
    """
    x, w = op.shape(0), op.shape(kernels)
    if x is None or w is None:
        return op.unknown("the shapes of the convolution are not known")
    spatial = range(2, len(x))
    reason = f"{op.node.op} mixes spatial positions"
    data = op.mix(op.label(0), spatial, reason)
    groups = op.attr("group", 1)
    vectors = [i for i in vectors if op.has(i) and math.prod(op.shape(i) or ()) > 1]
    letters: list[Letter] = ["b", "c", *(f"s{a}" for a in spatial)]
    taps: list[Letter] = [f"k{a}" for a in range(2, len(w))]
    order: list[Letter] = ["c", "o"] if transposed else ["o", "c"]
    if groups == 1:
        weight = op.mix(op.label(kernels), range(2, len(w)), reason)
        operands: list[tuple[int, Sequence[Letter]]] = [(0, letters), (kernels, [*order, *taps])]
        operands += [(i, ["o"]) for i in vectors]
        out = op.combine(operands, ["b", "o"], {0: (x, data), kernels: (w, weight)}, zeros)
        _produce(op, out, 1)
        return [out]
    operands = [
        (0, ["b", "g", *letters[1:]]),
        (kernels, ["g", *order, *taps]),
        *((i, ["g", "o"]) for i in vectors),
    ]
    views = _grouped(op, x, w, data, groups, kernels)
    for i in vectors:
        outputs = math.prod(op.shape(i) or ())
        views[i] = ((groups, outputs // groups), split_axis(op, op.label(i), 0, groups))
    out = op.combine(operands, ["b", "g", "o"], views, zeros)
    block = block_on(out, 1)
    if block is None or block.axes != (1, 2):
        op.freeze(out, "its groups can't be distinguished")
        return [()]
    op.set_attr("group", block.new.shape[0])
    merged = block.map([1], lambda a: a.reshape(-1))
    op.produce(merged)
    return [(*(b for b in out if 0 in b.axes), merged)]


def _grouped(
    op: Op, x: Shape, w: Shape, data: Label, groups: int, kernels: int
) -> dict[int, tuple[Shape, Label]]:
    """Views of data and weight by groups: each reads its own input channels and makes its own outputs."""
    inside = w[0] // groups
    view = (groups, inside, *w[1:])
    grid = split_axis(op, data, 1, groups)
    grid = tuple(b.moved([1, 2]) for b in grid)
    rest = tuple(b.moved([a + (a > 1) for a in b.axes]) for b in data if 1 not in b.axes)
    if op.is_constant(kernels):
        weight = op.walk.declare(op.node, op.node.inputs[kernels], kernels, view, [(0, 1), (0, 2)])
        for block in weight:
            op.grid(block.old)
    else:
        own = op.mix(op.label(kernels), range(2, len(w)), f"{op.node.op} mixes spatial positions")
        weight = (*split_axis(op, own, 0, groups), *(b.moved([2]) for b in own if b.axes == (1,)))
    return {0: ((x[0], groups, x[1] // groups, *x[2:]), (*grid, *rest)), kernels: (view, weight)}


def conv(op: Op) -> list[Label]:
    """X (N, C, ...) with W (O, C/group, ...)."""
    return convolution(op)


def conv_transpose(op: Op) -> list[Label]:
    """X (N, C, ...) with W (C, O/group, ...)."""
    return convolution(op, transposed=True)


def gemm(op: Op) -> list[Label]:
    """A (M, K) or (K, M) with B (K, N) or (N, K); C is broadcast to (M, N)."""
    a = ["k", "m"] if op.attr("transA", 0) else ["m", "k"]
    b = ["n", "k"] if op.attr("transB", 0) else ["k", "n"]
    operands: list[tuple[int, Sequence[Letter]]] = [(0, a), (1, b)]
    if op.has(2):
        rank = len(op.shape(2) or ())
        operands.append((2, ["m", "n"][2 - rank :]))
    out = op.combine(operands, ["m", "n"])
    if op.is_weight(1):
        _produce(op, out, 1)
    if op.is_weight(0):
        _produce(op, out, 0)
    return [out]


def matmul(op: Op) -> list[Label]:
    """A (..., M, K) with B (..., K, N); leading axes are broadcast."""
    a, b = op.shape(0), op.shape(1)
    if a is None or b is None or not a or not b:
        return op.unknown("the shapes of the MatMul are not known")
    batch = max(len(a), len(b)) - 2
    ta, tb = bool(op.attr("transA", 0)), bool(op.attr("transB", 0))
    left: list[Letter] = (
        ["k"] if len(a) == 1 else [*range(batch - len(a) + 2, batch), *(["k", "m"] if ta else ["m", "k"])]
    )
    right: list[Letter] = (
        ["k"] if len(b) == 1 else [*range(batch - len(b) + 2, batch), *(["n", "k"] if tb else ["k", "n"])]
    )
    out: list[Letter] = [*range(batch), *(["m"] if len(a) > 1 else []), *(["n"] if len(b) > 1 else [])]
    label = op.combine([(0, left), (1, right)], out)
    if op.is_weight(1) and len(b) > 1:
        _produce(op, label, len(out) - 1)
    if op.is_weight(0) and len(a) > 1:
        _produce(op, label, out.index("m"))
    return [label]


def einsum(op: Op) -> list[Label]:
    """Any contraction by its equation."""
    shapes = [shape for i in range(len(op.node.inputs)) if (shape := op.shape(i)) is not None]
    if len(shapes) < len(op.node.inputs):
        return op.unknown("the shapes of the Einsum are not known")
    terms, result = _equation(str(op.attr("equation", "")))
    if any(len(set(t)) < len(t.replace("...", "")) for t in terms):
        return op.barrier("the equation of the Einsum repeats a letter")
    ranks = [len(shape) - len(t.replace("...", "")) for shape, t in zip(shapes, terms, strict=True)]
    extra = max((rank for rank, term in zip(ranks, terms, strict=True) if "..." in term), default=0)
    operands = [
        (i, _spelled(term, extra, rank)) for i, (term, rank) in enumerate(zip(terms, ranks, strict=True))
    ]
    out = _spelled(result, extra, extra)
    for i, letters in operands:
        lonely = {a for a, x in enumerate(letters) if x not in out and not _is_elsewhere(x, i, operands)}
        rows = tuple(b for b in op.label(i) if not set(b.axes) <= lonely)
        op.mix(rows, sorted(lonely), "Einsum sums over this axis of one input alone")
    label = op.combine(operands, out)
    for i, letters in operands:
        made = [a for a, x in enumerate(out) if x in letters and not _is_elsewhere(x, i, operands)]
        for axis in made if op.is_weight(i) else ():
            _produce(op, label, axis)
    return [label]


def _equation(text: str) -> tuple[list[str], str]:
    """The terms of an equation, and its result, which follows from them where it is left out."""
    left, arrow, right = text.replace(" ", "").partition("->")
    if not arrow:
        once = sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    return left.split(","), right


def _spelled(term: str, extra: int, rank: int) -> list[Letter]:
    """A letter for each axis; the ellipsis stands for the last `rank` of `extra` axes."""
    head, dots, tail = term.partition("...")
    return [*head, *range(extra - (rank if dots else 0), extra), *tail]


def _is_elsewhere(letter: Letter, i: int, operands: Sequence[tuple[int, Sequence[Letter]]]) -> bool:
    """Whether another input than `i` has an axis of this letter."""
    return any(letter in letters for k, letters in operands if k != i)


# ---------------------------------------------------------------- cost


def conv_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Every output value takes one weight per input channel of its group and kernel tap."""
    return math.prod(outputs[0]) * math.prod(inputs[1][1:])


def conv_transpose_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Every input value meets one weight per output channel of its group and kernel tap."""
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def gemm_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """M * N * K."""
    return math.prod(outputs[0]) * inputs[0][0 if node.attrs.get("transA", 0) else 1]


def matmul_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Size of the output times K."""
    transposed = bool(node.attrs.get("transA", 0)) and len(inputs[0]) > 1
    return math.prod(outputs[0]) * inputs[0][-2 if transposed else -1]


def einsum_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """The product of the lengths of all letters."""
    left = str(node.attrs["equation"]).replace(" ", "").partition("->")[0]
    sizes: dict[Any, int] = {}
    for term, shape in zip(left.split(","), inputs, strict=True):
        head, dots, tail = term.partition("...")
        own = len(shape) - len(head) - len(tail) if dots else 0
        for letter, length in zip(
            [*head, *(-k - 1 for k in reversed(range(own))), *tail], shape, strict=True
        ):
            sizes[letter] = max(sizes.get(letter, 1), length)
    return math.prod(sizes.values())


RULES: dict[str, Rule] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "Einsum": einsum,
}
MACS = {
    "Conv": conv_macs,
    "ConvTranspose": conv_transpose_macs,
    "Gemm": gemm_macs,
    "MatMul": matmul_macs,
    "Einsum": einsum_macs,
}
