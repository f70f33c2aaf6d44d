"""Channel ids on tensor axes: the data that flows through the graph.

A `Block` names every index of one axis, or every cell of a grid of several axes, by an id. It holds
the ids twice: `old`, of the graph as it is, and `new`, of the same axes once the removed ids are gone.
While a graph is being analysed nothing is removed yet and both are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph import Shape

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Ids over some axes of a tensor.

    Attributes:
        axes: ascending.
        old: shape: the lengths of these axes.
        new: shape: their lengths after the removal.
    """

    axes: tuple[int, ...]
    old: Ids
    new: Ids

    def map(self, axes: Sequence[int], function: Callable[[Ids], Ids]) -> Block:
        """The same function of both arrays, on other axes."""
        return Block(tuple(axes), function(self.old), function(self.new))

    def moved(self, axes: Sequence[int]) -> Block:
        """The same ids where axis `self.axes[k]` has become axis `axes[k]`."""
        order = sorted(range(len(axes)), key=lambda k: axes[k])
        return self.map([axes[k] for k in order], lambda a: a.transpose(order))

    def on(self, axes: Sequence[int]) -> Block:
        """Without those of its axes that are not among `axes`, all of length 1."""
        index = tuple(slice(None) if a in axes else 0 for a in self.axes)
        return self.map([a for a in self.axes if a in axes], lambda a: a[index])

    def folded(self, kept: Sequence[int]) -> tuple[Ids, Ids]:
        """Both arrays with the axes `kept` in front and the others flattened behind them."""
        front = [self.axes.index(a) for a in kept]
        back = [k for k in range(len(self.axes)) if k not in front]

        def fold(a: Ids) -> Ids:
            moved = a.transpose(front + back)
            return moved.reshape(*moved.shape[: len(front)], -1)

        return fold(self.old), fold(self.new)


Label = tuple[Block, ...]
"""What is known of one tensor; axes that no block covers are not made of channels."""


def block_on(label: Label, axis: int) -> Block | None:
    """The block that covers an axis."""
    return next((b for b in label if axis in b.axes), None)


def uniform(ids: Ids) -> bool:
    """Whether ids are the same all along the last axis."""
    return bool((ids == ids[..., :1]).all())


def distinct(ids: Ids) -> Ids:
    """Each id once, ascending; faster than `np.unique` on arrays as short as these."""
    ordered = np.sort(ids, axis=None)
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if ordered.size else ordered


def rank(ids: Ids) -> Ids:
    """How often each id of a flat array has occurred before."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, ids.size])
    result = np.empty(ids.size, np.int64)
    result[order] = np.arange(ids.size) - np.repeat(starts, counts)
    return result


def locate(old: Ids, new: Ids) -> Ids:
    """Flat position in `old` of every entry of `new`, in the shape of `new`.

    The n-th occurrence of an id in one is the n-th in the other, as an id goes with all its occurrences.
    """
    flat, wanted = old.ravel(), new.ravel()
    if flat.size == 0 or wanted.size == 0:
        return np.zeros(new.shape, np.int64)
    if (flat[1:] > flat[:-1]).all():
        return np.searchsorted(flat, new)
    span = np.int64(flat.size + 1)
    keys = flat * span + rank(flat)
    order = np.argsort(keys)
    found = np.minimum(np.searchsorted(keys[order], wanted * span + rank(wanted)), flat.size - 1)
    return order[found].reshape(new.shape)


def rectangle(kept: NDArray[np.bool_]) -> tuple[int, ...] | None:
    """The shape that the kept cells of a grid close up to, or `None` where they leave holes.

    Rows that are gone drop out; those that stay must close up to one and the same shape.
    """
    shape: tuple[int, ...] = ()
    while kept.ndim:
        counts = kept.sum(axis=-1)
        kept = counts > 0
        length = int(counts.max(initial=0))
        if (counts[kept] != length).any():
            return None
        shape = (length, *shape)
    return shape


def lengths(label: Label, shape: Shape) -> Shape:
    """A shape with the new lengths of labelled axes."""
    result = list(shape)
    for block in label:
        for axis, length in zip(block.axes, block.new.shape, strict=True):
            result[axis] = length
    return tuple(result)


def single(label: Label, axis: int) -> Block | None:
    """The block on an axis if that is all it covers."""
    block = block_on(label, axis)
    return block if block is not None and block.axes == (axis,) else None
