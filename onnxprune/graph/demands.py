"""What nodes demand of the sizes of what they read: lengths that have to be equal.

Of a node the axes of its inputs have letters, as in an einsum; axes of the same letter have the same length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .core import Array, Node, Shape

Letters = Sequence[tuple[int, Sequence[Any]]]
"""(input, a letter for each of its axes)."""


@dataclass(frozen=True)
class Demand:
    """A size that something has to have, and has not.

    Attributes:
        node: index of the node that demands it.
        tensor: of which tensor.
        axis: the axis; `None` for the number of elements.
        size: as it has to be.
        exact: nothing else will do; else a length of 1 would, too.
        least: anything larger will do as well.
    """

    node: int
    tensor: str
    axis: int | None
    size: int
    exact: bool
    least: bool = False


def unmet(node: Node, shapes: Mapping[str, Shape | None], values: Mapping[str, Array]) -> Iterator[Demand]:
    """What a node demands of its inputs, and is not so.

    Args:
        node: the node.
        shapes: of tensors.
        values: of tensors, where known.
    """
    known = [shapes.get(name) if name else None for name in node.inputs]
    if node.op == "Reshape":
        yield from _reshape(node, known, values)
        return
    for axis, size in _windows(node, known, values):
        shape = known[0]
        if shape is not None and axis < len(shape) and shape[axis] < size:
            yield Demand(node.index, node.inputs[0], axis, size, False, True)
    for i, axis, size in _lengths(node, known, values):
        shape = known[i]
        if shape is not None and -len(shape) <= axis < len(shape) and shape[axis] != size:
            yield Demand(node.index, node.inputs[i], axis % len(shape), size, True)
    exact = node.op not in _ELEMENTWISE
    sizes: dict[Any, list[tuple[int, int, int]]] = {}
    for i, letters in _letters(node, known):
        for axis, (letter, length) in enumerate(zip(letters, known[i] or (), strict=False)):
            sizes.setdefault(letter, []).append((i, axis, length))
    for places in sizes.values():
        lengths = {length for _, _, length in places if exact or length != 1}
        for i, axis, length in places if len(lengths) > 1 else ():
            for other in sorted(lengths - {length}) if exact or length != 1 else ():
                yield Demand(node.index, node.inputs[i], axis, other, exact)


def _reshape(node: Node, known: Sequence[Shape | None], values: Mapping[str, Array]) -> Iterator[Demand]:
    shape, target = known[0], values.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if shape is None or target is None or target.ndim != 1:
        return
    copies = not node.attrs.get("allowzero", 0)
    sizes = [shape[k] if n == 0 and copies and k < len(shape) else int(n) for k, n in enumerate(target)]
    rest, have = math.prod(n for n in sizes if n != -1), math.prod(shape)
    if rest <= 0:
        return
    if -1 not in sizes and have != rest:
        yield Demand(node.index, node.inputs[0], None, rest, True)
    elif -1 in sizes and have % rest and shape:
        yield Demand(node.index, node.inputs[0], None, shape[0] * rest, True)  # -1 stands for the batch


# ---------------------------------------------------------------- lengths that are numbers


def _windows(
    node: Node, known: Sequence[Shape | None], values: Mapping[str, Array]
) -> Iterator[tuple[int, int]]:
    """(axis, least length) of the first input: kernels must fit, and reflections."""
    if node.op == "Pad" and node.attrs.get("mode") == "reflect" and 1 < len(node.inputs) < 4:
        reflected = values.get(node.inputs[1])
        if reflected is not None:
            for axis, sides in enumerate(zip(*np.split(reflected, 2), strict=True)):
                yield axis, int(max(sides)) + 1
    if (
        node.op not in ("Conv", "AveragePool", "MaxPool", "LpPool")
        or node.attrs.get("auto_pad", "NOTSET") != "NOTSET"
    ):
        return
    weight = known[1] if node.op == "Conv" and len(known) > 1 else None
    kernel = weight[2:] if weight is not None else tuple(node.attrs.get("kernel_shape", ()))
    spread = node.attrs.get("dilations") or [1] * len(kernel)
    pads = node.attrs.get("pads") or [0] * 2 * len(kernel)
    for k, (taps, step) in enumerate(zip(kernel, spread, strict=False)):
        yield 2 + k, (taps - 1) * step + 1 - pads[k] - pads[k + len(kernel)]


def _lengths(
    node: Node, known: Sequence[Shape | None], values: Mapping[str, Array]
) -> Iterator[tuple[int, int, int]]:
    """(input, axis, length) of what follows from another number than the length of one axis."""
    if node.op in _CONVOLUTIONS:
        i, axis = _CONVOLUTIONS[node.op]
        weight = known[i] if i < len(known) else None
        if weight is not None and len(weight) > 2:
            groups = int(node.attrs.get("group", 1)) if axis == 1 else 1
            yield 0, 1, weight[axis] * groups
    elif node.op == "Split":
        sizes = node.attrs.get("split")
        if sizes is None and len(node.inputs) > 1:
            sizes = values.get(node.inputs[1])
        if sizes is not None:
            yield 0, int(node.attrs.get("axis", 0)), int(sum(sizes))
    elif node.op == "com.microsoft:MatMulNBits" and "K" in node.attrs:
        yield 0, -1, int(node.attrs["K"])


_CONVOLUTIONS = {
    "Conv": (1, 1),
    "ConvInteger": (1, 1),
    "DeformConv": (1, 1),
    "QLinearConv": (3, 1),
    "com.microsoft:FusedConv": (1, 1),
    "ConvTranspose": (1, 0),
}
"""Operator -> which input is the weight, and along which of its axes it reads channels."""


# ---------------------------------------------------------------- axes that are alike


def _letters(node: Node, known: Sequence[Shape | None]) -> Letters:
    rule = _RULES.get(node.op)
    if rule is None:
        return ()
    ranks = [None if shape is None else len(shape) for shape in known]
    return [(i, letters) for i, letters in rule(node, ranks) if i < len(known) and known[i] is not None]


Ranks = Sequence[int | None]


def _aligned(node: Node, ranks: Ranks) -> Letters:
    """Broadcast together, aligned at the last axis."""
    del node
    return [(i, range(-rank, 0)) for i, rank in enumerate(ranks) if rank is not None]


def _product(a: int, b: int) -> Callable[[Node, Ranks], Letters]:
    """A (..., M, K) with B (..., K, N), of which either may be transposed."""

    def letters(node: Node, ranks: Ranks) -> Letters:
        left, right = (ranks[i] if i < len(ranks) else None for i in (a, b))
        own = ["k", "m"] if node.attrs.get("transA", 0) and left != 1 else ["m", "k"]
        other = ["n", "k"] if node.attrs.get("transB", 0) and right != 1 else ["k", "n"]
        return [
            (a, [*(f"a{k}" for k in range((left or 2) - 2)), *(own if left != 1 else ["k"])]),
            (b, [*(f"b{k}" for k in range((right or 2) - 2)), *(other if right != 1 else ["k"])]),
        ]

    return letters


def _along(axis: int, *vectors: int) -> Callable[[Node, Ranks], Letters]:
    """The first input has a value of each vector for each index of an axis."""

    def letters(node: Node, ranks: Ranks) -> Letters:
        del node
        rank = ranks[0] or 0
        return [
            (0, ["c" if k == axis % max(rank, 1) else k for k in range(rank)]),
            *((i, ["c"]) for i in vectors),
        ]

    return letters


def _last_axes(node: Node, ranks: Ranks) -> Letters:
    """Scale and shift have the last axes of the first input."""
    del node
    return [(i, range(-rank, 0)) for i, rank in enumerate(ranks[:3]) if rank is not None]


def _recurrent(node: Node, ranks: Ranks) -> Letters:
    """X (T, B, I), W (D, gates * H, I), states (D, B, H)."""
    del ranks
    first = ["b", "t"] if node.attrs.get("layout", 0) else ["t", "b"]
    state = ["b", "d", "h"] if node.attrs.get("layout", 0) else ["d", "b", "h"]
    return [(0, [*first, "i"]), (1, ["d", "g", "i"]), (2, ["d", "g", "h"]), (5, state), (6, state)]


def _concat(node: Node, ranks: Ranks) -> Letters:
    found = []
    for i, rank in enumerate(ranks):
        if rank:
            axis = int(node.attrs.get("axis", 0)) % rank
            found.append((i, [(i, k) if k == axis else k for k in range(rank)]))
    return found


def _einsum(node: Node, ranks: Ranks) -> Letters:
    terms = str(node.attrs.get("equation", "")).replace(" ", "").partition("->")[0].split(",")
    found: list[tuple[int, Sequence[Any]]] = []
    for i, (term, rank) in enumerate(zip(terms, ranks, strict=False)):
        head, dots, tail = term.partition("...")
        extra = (rank or 0) - len(head) - len(tail) if dots else 0
        found.append((i, [*head, *((i, k) for k in range(extra)), *tail]))
    return found


_ELEMENTWISE = frozenset(
    [
        *("Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual"),
        *("Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum"),
        *("Where", "Xor", "com.microsoft:BiasGelu", "com.microsoft:FastGelu", "com.microsoft:QLinearAdd"),
        *("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
    ]
)
"""Operators that repeat an axis of length 1."""

_RULES: Mapping[str, Callable[[Node, Ranks], Letters]] = {
    **dict.fromkeys(_ELEMENTWISE, _aligned),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), _last_axes),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger", "com.microsoft:FusedGemm"), _product(0, 1)),
    **dict.fromkeys(("com.microsoft:FusedMatMul", "com.microsoft:DynamicQuantizeMatMul"), _product(0, 1)),
    **dict.fromkeys(("com.microsoft:MatMulIntegerToFloat", "com.microsoft:Attention"), _product(0, 1)),
    **dict.fromkeys(("QLinearMatMul", "com.microsoft:QGemm"), _product(0, 3)),
    "BatchNormalization": _along(1, 1, 2, 3, 4),
    "InstanceNormalization": _along(1, 1, 2),
    "com.microsoft:SkipLayerNormalization": _along(-1, 2, 3, 4),
    "com.microsoft:SkipSimplifiedLayerNormalization": _along(-1, 2, 3),
    "Concat": _concat,
    "Einsum": _einsum,
}
