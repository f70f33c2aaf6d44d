"""Operators over spatial positions: pooling, Resize, DepthToSpace, GridSample."""

from __future__ import annotations

import numpy as np

from .label import Ids, Label, block_on, single
from .op import Op, Rule


def pool(op: Op) -> list[Label]:
    """Each channel by itself, over all axes from 2 on."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    if len(op.node.outputs) > 1 and op.node.outputs[1]:
        return op.barrier("the indices of MaxPool count across channels", "a MaxPool without indices")
    return [op.mix(op.label(0), range(2, len(shape)), f"{op.node.op} mixes spatial positions")]


def resize(op: Op) -> list[Label]:
    """Resize and Upsample: axes that keep their length pass."""
    before, after = op.shape(0), op.out_shape(0)
    if before is None or after is None:
        return op.unknown("the size that Resize makes is not known")
    changed = [a for a, (x, y) in enumerate(zip(before, after, strict=True)) if x != y]
    label = op.mix(op.label(0), changed, f"{op.node.op} changes this axis")
    if op.has(3):
        sizes = op.value(3)
        axes = op.attr("axes") or range(len(before))
        if sizes is None:
            return op.unknown("the size that Resize makes is not known")
        wanted = []
        for axis, size in zip(axes, sizes, strict=True):
            block = block_on(label, axis % len(before))
            wanted.append(
                int(size) if block is None else block.new.shape[block.axes.index(axis % len(before))]
            )
        op.set_value(3, np.asarray(wanted))
    return [label]


def depth_to_space(op: Op) -> list[Label]:
    """A channel of the output is made of blocksize squared channels of the input, which go together."""
    area = op.attr("blocksize") ** 2
    label = op.label(0)
    block = single(label, 1)
    if block is None or len(label) > 1:
        op.freeze(label, "DepthToSpace mixes positions")
        return [()]
    if op.attr("mode", "DCR") == "DCR":
        cells = block.map([0, 1], lambda a: a.reshape(area, -1))
    else:
        cells = block.map([1, 0], lambda a: a.reshape(-1, area)).map([0, 1], np.transpose)
    op.grid(cells.old)
    return [tuple(b.moved([1]) for b in op.mix((cells,), [0], "DepthToSpace"))]


def space_to_depth(op: Op) -> list[Label]:
    """Channels are repeated, one run for each place in the square."""
    area = op.attr("blocksize") ** 2
    label = op.label(0)
    block = single(label, 1)
    if block is None or len(label) > 1:
        op.freeze(label, "SpaceToDepth mixes positions")
        return [()]

    def repeat(ids: Ids) -> Ids:
        return np.tile(ids, area)

    return [(block.map([1], repeat),)]


def sampled(op: Op) -> list[Label]:
    """GridSample, RoiAlign: positions are computed; channels of axis 1 pass."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    for i in range(1, len(op.node.inputs)):
        if op.has(i) and not op.is_constant(i):
            op.freeze(op.label(i), "are positions")
    others = [a for a in range(len(shape)) if a != 1]
    return [op.mix(op.label(0), others, f"{op.node.op} mixes positions")]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), pool),
    "Resize": resize,
    "Upsample": resize,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "GridSample": sampled,
    "RoiAlign": sampled,
    "MaxRoiPool": sampled,
}
