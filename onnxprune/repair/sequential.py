"""Repair from the inputs to the outputs: each layer is fitted to what the repaired part before it gives.

Fitting all at once, to what the unrepaired graph gives, does not work at all: each would make up for the same
loss again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..contracts.repaired import LayerFit
from ..errors import InputError
from ..execution.linalg import threads_for
from ..execution.prefix import ActivationStore, Prefix, ancestors
from ..graph import Array, Edits, Graph, Network, Node, Shape
from ..ops.layers import LinearLayer
from ..ops.layers.bias import Intercept, intercept
from ..types import Mask
from .fitted import fitted_layers, stages
from .nonlinear import FitRows, refitted
from .regression import Fit, Sums, fit
from .response import Function, function
from .targets import LayerTargets, Target, targets
from .task import Task


def fold(
    task: Task,
    batches: Iterable[Mapping[str, Array]],
    *,
    weights: bool = True,
    memory: float = 2e9,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Network, tuple[LayerFit, ...]]:
    """Fit the layers behind what was removed, one stage after the other.

    Args:
        task: what was done.
        batches: inputs, gone through twice; two batches or more, as one half judges what the other has
            fitted.
        weights: whether weights may change, or biases only.
        memory: bytes of activations to hold before they go to a temporary folder.
        seed: which rows are taken where there are more than enough.
        progress: called with how many stages are done, of how many.

    Returns:
        The repaired network, and what became of each layer.
    """
    found = {layer.output: layer for layer in fitted_layers(task, depthwise=not weights)}
    if not found:
        return task.network, ()
    store = ActivationStore(memory)
    try:
        wanted = targets(task, found, Prefix(batches, store), store, seed)
        return _Run(task, found, wanted, Prefix(batches, store), store).finished(weights, progress)
    finally:
        store.close()


@dataclass(frozen=True)
class _Run:
    """The stages, one after the other."""

    task: Task
    found: Mapping[str, LinearLayer]
    wanted: Mapping[str, LayerTargets]
    after: Prefix
    store: ActivationStore

    def finished(
        self, weights: bool, progress: Callable[[int, int], None]
    ) -> tuple[Network, tuple[LayerFit, ...]]:
        """Fit all layers."""
        now = self.task.network.graph
        report: list[LayerFit] = []
        stage = stages(self.task.origin.graph, self.found)
        number = {key: stage[self.task.origin.graph.producer[key].index] for key in self.found}
        last = max(number.values())
        for step in range(last + 1):
            progress(step, last + 1)
            jobs = [
                _Job(self.task, now, layer, self.wanted[key], self.store)
                for key, layer in self.found.items()
                if number[key] == step
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
        return self.task.network.of(now), tuple(report)

    def _advanced(self, graph: Graph, step: int, taps: Iterable[str]) -> Iterable[dict[str, Array]]:
        """Evaluate what a step needs; a layer runs only in the step after its repair."""
        stage = stages(graph, self.found)
        needed = ancestors(graph, self.found)

        def when(node: Node) -> int:
            return stage[node.index] + (node.outputs[0] in self.found)

        relevant = [n for n in graph.nodes if n.index in needed and n.outputs]
        now = [n for n in relevant if when(n) == step]
        later = [n for n in relevant if when(n) > step]
        return self.after.advance(graph, now, later, sorted(taps))


class _Job:
    """The fit of one layer."""

    def __init__(
        self, task: Task, now: Graph, layer: LinearLayer, wanted: LayerTargets, store: ActivationStore
    ) -> None:
        self._task, self._layer = task, layer
        self._now = now
        self._node = now.producer[layer.output]
        self._weight = now.array(self._node.inputs[layer.input])
        self._intercept = intercept(now, self._node, layer.input)
        self._wanted = wanted
        self._store = store
        self._sums = (Sums(), Sums())
        self._rows: list[FitRows] = []
        self._function: Function | None = None
        self._begun = False

    @property
    def _data(self) -> str:
        """The tensor that it reads now, which may be one that a repair before it has made."""
        return self._node.inputs[self._layer.row.data(self._layer.input)]

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
            self._store.drop(target.values)

    def _take(self, slot: Intercept, target: Target, data: Array, other: Array | None = None) -> None:
        layout = self._layer.layout
        if not self._begun:
            self._begin(target.shape)
        p, y = layout.patches(data, target.shape, target.rows), target.values
        added = np.zeros((1, 1, 1), np.float32)
        if other is not None:
            if _without(other.shape, layout.outputs) != _without(target.shape, layout.outputs):
                raise InputError(
                    "a shortcut has another size than what it is added to", where=str(self._node)
                )
            added = layout.targets(other, target.rows).astype(np.float32)
            added += slot.behind().astype(np.float32).reshape(len(added), 1, -1)
            y = y - added
        self._sums[target.half].add(p, y)
        if self._function is not None:
            self._rows.append(FitRows(p, y, added).put(self._store))

    def _begin(self, y: Shape) -> None:
        """Find out what becomes of its output, now that the rank of that is known."""
        self._begun = True
        if not self._layer.row.recurrent:
            beside, outputs = self._wanted.shortcut, self._layer.layout.outputs
            start = beside.sum if beside else self._layer.output
            self._function = function(self._now, start, self._weight.dtype, y, outputs)

    @cached_property
    def _support(self) -> Mask | None:
        """Bool (G, O, F), which weights may be other than zero; `None`: all."""
        support = self._task.trace.support(self._layer.output, self._layer.input)
        if support is None or support.all():
            return None
        return np.asarray(self._layer.layout.matrix(support.astype(np.float64)) != 0)

    def finish(self, edits: Edits, weights: bool) -> list[LayerFit]:
        """Fit, and write down what to change."""
        slot = self._intercept
        if slot is None or not all(s.rows for s in self._sums):
            return []
        start = self._layer.layout.matrix(self._weight.astype(np.float64))
        a, b = (s.covariance(centred=slot.possible) for s in self._sums)
        bias = slot.now(start.shape[0] * start.shape[1]).reshape(start.shape[:2])
        result = fit((a, b), start, bias, weights=weights, support=self._support)
        if self._function is not None and np.isfinite(result.penalty):
            whole = a.joined(b)
            result = refitted(
                result,
                start,
                whole,
                self._rows,
                self._function,
                biased=slot.possible,
                support=self._support,
            )
        if result.after < result.before:
            self._write(edits, slot, result)
        for part in self._rows:
            part.drop(self._store)
        name = self._node.name or self._layer.output
        rows = a.rows + b.rows
        return [LayerFit(name, result.penalty, result.before, result.after, rows, start.shape[-1])]

    def _write(self, edits: Edits, slot: Intercept, result: Fit) -> None:
        if np.isfinite(result.penalty):
            new = self._layer.layout.restored(result.weights, self._weight.shape)
            edits.constants[self._node.inputs[self._layer.input]] = new.astype(self._weight.dtype)
        slot.write(edits, result.bias.ravel(), self._weight)


def _without(shape: Shape, axis: int) -> Shape:
    """All axes but one."""
    return tuple(n for k, n in enumerate(shape) if k != axis % len(shape))
