"""Repair from the inputs to the outputs: each consumer is fitted to what the repaired part before it gives.

Fitting all at once, to what the unrepaired graph gives, does not work at all: each would make up for the same
loss again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..execution.linalg import threads_for
from ..execution.prefix import Prefix, Shelf, ancestors
from ..graph import Array, Edits, Graph, Node, Shape
from ..ops.layers import Layout, layer_at
from ..ops.layers.bias import Intercept, intercept
from .consumers import Consumer, consumers, stages
from .nonlinear import Rows, refitted
from .regression import Covariance, Fit, Sums, fit
from .response import Function, function
from .restoring import narrowed, restore_behind, restored
from .surgery import Surgery
from .targets import Target, Wanted, targets


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
        wanted = targets(surgery, found, Prefix(batches, shelf), shelf, seed)
        return _Run(surgery, found, wanted, Prefix(batches, shelf), shelf).finished(weights, progress)
    finally:
        shelf.close()


@dataclass(frozen=True)
class _Run:
    """The stages, one after the other."""

    surgery: Surgery
    found: Mapping[str, Consumer]
    wanted: Mapping[str, Wanted]
    after: Prefix
    shelf: Shelf

    def finished(
        self, weights: bool, progress: Callable[[int, int], None]
    ) -> tuple[Graph, tuple[Repaired, ...]]:
        """Fit all consumers."""
        now: Graph = self.surgery.pruned
        report: list[Repaired] = []
        stage = stages(self.surgery.graph, self.found)
        number = {key: stage[self.surgery.graph.producer[key].index] for key in self.found}
        last = max(number.values())
        for step in range(last + 1):
            progress(step, last + 1)
            jobs = [
                _Job(self.surgery, now, c, self.wanted[c.key], self.shelf)
                for c in self.found.values()
                if number[c.key] == step
            ]
            for index, values in enumerate(self._advanced(now, step, {t for j in jobs for t in j.taps})):
                for job in jobs:
                    with job.threads():
                        job.add(index, values)
            edits = Edits()
            for job in jobs:
                with job.threads():
                    report += job.finish(edits, weights)
            if edits:
                now = now.edited(edits)
        return now, tuple(report)

    def _advanced(self, graph: Graph, step: int, taps: Iterable[str]) -> Iterable[dict[str, Array]]:
        """Evaluate what a step needs; a consumer runs only in the step after its repair."""
        stage = stages(graph, self.found)
        needed = ancestors(graph, self.found)

        def when(node: Node) -> int:
            return stage[node.index] + (node.outputs[0] in self.found)

        relevant = [n for n in graph.nodes if n.index in needed and n.outputs]
        now = [n for n in relevant if when(n) == step]
        later = [n for n in relevant if when(n) > step]
        return self.after.advance(graph, now, later, sorted(taps))


class _Job:
    """The fit of one consumer."""

    def __init__(
        self, surgery: Surgery, now: Graph, consumer: Consumer, wanted: Wanted, shelf: Shelf
    ) -> None:
        self.consumer = consumer
        self._keep = surgery.restored.get(consumer.key)
        self._now = now
        self._node = now.producer[consumer.key]
        self._weight = now.array(self._node.inputs[consumer.weight])
        self._intercept = intercept(now, self._node, consumer.weight)
        self._wanted = wanted
        self._shelf = shelf
        self._sums = (Sums(), Sums())
        self._rows: list[Rows] = []
        self._layout: Layout | None = None
        self._function: Function | None = None

    @property
    def _data(self) -> str:
        """The tensor that it reads now, which may be one that a repair before it has made."""
        return self._node.inputs[1 - self.consumer.weight]

    @property
    def taps(self) -> list[str]:
        """All that it needs to see."""
        beside = self._wanted.shortcut
        return [self._data, *([beside.other(self._now)] if beside else [])]

    def threads(self) -> AbstractContextManager[None]:
        """As many as its sums are worth."""
        return threads_for(self._weight.size // max(1, *self._weight.shape[:2]))

    def add(self, index: int, values: Mapping[str, Array]) -> None:
        """Take the rows of a batch: what is read now, and what is wanted."""
        for target in self._wanted.batches[index]:
            if self._intercept is not None:
                self._take(self._intercept, target, *(values[name] for name in self.taps))
            self._shelf.drop(target.values)

    def _take(self, slot: Intercept, target: Target, data: Array, other: Array | None = None) -> None:
        if self._layout is None:
            self._begin(target.shape)
        if self._layout is None:
            return
        p, y = self._layout.patches(data, target.shape, target.rows), target.values
        added = np.zeros((1, 1, 1), np.float32)
        if other is not None:
            if _without(other.shape, self._layout.outputs) != _without(target.shape, self._layout.outputs):
                raise InputError(
                    "a shortcut has another size than what it is added to", where=str(self._node)
                )
            added = self._layout.targets(other, target.rows).astype(np.float32)
            added += slot.behind().astype(np.float32).reshape(len(added), 1, -1)
            y = y - added
        self._sums[target.half].add(p, y)
        if self._function is not None:
            self._rows.append(Rows(p, y, added).put(self._shelf))

    def _begin(self, y: Shape) -> None:
        """Find out how things lie, now that the rank is known."""
        layer = layer_at(self._now, self._node)
        self._layout = None if layer is None or len(y) < 2 else layer.layout
        beside, dtype = self._wanted.shortcut, self._weight.dtype
        if self._layout is not None and not self.consumer.recurrent and self._keep is None:
            start = beside.sum if beside else self.consumer.key
            self._function = function(self._now, start, dtype, y, self._layout.outputs)

    def finish(self, edits: Edits, weights: bool) -> list[Repaired]:
        """Fit, and write down what to change."""
        slot = self._intercept
        if slot is None or self._layout is None or not all(s.rows for s in self._sums):
            return []
        start = self._layout.matrix(self._weight.astype(np.float64))
        a, b = (s.covariance(centred=slot.possible or self._keep is not None) for s in self._sums)
        bias = slot.now(start.shape[0] * start.shape[1]).reshape(start.shape[:2])
        result = fit((a, b), start, bias, weights=weights)
        if self._function is not None and np.isfinite(result.penalty):
            whole = a.joined(b)
            result = refitted(result, start, whole, self._rows, self._function, biased=slot.possible)
        if self._keep is not None:
            result = self._restore(edits, slot, self._layout, result, (a, b), self._keep)
        elif result.after < result.before:
            self._write(edits, slot, self._layout, result)
        for part in self._rows:
            part.drop(self._shelf)
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


def _without(shape: Shape, axis: int) -> Shape:
    """All axes but one."""
    return tuple(n for k, n in enumerate(shape) if k != axis % len(shape))


def _narrow(node: Node, weight: Shape, matrix: Shape) -> Shape:
    """The shape of a weight with only the outputs of `matrix` (G, K, F)."""
    if node.op == "ConvTranspose":
        return (weight[0], matrix[1], *weight[2:])
    return (matrix[0] * matrix[1], *weight[1:])
