"""Reductions and other operators that run along whole axes."""

from __future__ import annotations

import numpy as np

from .label import Label
from .op import Op, Rule
from .record import CONSTANT

_SUMS = frozenset({"ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum"})
"""Sums, to which a channel that reads as zero adds nothing."""


def reduction(op: Op) -> list[Label]:
    """Reduce*: over the given axes, or all."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    axes = op.attr("axes")
    if op.has(1):
        value = op.value(1)
        if value is None:
            return op.barrier("the reduced axes are not known", CONSTANT)
        op.set_value(1, value)
        axes = value.tolist()
    if not axes and op.attr("noop_with_empty_axes", 0):
        return [op.label(0)]
    return [_reduced(op, sorted(int(a) % len(shape) for a in (axes or range(len(shape)))))]


def _reduced(op: Op, axes: list[int]) -> Label:
    label = op.label(0)
    if op.node.op in _SUMS:
        for block in label:
            if set(block.axes) <= set(axes):
                op.mask(0, op.shape(0) or (), block.axes, block.old)
        label = tuple(block for block in label if not set(block.axes) <= set(axes))
    # A mean is what normalisations are made of: with fewer channels it is nearly the same.
    mix = op.normalise if op.node.op == "ReduceMean" else op.mix
    label = mix(label, axes, f"{op.node.op} runs over its channels")
    if op.attr("keepdims", 1):
        return label
    return tuple(b.moved([a - sum(x < a for x in axes) for a in b.axes]) for b in label)


def arg(op: Op) -> list[Label]:
    """ArgMax and ArgMin over one axis."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    return [_reduced(op, [op.attr("axis", 0) % len(shape)])]


def along(op: Op) -> list[Label]:
    """Operators along one axis that keep it: CumSum, TopK."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    axis = op.attr("axis", -1)
    for i in range(1, len(op.node.inputs)):
        value = op.value(i)
        if value is None:
            return op.barrier(f"a parameter of {op.node.op} is not known", CONSTANT)
        op.set_value(i, value)
        if op.node.op == "CumSum":
            axis = int(np.ravel(value)[0])
    label = op.mix(op.label(0), [axis % len(shape)], f"{op.node.op} runs over its channels")
    return [label] * len(op.node.outputs)


def reverse_sequence(op: Op) -> list[Label]:
    """Each row of the batch is reversed along time, up to its length."""
    axes = [op.attr("time_axis", 0), op.attr("batch_axis", 1)]
    op.freeze([] if op.is_constant(1) else op.label(1), "are sequence lengths")
    return [op.keep_shape(op.label(0), axes, "ReverseSequence reverses positions")]


def trilu(op: Op) -> list[Label]:
    """The triangle of the last two axes."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    return [op.mix(op.label(0), [len(shape) - 2, len(shape) - 1], "Trilu cuts across its channels")]


_REDUCE = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"

RULES: dict[str, Rule] = {
    **dict.fromkeys((f"Reduce{kind}" for kind in _REDUCE.split()), reduction),
    "ArgMax": arg,
    "ArgMin": arg,
    "CumSum": along,
    "ReverseSequence": reverse_sequence,
    "TopK": along,
    "Trilu": trilu,
}
