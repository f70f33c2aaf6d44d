"""What the original makes of each consumer, at the rows that a fit looks at.

The original never changes, so many consumers are seen in one pass, and only their rows are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..execution.prefix import Prefix, Shelf, ancestors
from ..graph import Array, Graph, Shape
from ..ops.layers import Entries, Layout, Rows, layer_at
from .consumers import Consumer
from .response import Shortcut, shortcut
from .surgery import Surgery

MIN_ROWS = 4096
ROWS_PER_INPUT = 12
"""A fit looks at no more rows than these: twice as many lower what digits lose by 3%, in twice the time."""

TOGETHER = 16
"""Consumers to see in one pass. Their outputs for a batch are in memory at once; each stop costs time."""


@dataclass(frozen=True, eq=False)
class Target:
    """What one half of the samples wants of a consumer, as far as one batch tells.

    Attributes:
        half: 0 or 1.
        rows: int64, which rows of the batch.
        shape: of the output for the batch.
        values: (G, R, O), what should come out there.
    """

    half: int
    rows: Rows
    shape: Shape
    values: Array


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is wanted of a consumer.

    Attributes:
        shortcut: what the targets have in them, too, if anything.
        batches: targets of each batch.
    """

    shortcut: Shortcut | None
    batches: list[list[Target]]


def targets(
    surgery: Surgery, found: Mapping[str, Consumer], before: Prefix, shelf: Shelf, seed: int
) -> Mapping[str, Wanted]:
    """Evaluate the original, and keep what the fits look at.

    Args:
        surgery: what was done.
        found: the consumers.
        before: the samples.
        shelf: where to keep it.
        seed: which rows are taken where there are more than enough.
    """
    random = np.random.default_rng(seed)
    views = [_View(surgery, consumer, shortcut(surgery, consumer, found)) for consumer in found.values()]
    result = {view.key: Wanted(view.shortcut, []) for view in views}
    for seen, outputs in _passes(surgery.graph, views, before):
        for index, values in enumerate(outputs):
            for view in seen:
                taken = view.taken(values[view.tensor], index, len(before), random)
                result[view.key].batches.append([_kept(target, shelf) for target in taken])
    return result


def _kept(target: Target, shelf: Shelf) -> Target:
    return replace(target, values=shelf.put(np.ascontiguousarray(target.values)))


def _passes(
    graph: Graph, views: Sequence[_View], before: Prefix
) -> Iterator[tuple[Sequence[_View], Iterator[dict[str, Array]]]]:
    """Some consumers at a time, and their tensors for each batch."""
    makers = {
        view: graph.producer[view.tensor].index if view.tensor in graph.producer else -1 for view in views
    }
    left = sorted(views, key=makers.__getitem__)
    needed = ancestors(graph, {view.tensor for view in left})
    while left:
        now = {-1} | ancestors(graph, {view.tensor for view in left[:TOGETHER]}) & needed
        seen = [view for view in left if makers[view] in now]
        left = [view for view in left if view not in seen]
        needed -= now
        nodes, later = ([n for n in graph.nodes if n.index in indices] for indices in (now, needed))
        yield seen, before.advance(graph, nodes, later, sorted({view.tensor for view in seen}))


class _View:
    """Which part of a tensor a consumer is to give."""

    def __init__(self, surgery: Surgery, consumer: Consumer, beside: Shortcut | None) -> None:
        self.key = consumer.key
        self.shortcut = beside
        self.tensor = beside.sum if beside else consumer.data if consumer.recurrent else consumer.key
        self._surgery = surgery
        self._consumer = consumer
        self._node = surgery.pruned.producer[consumer.key]
        self._weight = surgery.pruned.array(self._node.inputs[consumer.weight])
        self._entries = surgery.entries(self.tensor)

    def taken(self, value: Array, index: int, count: int, random: np.random.Generator) -> list[Target]:
        """Of batch `index` of `count`; nothing where it can't be told how its rows lie."""
        y = self._gates(value) if self._consumer.recurrent else value
        place = self._place(y.shape)
        if place is None:
            return []
        y, entries = self._stays(y, place.outputs)
        chosen = self._chosen(index, count, place, y.shape, random)
        return [
            Target(half, rows, y.shape, place.targets(y, rows, entries)) for half, rows in chosen if rows.size
        ]

    def _place(self, y: Shape) -> Layout | None:
        layer = layer_at(self._surgery.pruned, self._node)
        return None if layer is None or len(y) < 2 else layer.layout

    def _stays(self, y: Array, outputs: int) -> tuple[Array, Entries]:
        """What stays of the wanted outputs, or all and which of them; picking rows first is much cheaper."""
        if self._consumer.recurrent:
            return y, None
        if self._entries is not None and self._entries[0] == outputs % y.ndim:
            return y, self._entries[1]
        return self._surgery.part(self.tensor, y), None

    def _gates(self, x: Array) -> Array:
        """What the weights of a recurrent layer make of what the original reads."""
        node = self._surgery.graph.producer[self.key]
        rows = self._surgery.rows_of(node.inputs[1], (3,))
        return np.asarray(x.astype(np.float32) @ rows.reshape(-1, rows.shape[-1]).T.astype(np.float32))

    def _chosen(
        self, index: int, count: int, place: Layout, y: Shape, random: np.random.Generator
    ) -> Sequence[tuple[int, Rows]]:
        """Rows to take, and the half that they go to: batches in turn, or else halves of the only one.

        Rows of one sample are much alike, so they must not be in both halves if there is another sample.
        """
        rows = place.rows(y)
        inputs = place.matrix(self._weight).shape[-1]
        most = max(MIN_ROWS, ROWS_PER_INPUT * inputs) // count + 1
        chosen = np.arange(rows)
        if rows > most:
            chosen = np.sort(random.choice(rows, most, replace=False))
        if count > 1:
            return [(index % 2, chosen)]
        sample = place.sample(y, chosen)
        middle = (int(sample.min()) + int(sample.max()) + 1) / 2
        if sample.min() == sample.max():
            return list(enumerate(np.array_split(chosen, 2)))
        return [(0, chosen[sample < middle]), (1, chosen[sample >= middle])]
