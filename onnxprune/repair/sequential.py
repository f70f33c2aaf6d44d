"""Repair from the inputs to the outputs: each consumer is fitted to what the repaired part before it gives now.

Fitting all consumers at once, from what the unrepaired graph gives, does not work at all: each would make up for
the same loss again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..graph import Array, Edits, Facts, Graph, Node
from ..linalg import threads_for
from ..ops import RULES
from ..ops.label import Label, locate
from ..ops.walk import Selection, Walk
from ..types import Analysis, Mask
from .consumers import Consumer, consumers, inexact, stages
from .intercept import Intercept, intercept
from .layout import Layout, layout
from .prefix import Prefix, Shelf, ancestors
from .regression import Fit, Sums, fit

Mode = Literal["none", "bias", "fold"]


@dataclass(frozen=True)
class Repaired:
    """What became of one consumer.

    Attributes:
        node: its name.
        penalty: ridge that was chosen; infinite where only the bias, or nothing, was changed.
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
    graph: Graph,
    facts: Facts,
    pruned: Graph,
    analysis: Analysis,
    kept: Mask,
    batches: Iterable[Mapping[str, Array]],
    *,
    weights: bool = True,
    memory: float = 2e9,
    seed: int = 0,
) -> tuple[Graph, tuple[Repaired, ...]]:
    """Fit the consumers of what was removed, one stage after the other.

    Args:
        graph: the graph as it was.
        facts: its shapes and values.
        pruned: the graph without the units that are gone.
        analysis: of `graph`.
        kept: (analysis.count,), which units stay.
        batches: inputs; two batches or more, as one half judges what the other has fitted.
        weights: whether weights may change, or biases only.
        memory: bytes of activations to hold before they go to a temporary folder.
        seed: which rows are taken where there are more than enough.

    Returns:
        The repaired graph, and a line for each consumer.
    """
    found = consumers(graph, pruned, inexact(graph, analysis, kept))
    if not found or kept.all():
        return pruned, ()
    shelf = Shelf(memory)
    try:
        walk = Walk(graph, facts, RULES, Selection(kept[analysis.unit], analysis.unit)).run()
        return _Run(graph, pruned, walk.labels, found, seed).all(batches, shelf, weights)
    finally:
        shelf.close()


class _Run:
    """One repair."""

    def __init__(
        self, graph: Graph, pruned: Graph, labels: Mapping[str, Label], found: list[Consumer], seed: int
    ) -> None:
        self.graph = graph
        self.now = pruned
        self.labels = labels
        self.found = {c.key: c for c in found}
        self.random = np.random.default_rng(seed)

    def all(
        self, batches: Iterable[Mapping[str, Array]], shelf: Shelf, weights: bool
    ) -> tuple[Graph, tuple[Repaired, ...]]:
        samples = list(batches)
        before, after = Prefix(samples, shelf), Prefix(samples, shelf)
        stage = stages(self.graph, self.found)
        number = {key: stage[self.graph.producer[key].index] for key in self.found}
        report = []
        for step in range(max(number.values()) + 1):
            mine = [c for c in self.found.values() if number[c.key] == step]
            jobs = {c.key: _Job(self, c) for c in mine}
            original = self._original(before, stage, step, sorted(jobs))
            current = self._current(after, step, sorted({c.data for c in mine}))
            for index, (y, p) in enumerate(zip(original, current, strict=True)):
                for job in jobs.values():
                    with job.threads():
                        job.add(index, len(before), p[job.consumer.data], y[job.consumer.key])
            edits = Edits()
            for job in jobs.values():
                with job.threads():
                    report += job.finish(edits, weights)
            if edits:
                self.now = self.now.edited(edits)
        return self.now, tuple(report)

    def _original(
        self, prefix: Prefix, stage: dict[int, int], step: int, taps: list[str]
    ) -> Iterable[dict[str, Array]]:
        needed = ancestors(self.graph, self.found)
        nodes = [n for n in self.graph.nodes if n.index in needed and stage[n.index] == step]
        later = [n for n in self.graph.nodes if n.index in needed and stage[n.index] > step]
        return prefix.advance(self.graph, nodes, later, taps)

    def _current(self, prefix: Prefix, step: int, taps: list[str]) -> Iterable[dict[str, Array]]:
        stage = stages(self.now, self.found)
        needed = ancestors(self.now, self.found)

        def when(node: Node) -> int:  # a consumer runs once it has been repaired
            return stage[node.index] + (node.outputs[0] in self.found)

        nodes = [n for n in self.now.nodes if n.index in needed and when(n) == step]
        later = [n for n in self.now.nodes if n.index in needed and when(n) > step]
        return prefix.advance(self.now, nodes, later, taps)


class _Job:
    """The fit of one consumer."""

    def __init__(self, run: _Run, consumer: Consumer) -> None:
        self.run = run
        self.consumer = consumer
        self.node = run.now.producer[consumer.key]
        self.weight = run.now.array(self.node.inputs[consumer.side])
        self.sums = (Sums(), Sums())
        self.layout: Layout | None = None

    def threads(self) -> AbstractContextManager[None]:
        """As many as its sums are worth."""
        return threads_for(self.weight.size // max(1, *self.weight.shape[:2]))

    def add(self, index: int, count: int, p: Array, y: Array) -> None:
        """Take a batch of what is read now, and of what came out of the original."""
        y = part(y, self.run.labels.get(self.consumer.key, ()))
        self.layout = layout(self.node, self.consumer.side, self.weight.shape, p.shape, y.shape)
        if self.layout is None:
            return
        rows = np.arange(self.layout.rows(y.shape))
        features = self.layout.matrix(self.weight).shape[-1]
        most = max(MIN_ROWS, ROWS_PER_INPUT * features) // count + 1
        if len(rows) > most:
            rows = np.sort(self.run.random.choice(len(rows), most, replace=False))
        halves = [(self.sums[index % 2], rows)]
        if count == 1:
            halves = [(s, r) for s, r in zip(self.sums, np.array_split(rows, 2), strict=True)]
        for sums, some in halves:
            sums.add(self.layout.patches(p, y.shape, some), self.layout.targets(y, some))

    def finish(self, edits: Edits, weights: bool) -> list[Repaired]:
        """Fit, and write down what to change."""
        if self.layout is None or not all(s.rows for s in self.sums):
            return []
        slot = intercept(self.run.now, self.node, self.layout)
        if slot is None:
            return []
        start = self.layout.matrix(self.weight.astype(np.float64))
        bias = slot.value(start.shape[:2])
        halves = tuple(s.covariance(centred=slot.possible) for s in self.sums)
        result = fit((halves[0], halves[1]), start, bias, weights=weights)
        if result.after < result.before:
            self._edit(edits, slot, result)
        rows = sum(s.rows for s in self.sums)
        name = self.node.name or self.consumer.key
        return [Repaired(name, result.penalty, result.before, result.after, rows, start.shape[-1])]

    def _edit(self, edits: Edits, slot: Intercept, result: Fit) -> None:
        assert self.layout is not None
        if np.isfinite(result.penalty):
            new = self.layout.restored(result.weights, self.weight.shape)
            edits.constants[self.node.inputs[self.consumer.side]] = new.astype(self.weight.dtype)
        if slot.possible:
            slot.write(edits, result.bias, self.weight.dtype)


MIN_ROWS = 16384
ROWS_PER_INPUT = 24
"""More rows than this for each weight of an output change nothing and cost time."""


def part(array: Array, label: Label) -> Array:
    """What stays of a tensor of the original graph, in the order that it has in the pruned one."""
    for block in label:
        if np.array_equal(block.old, block.new):
            continue
        rest = array.ndim - len(block.axes)
        front = np.moveaxis(array, block.axes, range(len(block.axes)))
        flat = front.reshape(-1, *front.shape[array.ndim - rest :])
        taken = flat[locate(block.old, block.new)]
        array = np.moveaxis(taken, range(len(block.axes)), block.axes)
    return array
