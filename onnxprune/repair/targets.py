"""What the original gives at each layer that is fitted, at the rows that the fit looks at.

The original never changes, so many layers are seen in one pass, and only their rows are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..execution.prefix import ActivationStore, Prefix, ancestors
from ..graph import Array, Graph, Shape
from ..ops.layers import Entries, Layout, LinearLayer, Rows
from .response import Shortcut, shortcut
from .task import Task

MIN_ROWS = 4096
ROWS_PER_INPUT = 12
"""A fit looks at no more rows than these: twice as many lower what digits lose by 3%, in twice the time."""

TOGETHER = 16
"""Layers to see in one pass. Their outputs for a batch are in memory at once; each stop costs time."""


@dataclass(frozen=True, eq=False)
class Target:
    """What one half of the samples wants of a layer, from one batch.

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
class LayerTargets:
    """What is wanted of a layer.

    Attributes:
        shortcut: what the targets have in them, too, if anything.
        batches: targets of each batch.
    """

    shortcut: Shortcut | None
    batches: list[list[Target]]


def targets(
    task: Task, found: Mapping[str, LinearLayer], before: Prefix, store: ActivationStore, seed: int
) -> Mapping[str, LayerTargets]:
    """Evaluate the original, and keep what the fits look at.

    Args:
        task: what was done.
        found: the layers, by their outputs.
        before: the samples.
        store: where to keep it.
        seed: which rows are taken where there are more than enough.
    """
    random = np.random.default_rng(seed)
    views = [_View(task, layer, shortcut(task, layer, found)) for layer in found.values()]
    result = {view.key: LayerTargets(view.shortcut, []) for view in views}
    for seen, outputs in _passes(task.origin.graph, views, before):
        for index, values in enumerate(outputs):
            for view in seen:
                taken = view.taken(values[view.tensor], index, len(before), random)
                result[view.key].batches.append([_kept(target, store) for target in taken])
    return result


def _kept(target: Target, store: ActivationStore) -> Target:
    return replace(target, values=store.put(np.ascontiguousarray(target.values)))


def _passes(
    graph: Graph, views: Sequence[_View], before: Prefix
) -> Iterator[tuple[Sequence[_View], Iterator[dict[str, Array]]]]:
    """Some layers at a time, and their tensors for each batch."""
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
    """Which part of a tensor a layer is to give."""

    def __init__(self, task: Task, layer: LinearLayer, beside: Shortcut | None) -> None:
        self.key = layer.output
        self.shortcut = beside
        self.tensor = beside.sum if beside else _data(task, layer) if layer.row.recurrent else layer.output
        self._task = task
        self._layer = layer
        self._fan_in = layer.layout.fan_in(task.network.graph.shape_of_constant(layer.weight))
        self._entries = task.trace.entries(self.tensor)

    def taken(self, value: Array, index: int, count: int, random: np.random.Generator) -> list[Target]:
        """Of batch `index` of `count`; nothing where the order of its rows is unknown."""
        y = self._gates(value) if self._layer.row.recurrent else value
        if y.ndim < 2:
            return []
        layout = self._layer.layout
        y, entries = self._stays(y, layout.outputs)
        chosen = self._chosen(index, count, layout, y.shape, random)
        return [
            Target(half, rows, y.shape, layout.targets(y, rows, entries))
            for half, rows in chosen
            if rows.size
        ]

    def _stays(self, y: Array, outputs: int) -> tuple[Array, Entries]:
        """What stays of the wanted outputs, or all and which of them; picking rows first is much cheaper."""
        if self._layer.row.recurrent:
            return y, None
        if self._entries is not None and self._entries[0] == outputs % y.ndim:
            return y, self._entries[1]
        return self._task.trace.part(self.tensor, y), None

    def _gates(self, x: Array) -> Array:
        """What the weights of a recurrent layer make of what the original reads."""
        graph, layer = self._task.origin.graph, self._layer
        weight = graph.array(graph.producer[layer.output].inputs[layer.input])
        rows = np.arange(weight.size // weight.shape[-1]).reshape(*weight.shape[:-1], 1)
        left = self._task.trace.weight(layer.output, layer.input, np.broadcast_to(rows, weight.shape))
        kept = weight.reshape(-1, weight.shape[-1])[left[..., 0].ravel()]
        return np.asarray(x.astype(np.float32) @ kept.T.astype(np.float32))

    def _chosen(
        self, index: int, count: int, layout: Layout, y: Shape, random: np.random.Generator
    ) -> Sequence[tuple[int, Rows]]:
        """Rows to take, and the half that they go to: batches in turn, or else halves of the only one.

        Rows of one sample are much alike, so they must not be in both halves if there is another sample.
        """
        rows = layout.rows(y)
        most = max(MIN_ROWS, ROWS_PER_INPUT * self._fan_in) // count + 1
        chosen = np.arange(rows)
        if rows > most:
            chosen = np.sort(random.choice(rows, most, replace=False))
        if count > 1:
            return [(index % 2, chosen)]
        sample = layout.sample(y, chosen)
        middle = (int(sample.min()) + int(sample.max()) + 1) / 2
        if sample.min() == sample.max():
            return list(enumerate(np.array_split(chosen, 2)))
        return [(0, chosen[sample < middle]), (1, chosen[sample >= middle])]


def _data(task: Task, layer: LinearLayer) -> str:
    """What a layer reads in the original."""
    return task.origin.graph.producer[layer.output].inputs[layer.row.data(layer.input)]
