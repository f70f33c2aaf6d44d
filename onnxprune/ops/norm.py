"""Normalisation: per channel it passes, across channels it needs them all."""

from __future__ import annotations

from collections.abc import Sequence

from .label import Block, Label, block_on
from .linear import split_axis
from .op import Op, Rule
from .record import Letter


def batch_norm(op: Op) -> list[Label]:
    """Statistics and parameters belong to the channels of axis 1."""
    shape = op.shape(0)
    if shape is None or len(shape) < 2:
        return op.unknown("the shape of its input is not known")
    letters: list[Letter] = list(range(len(shape)))
    operands: list[tuple[int, Sequence[Letter]]] = [(0, letters), *((i, [1]) for i in range(1, 5))]
    label = op.label(0)
    if op.attr("training_mode", 0) or (op.opset < 14 and any(op.node.outputs[1:])):
        others = [a for a in range(len(shape)) if a != 1]
        label = op.keep_shape(
            label,
            others,
            "BatchNormalization in training mode takes means over this axis",
            "an export in inference mode",
        )
    out = op.combine(operands, letters, {0: (shape, label)})
    return [out] + [()] * (len(op.node.outputs) - 1)


def instance_norm(op: Op) -> list[Label]:
    """Each channel by its own mean and variance over space."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    letters: list[Letter] = list(range(len(shape)))
    label = op.label(0)
    op.normalise(label, range(2, len(shape)), "InstanceNormalization normalises over its channels")
    return [op.combine([(0, letters), (1, [1]), (2, [1])], letters, {0: (shape, label)})]


def layer_norm(op: Op) -> list[Label]:
    """All axes from `axis` on are normalised together."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    axis = op.attr("axis", -1) % len(shape)
    label = op.label(0)
    op.normalise(label, range(axis, len(shape)), f"{op.node.op} normalises over its channels")
    letters: list[Letter] = list(range(len(shape)))
    operands: list[tuple[int, Sequence[Letter]]] = [(0, letters)]
    given = (i for i in range(1, len(op.node.inputs)) if op.has(i))
    operands += [(i, letters[len(shape) - len(op.shape(i) or ()) :]) for i in given]
    out = op.combine(operands, letters, {0: (shape, label)})
    return [out] + [()] * (len(op.node.outputs) - 1)


def group_norm(op: Op) -> list[Label]:
    """Channels of one group are normalised together: a group goes whole or not at all."""
    shape, scale = op.shape(0), op.shape(1)
    if shape is None or scale is None or len(shape) < 2:
        return op.unknown("the shape of its input is not known")
    groups = int(op.attr("num_groups"))
    label = op.label(0)
    rest = op.mix(
        tuple(b for b in label if 1 not in b.axes), range(2, len(shape)), "GroupNormalization mixes positions"
    )
    inside = tuple(b.moved([a + 1 for a in b.axes]) for b in rest if 0 not in b.axes)
    grid = tuple(b.moved([1, 2]) for b in split_axis(op, label, 1, groups))
    op.normalise(grid, [2], "GroupNormalization normalises over its channels")
    space: list[Letter] = [f"s{a}" for a in range(2, len(shape))]
    view = (shape[0], groups, shape[1] // groups, *shape[2:])
    operands: list[tuple[int, Sequence[Letter]]] = [(0, ["b", "g", "c", *space])]
    views: dict[int, tuple[tuple[int, ...], Label]] = {0: (view, (*grid, *inside))}
    for i in (1, 2):
        if scale[0] == groups != shape[1]:
            operands.append((i, ["g"]))
        else:
            operands.append((i, ["g", "c"]))
            views[i] = ((groups, shape[1] // groups), split_axis(op, op.label(i), 0, groups))
    out = op.combine(operands, ["b", "g", "c", *space], views)
    block = block_on(out, 1)
    if block is None or block.axes != (1, 2):
        op.freeze(out, "its groups can't be distinguished")
        return [()]
    op.set_attr("num_groups", block.new.shape[0])
    return [(Block((1,), block.old.reshape(-1), block.new.reshape(-1)),)]


def softmax(op: Op) -> list[Label]:
    """Softmax and its kin, over one axis (before opset 13: over all axes from it on)."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    coerced = op.opset < 13 and op.node.op in ("Softmax", "LogSoftmax", "Hardmax")
    axis = op.attr("axis", 1 if coerced else -1) % len(shape)
    axes = range(axis, len(shape)) if coerced else [axis]
    op.mix(op.label(0), axes, f"{op.node.op} runs over its channels")
    return [op.label(0)]


def lp_norm(op: Op) -> list[Label]:
    """What reads as zero adds nothing to the norm of an axis, and stays zero."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    axis = op.attr("axis", -1) % len(shape)
    for block in op.label(0):
        if axis in block.axes:
            op.mask(0, shape, block.axes, block.old)
    return [op.label(0)]


def over_channels(op: Op) -> list[Label]:
    """Neighbouring channels enter each result."""
    shape = op.shape(0) or ()
    return [op.keep_shape(op.label(0), range(1, len(shape)), f"{op.node.op} mixes channels")]


def mean_variance(op: Op) -> list[Label]:
    """MeanVarianceNormalization over `axes`."""
    op.normalise(op.label(0), op.attr("axes", [0, 2, 3]), "MeanVarianceNormalization over its channels")
    return [op.label(0)]


RULES: dict[str, Rule] = {
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "RMSNormalization": layer_norm,
    "SimplifiedLayerNormalization": layer_norm,
    "GroupNormalization": group_norm,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "Hardmax": softmax,
    "LpNormalization": lp_norm,
    "LRN": over_channels,
    "MeanVarianceNormalization": mean_variance,
}
