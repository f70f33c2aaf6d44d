"""Operators that pick or join positions: Concat, Split, Slice, Gather, Pad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Array
from .label import Block, Ids, Label, block_on, locate, single
from .op import Op, Rule
from .record import CONSTANT, Inconsistent, Letter


def pick(op: Op, block: Block, axis: int, positions: Ids) -> tuple[Block, Ids]:
    """The part of a block at some positions along one of its axes.

    Returns:
        The part, and where it is found along that axis once the removed ids are gone.
    """
    k = block.axes.index(axis)
    old = block.old.take(positions, k)
    if positions.size == 0:
        return Block(block.axes, old, block.new.take(positions, k)), positions
    if op.walk.selection is None:
        return Block(block.axes, old, old), positions
    columns = np.moveaxis(np.unravel_index(locate(block.old, block.new), block.old.shape)[k], k, -1)
    rows = columns.reshape(-1, columns.shape[-1])
    direction = -1 if positions.size and positions[0] > positions[-1] else 1
    if (np.diff(positions) == direction).all():
        inside = np.isin(rows, positions)
        if not (inside == inside[:1]).all():
            raise Inconsistent(op.node, "its rows would no longer be cut at the same place", block.old)
        found = np.flatnonzero(inside[0])[::direction]
    elif (rows == rows[:1]).all():
        where = {int(c): j for j, c in enumerate(rows[0])}
        found = np.asarray([where[int(p)] for p in positions if int(p) in where], np.int64)
    else:
        raise Inconsistent(op.node, "its rows would no longer be cut at the same place", block.old)
    return Block(block.axes, old, block.new.take(found, k)), found


def keep_in_step(op: Op, block: Block, sizes: Sequence[int]) -> None:
    """Cut an axis whose ids alternate between the rows of earlier grids, as after channel shuffles.

    A part stays in its place if it keeps equally many of every row, and if a step that the cut goes
    through stays whole.

    Args:
        op: what cuts.
        block: the ids on the axis.
        sizes: of the parts.
    """
    whole = block.old
    if whole.ndim > 1 or max(sizes) < 2 or (whole[1:] > whole[:-1]).all():
        return
    order = np.argsort(whole)
    if (whole[order][1:] == whole[order][:-1]).any():
        return
    home = np.repeat(np.arange(len(sizes)), sizes)
    for _, grid in op.walk.record.grids:
        rows = grid.reshape(-1, grid.shape[-1])
        place = order[np.minimum(np.searchsorted(whole[order], rows), whole.size - 1)]
        found = whole[place] == rows
        here = found.any(axis=1)
        steps = found[here].all(axis=0)
        rows, place = rows[here][:, steps], place[here][:, steps]
        if min(rows.shape) < 2 or not (place.max(axis=0)[:-1] < place.min(axis=0)[1:]).all():
            continue
        part = home[place]
        cut = (part != part[:1]).any(axis=0)
        if cut.any():
            op.keep(rows[:, cut], "is cut in the middle of a shuffled step")
        if (part == part[0, 0]).all():
            continue
        cells = [rows[:, ~cut & (part[0] == k)] for k in np.unique(part[0, ~cut])]
        op.walk.record.edges += [(c[:-1, 0], c[1:, 0]) for c in cells if c.shape[1] == 1]
        cells = [c for c in cells if c.shape[1] > 1]
        alike = len({c.shape for c in cells}) == 1
        parts = [np.concatenate(cells)] if alike else cells
        op.walk.record.cut += [(op.node.index, part) for part in parts]


# ---------------------------------------------------------------- Concat


def concat(op: Op) -> list[Label]:
    """Ids follow one another; on the other axes the inputs run together."""
    return concatenated(op, [i for i in range(len(op.node.inputs)) if op.has(i)])


def concatenated(op: Op, inputs: Sequence[int]) -> list[Label]:
    """Concat of some of the inputs."""
    shapes = [shape for i in inputs if (shape := op.shape(i)) is not None]
    if len(shapes) < len(inputs):
        return op.unknown("the shapes that Concat reads are not known")
    rank = len(shapes[0])
    axis = op.attr("axis", 0) % rank
    labels = [op.label(i) for i in inputs]
    joined = _joined(op, [block_on(label, axis) for label in labels], [s[axis] for s in shapes], axis)
    others: list[Letter] = [a for a in range(rank) if a != axis]
    views = {
        i: (tuple(n for a, n in enumerate(shape) if a != axis), _beside(op, label, axis))
        for i, shape, label in zip(inputs, shapes, labels, strict=True)
    }
    out = op.combine([(i, others) for i in inputs], others, views)
    spread = tuple(b.moved([a + (a >= axis) for a in b.axes]) for b in out)
    if joined is None:
        return [spread]
    return [(joined, *(b for b in spread if not set(b.axes) & set(joined.axes)))]


def _beside(op: Op, label: Label, axis: int) -> Label:
    """The ids of all axes but one, which is left out; of a grid, those of its rows."""
    rest = [b for b in label if axis not in b.axes]
    grid = block_on(label, axis)
    if grid is not None and len(grid.axes) > 1:
        rest.append(op.project(grid, [a for a in grid.axes if a != axis]))
    return tuple(b.moved([a - (a > axis) for a in b.axes]) for b in rest)


def _joined(op: Op, blocks: Sequence[Block | None], widths: Sequence[int], axis: int) -> Block | None:
    present = [b for b in blocks if b is not None]
    if not present:
        return None
    if len(present) == len(blocks) and len({b.axes for b in present}) == 1:
        k = present[0].axes.index(axis)
        old = np.concatenate([b.old for b in present], k)
        shapes = {b.new.shape[:k] + b.new.shape[k + 1 :] for b in present}
        if len(shapes) > 1:
            raise Inconsistent(op.node, "the rows that it joins differ", old)
        if len(present[0].axes) > 1:
            op.grid(old)
        return Block(present[0].axes, old, np.concatenate([b.new for b in present], k))
    grids = [b for b in present if b.axes != (axis,)]
    if grids:
        op.freeze(present, "joins a grid of channels with something else")
        return None
    whole = [b or op.fixed(n, axis) for b, n in zip(blocks, widths, strict=True)]
    return Block((axis,), np.concatenate([b.old for b in whole]), np.concatenate([b.new for b in whole]))


# ---------------------------------------------------------------- Split, Slice


def split(op: Op) -> list[Label]:
    """Consecutive parts of one axis."""
    shape = op.shape(0)
    outs = [op.walk.facts.shapes.get(o) for o in op.node.outputs]
    if shape is None or any(s is None for s in outs):
        return op.unknown("the sizes that Split makes are not known")
    axis = op.attr("axis", 0) % len(shape)
    sizes = [(s or ())[axis] for s in outs]
    given = op.value(1)
    label = op.label(0)
    block = block_on(label, axis)
    rest = tuple(b for b in label if b is not block)
    if block is None:
        if given is not None:
            op.set_value(1, given)
        return [rest] * len(outs)
    starts = np.cumsum([0, *sizes])
    if block.axes == (axis,):
        keep_in_step(op, block, sizes)
    parts, ends = [], 0
    for start, size in zip(starts, sizes, strict=False):
        part, found = pick(op, block, axis, np.arange(start, start + size))
        if not np.array_equal(found, np.arange(ends, ends + len(found))):
            raise Inconsistent(op.node, "its parts would no longer follow one another", block.old)
        ends += len(found)
        if len(block.axes) > 1:
            op.grid(part.old)
        parts.append(part)
    widths = [p.new.shape[block.axes.index(axis)] for p in parts]
    if widths != sizes or given is not None:
        if op.opset >= 13:
            op.set_value(1, np.asarray(widths))
            op.set_attr("num_outputs", None)
        else:
            op.set_attr("split", widths)
    return [(part, *rest) for part in parts]


@dataclass(frozen=True)
class _Ranges:
    """What a Slice says: starts and ends, and axes and steps where they are given."""

    starts: Array
    ends: Array
    axes: Array | None
    steps: Array | None

    @classmethod
    def of(cls, op: Op) -> _Ranges | None:
        """Of a node, as inputs or (before opset 10) attributes; `None` where a value is not known."""
        if op.opset < 10:
            axes = op.attr("axes")
            given = None if axes is None else np.asarray(axes)
            return cls(np.asarray(op.attr("starts")), np.asarray(op.attr("ends")), given, None)
        starts, ends, axes, steps = (op.value(i) for i in (1, 2, 3, 4))
        if starts is None or ends is None or (op.has(3) and axes is None) or (op.has(4) and steps is None):
            return None
        return cls(starts, ends, axes, steps)

    def write(self, op: Op) -> None:
        """Make the node say so."""
        if op.opset < 10:
            op.set_attr("starts", self.starts.tolist())
            op.set_attr("ends", self.ends.tolist())
            return
        for i, values in enumerate((self.starts, self.ends, self.axes, self.steps), 1):
            if values is not None:
                op.set_value(i, np.asarray(values))


def slice_(op: Op) -> list[Label]:
    """A range of positions on some axes."""
    shape, label, ranges = op.shape(0), op.label(0), _Ranges.of(op)
    if shape is None or ranges is None:
        return op.unknown("the range of the Slice is not known")
    count = len(ranges.starts)
    places = [int(a) % len(shape) for a in (range(count) if ranges.axes is None else ranges.axes)]
    strides = [1] * count if ranges.steps is None else [int(s) for s in ranges.steps]
    new = replace(ranges, starts=ranges.starts.copy(), ends=ranges.ends.copy())
    symbolic = op.opset >= 10 and any(op.walk.facts.is_dynamic(name) for name in op.node.inputs[1:3])
    out: list[Block] = list(label)
    for k, (axis, step) in enumerate(zip(places, strides, strict=True)):
        block = next((b for b in out if axis in b.axes), None)
        start, end = int(ranges.starts[k]), int(ranges.ends[k])
        positions = np.arange(shape[axis])[start : _stop(end, step) : step]
        if block is None or (positions.size == shape[axis] and step == 1):
            continue
        if symbolic:
            reason = "is sliced by a range that depends on symbolic dimensions"
            op.freeze([block], reason, "an export with fixed shapes")
            out.remove(block)
            continue
        part, found = _sliced(op, block, axis, positions, step)
        new.starts[k], new.ends[k] = _range(op, block, found, step, start, end, positions)
        out[out.index(block)] = part
    new.write(op)
    return [tuple(out)]


def _sliced(op: Op, block: Block, axis: int, positions: Ids, step: int) -> tuple[Block, Ids]:
    """See `pick`: every `step`-th position."""
    if abs(step) > 1:
        _in_chunks(op, block, axis, abs(step))
    part, found = pick(op, block, axis, positions)
    if len(block.axes) > 1:
        op.grid(part.old)
    elif abs(step) == 1 and positions.size:
        before, length = int(positions.min()), block.old.size
        keep_in_step(op, block, [before, positions.size, length - before - positions.size])
    return part, found


def _stop(end: int, step: int) -> int | None:
    """The Python slice end: an end far below zero, going backwards, is before the first position."""
    return None if step < 0 and end < -(1 << 31) + 1 else end


def _in_chunks(op: Op, block: Block, axis: int, step: int) -> None:
    """Every step-th position stays so only if whole runs of `step` go together."""
    length = block.old.shape[block.axes.index(axis)]
    if block.axes != (axis,) or length % step:
        op.freeze([block], "is sliced with a step")
        return
    runs = block.old.reshape(-1, step)
    op.walk.record.edges.append((np.repeat(runs[:, 0], step), runs.ravel()))


def _range(
    op: Op, block: Block, found: Ids, step: int, start: int, end: int, positions: Ids
) -> tuple[int, int]:
    if op.walk.selection is None or np.array_equal(block.old, block.new):
        return start, end
    if positions.size == 0:
        return 0, 0
    if found.size == 0:
        raise Inconsistent(op.node, "nothing would be left of its range", block.old)
    if found.size > 1 and not (np.diff(found) == step).all():
        raise Inconsistent(op.node, "its range would no longer be regular", block.old)
    if np.array_equal(found, positions):
        return start, end
    last = int(found[-1])
    first, stop = int(found[0]), last + (1 if step > 0 else -1)
    return first, stop if stop >= 0 else -(1 << 60)


# ---------------------------------------------------------------- Gather


def gather(op: Op) -> list[Label]:
    """Rows of one axis by their numbers: known ones are followed, others need the axis whole."""
    shape, index_shape = op.shape(0), op.shape(1)
    if shape is None or index_shape is None:
        return op.unknown("the shapes that Gather reads are not known")
    axis = op.attr("axis", 0) % len(shape)
    label = op.label(0)
    positions = op.walk.facts.values.get(op.node.inputs[1])
    grow = len(index_shape) - 1
    block = block_on(label, axis)
    if not op.is_constant(1):
        op.freeze(op.label(1), "are indices")
    result: list[Block] = []
    if block is not None:
        if positions is None or op.walk.facts.is_dynamic(op.node.inputs[1]) or positions.ndim > 1:
            left = op.mix([b for b in label if b is block], [axis], "is looked up by computed indices")  # type: ignore[arg-type]
            result += left
        elif positions.ndim == 0 and block.axes == (axis,):
            op.freeze(
                [Block((axis,), *_one(op, block, int(positions)))], "is taken out of its axis by Gather"
            )
            _set_index(op, pick(op, block, axis, np.atleast_1d(positions) % shape[axis])[1], 0)
        else:
            part, found = pick(op, block, axis, np.atleast_1d(positions) % shape[axis])
            _set_index(op, found, positions.ndim)
            if positions.ndim == 0:
                k = part.axes.index(axis)
                old, new = (ids[(slice(None),) * k + (0,)] for ids in (part.old, part.new))
                part = Block(tuple(a for a in part.axes if a != axis), old, new)
            if len(part.axes) > 1:
                op.grid(part.old)
            result.append(part)
    result += [b for b in label if b is not block]
    out = tuple(b.moved([a + grow if a > axis else a for a in b.axes]) for b in result)
    if op.is_weight(0) and positions is None:
        for b in out:
            op.produce(b)
    return [out]


def _one(op: Op, block: Block, position: int) -> tuple[Ids, Ids]:
    part, _ = pick(op, block, block.axes[0], np.asarray([position % block.old.size]))
    return part.old, part.new


def _set_index(op: Op, found: Ids, ndim: int) -> None:
    if op.walk.selection is None:
        return
    if ndim == 0:
        if found.size != 1:
            raise Inconsistent(op.node, "what it takes would be gone", np.zeros(0, np.int64))
        op.set_value(1, _signed(op, found[0]))
    else:
        op.set_value(1, _signed(op, found))


def _signed(op: Op, found: Any) -> NDArray[np.int64]:
    """Indices written from the end stay so where that says the same."""
    before = op.new_value(1)
    shape = op.walk.new_shape(op.node.inputs[0])
    wanted = np.asarray(found)
    if before is not None and shape is not None and before.shape == wanted.shape:
        axis = op.attr("axis", 0) % len(shape)
        if np.array_equal(before % shape[axis], wanted):
            return before
    return wanted


def gather_nd(op: Op) -> list[Label]:
    """Positions on leading axes by tuples of indices; the axes behind them pass."""
    shape, index_shape, out = op.shape(0), op.shape(1), op.out_shape(0)
    if shape is None or index_shape is None or out is None or not index_shape:
        return op.unknown("the shapes that GatherND reads are not known")
    batch = op.attr("batch_dims", 0)
    used = batch + index_shape[-1]
    if not op.is_constant(1):
        op.freeze(op.label(1), "are indices")
    label = op.mix(op.label(0), range(used), "is looked up by GatherND")
    return [tuple(b.moved([a - used + len(index_shape) - 1 + 0 for a in b.axes]) for b in label)]


def elements(op: Op) -> list[Label]:
    """GatherElements and ScatterElements: positions on one axis, computed for each place of the others."""
    shapes = [op.shape(i) for i in range(len(op.node.inputs))]
    data = shapes[0]
    if data is None:
        return op.unknown(f"the shapes that {op.node.op} reads are not known")
    axis = op.attr("axis", 0) % len(data)
    others = [a for a in range(len(data)) if a != axis]
    if any(s is None or [s[a] for a in others] != [data[a] for a in others] for s in shapes):
        return op.barrier(f"{op.node.op} takes a corner of its input")
    letters: list[list[Letter]] = [
        [a if a != axis else f"axis{i}" for a in range(len(data))] for i in range(len(shapes))
    ]
    labels = [op.mix(op.label(i), [axis], f"{op.node.op} looks up positions") for i in range(len(shapes))]
    views = {i: (s or (), label) for i, (s, label) in enumerate(zip(shapes, labels, strict=True))}
    return [op.combine(list(enumerate(letters)), letters[1 if len(shapes) == 2 else 0], views)]


def scatter_nd(op: Op) -> list[Label]:
    """Rows of a tensor are replaced: positions on leading axes are computed, the axes behind them pass."""
    shape, index_shape, updates = op.shape(0), op.shape(1), op.shape(2)
    if shape is None or not index_shape or updates is None:
        return op.unknown("the shapes that ScatterND reads are not known")
    used, lead = index_shape[-1], len(index_shape) - 1
    if not op.is_constant(1):
        op.freeze(op.label(1), "are indices")
    data = op.mix(op.label(0), range(used), "is looked up by ScatterND")
    rows = op.mix(op.label(2), range(lead), "is looked up by ScatterND")
    front: list[Letter] = [f"d{a}" for a in range(used)]
    behind: list[Letter] = list(range(used, len(shape)))
    operands: list[tuple[int, Sequence[Letter]]] = [
        (0, [*front, *behind]),
        (2, [*(f"u{a}" for a in range(lead)), *behind]),
    ]
    return [op.combine(operands, [*front, *behind], {0: (shape, data), 2: (updates, rows)})]


# ---------------------------------------------------------------- Pad


def pad(op: Op) -> list[Label]:
    """Padding adds positions that can't go; axes that are padded otherwise than by a constant are kept."""
    shape = op.shape(0)
    pads = np.asarray(op.attr("pads")) if op.opset < 11 else op.value(1)
    if op.opset >= 11 and pads is not None:
        op.set_value(1, pads)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    if pads is None:
        return op.barrier("the padding is not known", CONSTANT)
    axes: Sequence[int] = range(len(shape))
    if op.has(3):
        chosen = op.value(3)
        if chosen is None:
            return op.barrier("the padded axes are not known", CONSTANT)
        op.set_value(3, chosen)
        axes = [int(a) % len(shape) for a in chosen]
    result = op.label(0)
    half = len(pads) // 2
    for k, axis in enumerate(axes):
        before, after = int(pads[k]), int(pads[k + half])
        block = block_on(result, axis)
        if block is None or (before == 0 and after == 0):
            continue
        if (
            single(result, axis) is None
            or op.attr("mode", "constant") != "constant"
            or min(before, after) < 0
        ):
            result = op.mix(result, [axis], "is padded")
            continue
        parts = [op.fixed(before, axis), block, op.fixed(after, axis)]
        padded = Block(
            (axis,),
            *(np.concatenate(arrays) for arrays in zip(*((p.old, p.new) for p in parts), strict=True)),
        )
        result = tuple(padded if b is block else b for b in result)
    return [result]


RULES: dict[str, Rule] = {
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "GatherElements": elements,
    "GatherND": gather_nd,
    "Pad": pad,
    "ScatterElements": elements,
    "ScatterND": scatter_nd,
}
