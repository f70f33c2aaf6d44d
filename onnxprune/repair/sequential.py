"""Repair from the inputs to the outputs: each consumer is fitted to what the repaired part before it gives.

Fitting all at once, to what the unrepaired graph gives, does not work at all: each would make up for the same
loss again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from ..graph import Array, Edits, Graph, Node, Shape
from ..linalg import threads_for
from ..prefix import Prefix, Shelf, ancestors
from .consumers import Consumer, consumers, layout, stages
from .intercept import Intercept, intercept
from .layout import Layout
from .regression import Covariance, Fit, Sums, fit
from .restoring import narrowed, restore_behind, restored
from .surgery import Surgery

MIN_ROWS = 8192
ROWS_PER_INPUT = 16
"""A fit looks at no more rows than these: more change nothing and cost time."""


@dataclass(frozen=True)
class Repaired:
    """What became of one consumer.

    Attributes:
        node: its name.
        penalty: the ridge; infinite where only the bias, or nothing, was changed.
        before: relative squared error of its output without repair, on samples that were not fitted.
        after: with it.
        rows: how many rows were fitted.
        inputs: how many weights each output has.
    """

    node: str
    penalty: float
    before: float
    after: float
    rows: int
    inputs: int


def fold(
    surgery: Surgery,
    batches: Iterable[Mapping[str, Array]],
    *,
    weights: bool = True,
    memory: float = 2e9,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Graph, tuple[Repaired, ...]]:
    """Fit the consumers of what was removed, one stage after the other.

    Args:
        surgery: what was done.
        batches: inputs, gone through twice; two batches or more, as one half judges what the other has
            fitted.
        weights: whether weights may change, or biases only.
        memory: bytes of activations to hold before they go to a temporary folder.
        seed: which rows are taken where there are more than enough.
        progress: told how many stages are done, of how many.

    Returns:
        The repaired graph, and a line for each consumer.
    """
    found = {c.key: c for c in consumers(surgery, depthwise=not weights)}
    if not found:
        return surgery.pruned, ()
    shelf = Shelf(memory)
    try:
        before, after = Prefix(batches, shelf), Prefix(batches, shelf)
        return _run(surgery, found, before, after, (weights, seed), progress)
    finally:
        shelf.close()


def _run(
    surgery: Surgery,
    found: Mapping[str, Consumer],
    before: Prefix,
    after: Prefix,
    settings: tuple[bool, int],
    progress: Callable[[int, int], None],
) -> tuple[Graph, tuple[Repaired, ...]]:
    weights, seed = settings
    now, report = surgery.pruned, []
    random = np.random.default_rng(seed)
    stage = stages(surgery.graph, found)
    number = {key: stage[surgery.graph.producer[key].index] for key in found}
    last = max(number.values())
    for step in range(last + 1):
        progress(step, last + 1)
        jobs = [_Job(surgery, now, c, random) for c in found.values() if number[c.key] == step]
        old = _advanced(before, surgery.graph, found, step, {j.wanted for j in jobs}, repaired_first=False)
        new = _advanced(after, now, found, step, {j.data for j in jobs}, repaired_first=True)
        for index, (y, p) in enumerate(zip(old, new, strict=True)):
            for job in jobs:
                with job.threads():
                    job.add(index, len(before), p[job.data], y[job.wanted])
        edits = Edits()
        for job in jobs:
            with job.threads():
                report += job.finish(edits, weights)
        if edits:
            now = now.edited(edits)
    return now, tuple(report)


def _advanced(
    prefix: Prefix,
    graph: Graph,
    found: Mapping[str, Consumer],
    step: int,
    taps: Iterable[str],
    *,
    repaired_first: bool,
) -> Iterable[dict[str, Array]]:
    """Evaluate what a step needs; a consumer of the pruned graph runs only in the step after its repair."""
    stage = stages(graph, found)
    needed = ancestors(graph, found)

    def when(node: Node) -> int:
        return stage[node.index] + (repaired_first and node.outputs[0] in found)

    relevant = [n for n in graph.nodes if n.index in needed and n.outputs]
    now = [n for n in relevant if when(n) == step]
    later = [n for n in relevant if when(n) > step]
    return prefix.advance(graph, now, later, sorted(taps))


class _Job:
    """The fit of one consumer."""

    def __init__(self, surgery: Surgery, now: Graph, consumer: Consumer, random: np.random.Generator) -> None:
        self.consumer = consumer
        self._surgery = surgery
        self._now = now
        self._random = random
        self._node = now.producer[consumer.key]
        self._weight = now.array(self._node.inputs[consumer.weight])
        self._intercept = intercept(now, self._node, consumer.weight)
        self._sums = (Sums(), Sums())
        self._layout: Layout | None = None
        self._kept = surgery.entries(consumer.key)

    @property
    def data(self) -> str:
        """The tensor that it reads now, which may be one that a repair before it has made."""
        return self._node.inputs[1 - self.consumer.weight]

    @property
    def wanted(self) -> str:
        """The tensor of the original graph that says what should come out."""
        return self.consumer.data if self.consumer.recurrent else self.consumer.key

    def threads(self) -> AbstractContextManager[None]:
        """As many as its sums are worth."""
        return threads_for(self._weight.size // max(1, *self._weight.shape[:2]))

    def add(self, index: int, count: int, p: Array, y: Array) -> None:
        """Take batch `index` of `count`: what is read now, and what is wanted."""
        if self._intercept is None:
            return
        if self.consumer.recurrent:
            y = self._gates(y)
        self._layout = layout(self._node, self.consumer.weight, self._weight.shape, p.shape, y.shape)
        if self._layout is None:
            return
        y, entries = self._stays(y, self._layout.outputs)
        for sums, rows in self._chosen(index, count, self._layout, y.shape):
            if rows.size:
                patches = self._layout.patches(p, y.shape, rows)
                sums.add(patches, self._layout.targets(y, rows, entries))

    def _stays(self, y: Array, outputs: int) -> tuple[Array, Array | None]:
        """What stays of the wanted outputs, or all and which of them; picking rows first is much cheaper."""
        if self.consumer.recurrent:
            return y, None
        if self._kept is not None and self._kept[0] == outputs % y.ndim:
            return y, self._kept[1]
        return self._surgery.part(self.consumer.key, y), None

    def _gates(self, x: Array) -> Array:
        """What the weights of a recurrent layer make of what the original reads."""
        node = self._surgery.graph.producer[self.consumer.key]
        rows = self._surgery.rows_of(node.inputs[1], (3,))
        return np.asarray(x.astype(np.float32) @ rows.reshape(-1, rows.shape[-1]).T.astype(np.float32))

    def _chosen(self, index: int, count: int, place: Layout, y: Shape) -> Sequence[tuple[Sums, Array]]:
        """Rows to take, and the half that they go to: batches in turn, or else halves of the only one.

        Rows of one sample are much alike, so they must not be in both halves if there is another sample.
        """
        rows = place.rows(y)
        inputs = self._weight.size // max(1, self._weight.shape[0])
        most = max(MIN_ROWS, ROWS_PER_INPUT * inputs) // count + 1
        chosen = np.arange(rows)
        if rows > most:
            chosen = np.sort(self._random.choice(rows, most, replace=False))
        if count > 1:
            return [(self._sums[index % 2], chosen)]
        sample = place.sample(y, chosen)
        middle = (int(sample.min()) + int(sample.max()) + 1) / 2
        if sample.min() == sample.max():
            return list(zip(self._sums, np.array_split(chosen, 2), strict=True))
        return [(self._sums[0], chosen[sample < middle]), (self._sums[1], chosen[sample >= middle])]

    def finish(self, edits: Edits, weights: bool) -> list[Repaired]:
        """Fit, and write down what to change."""
        slot = self._intercept
        if slot is None or self._layout is None or not all(s.rows for s in self._sums):
            return []
        start = self._layout.matrix(self._weight.astype(np.float64))
        keep = self._surgery.restored.get(self.consumer.key)
        a, b = (s.covariance(centred=slot.possible or keep is not None) for s in self._sums)
        bias = slot.now(start.shape[0] * start.shape[1]).reshape(start.shape[:2])
        result = fit((a, b), start, bias, weights=weights)
        if keep is not None:
            result = self._restore(edits, slot, self._layout, result, (a, b), keep)
        elif result.after < result.before:
            self._write(edits, slot, self._layout, result)
        name = self._node.name or self.consumer.key
        rows = a.rows + b.rows
        return [Repaired(name, result.penalty, result.before, result.after, rows, start.shape[-1])]

    def _write(self, edits: Edits, slot: Intercept, place: Layout, result: Fit) -> None:
        if np.isfinite(result.penalty):
            new = place.restored(result.weights, self._weight.shape)
            edits.constants[self._node.inputs[self.consumer.weight]] = new.astype(self._weight.dtype)
        slot.write(edits, result.bias.ravel(), self._weight)

    def _restore(
        self,
        edits: Edits,
        slot: Intercept,
        place: Layout,
        found: Fit,
        halves: tuple[Covariance, Covariance],
        keep: Array,
    ) -> Fit:
        """Keep some outputs alone, and put a layer behind that restores the others."""
        weights, bias, selection = narrowed(self._node, found, keep)
        new = place.restored(weights, _narrow(self._node, self._weight.shape, weights.shape))
        edits.constants[self._node.inputs[self.consumer.weight]] = new.astype(self._weight.dtype)
        if self._node.op != "MatMul":
            slot.write(edits, bias.ravel(), self._weight)
        result = restored(halves, weights, bias, selection)
        restore_behind(edits, self._now, self._node, place, result, self._weight)
        return result


def _narrow(node: Node, weight: Shape, matrix: Shape) -> Shape:
    """The shape of a weight with only the outputs of `matrix` (G, K, F)."""
    if node.op == "ConvTranspose":
        return (weight[0], matrix[1], *weight[2:])
    return (matrix[0] * matrix[1], *weight[1:])
