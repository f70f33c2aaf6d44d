"""Operators that only rearrange: Transpose, Reshape and their kin."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..graph import Shape
from .label import Block, Ids, Label, block_on, lengths
from .op import Op, Rule
from .record import GRID_LIMIT, Inconsistent


def transpose(op: Op) -> list[Label]:
    """Axes change places."""
    shape = op.shape(0)
    if shape is None:
        return op.unknown("the shape of its input is not known")
    perm = list(op.attr("perm") or reversed(range(len(shape))))
    return [tuple(b.moved([perm.index(a) for a in b.axes]) for b in op.label(0))]


def identity(op: Op) -> list[Label]:
    """Passes; an exporter that merges equal vectors reads them through Identity: each copy is on its own."""
    name = op.node.inputs[0]
    if not op.is_constant(0):
        return [op.label(0)]
    shape = op.walk.graph.shape_of_constant(name)
    if sum(d > 1 for d in shape) > 1:
        return [op.label(0)]
    axes = [(a,) for a, d in enumerate(shape) if d > 1]
    return [op.walk.declare(op.node, name, 0, shape, axes, untied=op.node.index)]


# ---------------------------------------------------------------- Reshape


def _factors(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Matches runs of input axes with runs of output axes of the same product, as short as can be."""
    if 0 in before:
        return _around_nothing(before, after)
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left, right = (
            ([i], before[i]) if i < len(before) else ([], 1),
            ([j], after[j]) if j < len(after) else ([], 1),
        )
        (axes_in, size_in), (axes_out, size_out) = left, right
        i, j = i + len(axes_in), j + len(axes_out)
        while size_in != size_out:
            if size_in < size_out and i < len(before):
                axes_in.append(i)
                size_in, i = size_in * before[i], i + 1
            elif j < len(after):
                axes_out.append(j)
                size_out, j = size_out * after[j], j + 1
            else:
                break
        runs.append((axes_in, axes_out))
    return runs


def _around_nothing(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """As `_factors`, of tensors without values: equal axes in front and behind, and one run between them."""
    shortest = min(len(before), len(after))
    front = next((k for k in range(shortest) if before[k] != after[k]), shortest)
    behind = next((k for k in range(shortest - front) if before[-k - 1] != after[-k - 1]), shortest - front)
    runs = [([k], [k]) for k in range(front)]
    runs.append((list(range(front, len(before) - behind)), list(range(front, len(after) - behind))))
    return [*runs, *(([len(before) - k], [len(after) - k]) for k in range(behind, 0, -1))]


def _spread(ids: Ids, axes: Sequence[int], over: Sequence[int], shape: Sequence[int]) -> Ids:
    """Ids on some of the axes `over`, repeated along the others."""
    view = [ids.shape[list(axes).index(a)] if a in axes else 1 for a in over]
    return np.broadcast_to(ids.reshape(view), [shape[a] for a in over])


def _varies(ids: Ids) -> list[int]:
    """The axes along which ids differ."""
    return [k for k in range(ids.ndim) if ids.shape[k] > 1 and not (ids == ids.take([0], k)).all()]


def rearrange(op: Op, label: Label, before: Shape, after: Shape) -> Label:
    """Labels of a tensor whose values are read in the same order under another shape.

    An axis that is split becomes a grid; axes that are merged repeat their ids. What a block does not
    depend on any more after that is no longer part of it.
    """
    if math.prod(before) != math.prod(after):
        op.freeze(label, "a Reshape whose shapes are not known", op.known_shapes)
        return ()
    runs = _factors(before, after)
    result: list[Block] = []
    claimed: set[int] = set()
    now = lengths(label, before)
    for block in sorted(label, key=lambda b: -b.old.size):
        touched = {k for k, (axes, _) in enumerate(runs) if set(axes) & set(block.axes)}
        over = [a for k in sorted(touched) for a in runs[k][0]]
        target = [a for k in sorted(touched) for a in runs[k][1]]
        if touched & claimed:
            op.freeze([block], "is merged with another axis of channels")
            continue
        if 0 in (before[a] for a in over):
            continue
        claimed |= touched
        if math.prod(before[a] for a in over) > GRID_LIMIT:
            op.freeze([block], "a Reshape too large to follow")
            continue
        old = _spread(block.old, block.axes, over, before).reshape([after[a] for a in target])
        partners = {a: n for b in label if b is not block for a, n in zip(b.axes, b.old.shape, strict=True)}
        new = op.walk.close_up_as(
            op.node,
            old,
            _spread(block.new, block.axes, over, [partners.get(a, n) for a, n in enumerate(now)]),
        )
        axes = _varies(old)
        if not axes:
            continue
        index = tuple(slice(None) if k in axes else 0 for k in range(old.ndim))
        result.append(Block(tuple(target[k] for k in axes), old[index], new[index]))
        if len(axes) > 1:
            op.grid(result[-1].old)
    return tuple(result)


def reshape(op: Op) -> list[Label]:
    """Reshape: the target follows the new widths."""
    before, after = op.shape(0), op.out_shape(0)
    target = op.value(1)
    label = op.label(0)
    if before is None or after is None or target is None:
        return op.unknown("the target of the Reshape is not known")
    out = rearrange(op, label, before, after)
    _retarget(op, before, label, after, out, target)
    return [out]


def _retarget(op: Op, before: Shape, label: Label, after: Shape, out: Label, target: Ids) -> None:
    """Set what the target must say: as it would by itself wherever that is right."""
    if op.walk.selection is None:
        return
    was, wanted = lengths(label, before), lengths(out, after)
    now = op.new_value(1)
    if now is None or len(now) != len(wanted):
        raise Inconsistent(op.node, "its target can't be computed any more", np.zeros(0, np.int64))
    zero_copies = not op.attr("allowzero", 0)
    result = [
        int(n) if n == -1 or (n == 0 and zero_copies and k < len(was) and was[k] == w) else w
        for k, (n, w) in enumerate(zip(now, wanted, strict=True))
    ]
    name = op.node.inputs[1]
    if op.walk.facts.is_dynamic(name) and -1 not in result:
        dynamic = op.walk.facts.dynamic[name]
        changed = [k for k in range(len(result)) if dynamic[k] and now[k] != result[k]]
        if len(changed) == 1:
            result[changed[0]] = -1
    op.set_value(1, np.asarray(result), lengths=True)


def flatten(op: Op) -> list[Label]:
    """To two axes, split at `axis`."""
    before, after = op.shape(0), op.out_shape(0)
    if before is None or after is None:
        return op.unknown("the shape of its input is not known")
    return [rearrange(op, op.label(0), before, after)]


def squeeze(op: Op) -> list[Label]:
    """Squeeze and Unsqueeze: axes of length 1 come and go."""
    before, after = op.shape(0), op.out_shape(0)
    if op.has(1):
        axes = op.value(1)
        if axes is not None:
            op.set_value(1, axes)
    if before is None or after is None:
        return op.unknown("the shape of its input is not known")
    return [rearrange(op, op.label(0), before, after)]


# ---------------------------------------------------------------- repeating


def _grown(op: Op, shape: Shape, label: Label, out: Shape, dynamic: Sequence[bool]) -> Label:
    """Labels for axes that were 1 and are repeated: they may be narrower, so they have ids of their own."""
    shift = len(out) - len(shape)
    moved = tuple(b.moved([a + shift for a in b.axes]) for b in label)
    grown = [
        op.walk.fresh(op.node, (n,), (a,))
        for a, n in enumerate(out)
        if n > 1 and not dynamic[a] and (a < shift or shape[a - shift] == 1)
    ]
    return (*moved, *grown)


def expand(op: Op) -> list[Label]:
    """Broadcast to a shape."""
    shape, out, target = op.shape(0), op.out_shape(0), op.value(1)
    if shape is None or out is None or target is None:
        return op.unknown("the shape that Expand makes is not known")
    flags = _dynamic(op, 1, len(out))
    label = _grown(op, shape, op.label(0), out, flags)
    wanted = lengths(label, out)[len(out) - len(target) :]
    op.set_value(1, np.asarray([1 if t == 1 else w for t, w in zip(target, wanted, strict=True)]))
    return [label]


def _dynamic(op: Op, i: int, rank: int) -> list[bool]:
    flags = op.walk.facts.dynamic.get(op.node.inputs[i])
    found = [] if flags is None else [bool(f) for f in flags]
    return [False] * (rank - len(found)) + found


def constant_of_shape(op: Op) -> list[Label]:
    """One value everywhere: any axis may be narrower."""
    out, target = op.out_shape(0), op.value(0)
    if out is None or target is None:
        return [()]
    label = _grown(op, (), (), out, _dynamic(op, 0, len(out)))
    op.set_value(0, np.asarray(lengths(label, out)))
    return [label]


def tile(op: Op) -> list[Label]:
    """Axes repeated as a whole."""
    shape, out, repeats = op.shape(0), op.out_shape(0), op.value(1)
    if shape is None or out is None or repeats is None:
        return op.unknown("the repeats of the Tile are not known")
    blocks = []
    for block in op.label(0):
        times = [int(repeats[a]) for a in block.axes]
        blocks.append(block.map(block.axes, lambda a, times=times: np.tile(a, times)))  # type: ignore[misc]
    flags = _dynamic(op, 1, len(out))
    grown = [
        op.walk.fresh(op.node, (n,), (a,))
        for a, n in enumerate(out)
        if shape[a] == 1 and n > 1 and not flags[a] and block_on(op.label(0), a) is None
    ]
    label = (*blocks, *grown)
    wanted = lengths(label, out)
    op.set_value(1, np.asarray([w if s == 1 else r for w, s, r in zip(wanted, shape, repeats, strict=True)]))
    return [label]


RULES: dict[str, Rule] = {
    "Transpose": transpose,
    "Identity": identity,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": squeeze,
    "Expand": expand,
    "ConstantOfShape": constant_of_shape,
    "Tile": tile,
}
