"""What was done to a graph: everything a repair needs to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..calibration.expectation import Normal
from ..contracts.analysis import Analysis
from ..execution.prefix import reads
from ..graph import Array, Facts, Graph
from ..ops import RULES
from ..ops.label import Label, locate
from ..ops.record import ConstantLabel, Record, Selection
from ..ops.walk import Walk
from ..types import Mask


@dataclass(frozen=True, eq=False)
class Surgery:
    """A graph, before and after.

    Attributes:
        graph: as it was.
        facts: its shapes and values.
        analysis: its units.
        kept: (analysis.count,), which units stay.
        pruned: the graph without the others; tensors have the names that they had.
        normals: what BatchNormalization said of tensors, which the graph may no longer say itself.
        again: removes other units of `graph`, where that is possible.
        restored: tensor -> which of its channels the node that makes it shall keep, as a layer behind it
            restores the others (`reuse`).
    """

    graph: Graph
    facts: Facts
    analysis: Analysis
    kept: Mask
    pruned: Graph
    normals: Mapping[str, Normal] = field(default_factory=dict)
    again: Callable[[Mask], Graph] | None = None
    restored: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def _record(self) -> Record:
        selection = Selection(self.kept[self.analysis.unit], self.analysis.unit)
        loose = self.analysis.approximate
        return Walk(self.graph, self.facts, RULES, selection, approximate=loose).run()

    @cached_property
    def changed(self) -> frozenset[str]:
        """The tensors that are no longer what they were, apart from channels that are gone."""
        summed = {r.node for r in self.analysis.readers if not self.kept[r.place.units].all()}
        for group in self.analysis.groups:
            if group.approximate and not self.kept[group.units].all():
                summed.update(group.nodes)
        found: set[str] = set()
        for node in self.graph.nodes:
            if (
                node.index in summed
                or any(i in found for i in reads(node))
                or any(o in self.restored for o in node.outputs)
            ):
                found.update(node.outputs)
        return frozenset(found - {""})

    def part(self, name: str, value: Array) -> Array:
        """What stays of a tensor of the original graph, in the order that it has in the pruned one."""
        return _part(value, self._record.labels.get(name, ()))

    def entries(self, name: str) -> tuple[int, Array] | None:
        """(axis, which of its entries stay, in their order) if a tensor loses some along this axis alone."""
        lost = [b for b in self._record.labels.get(name, ()) if not np.array_equal(b.old, b.new)]
        if len(lost) != 1 or len(lost[0].axes) != 1:
            return None
        return lost[0].axes[0], locate(lost[0].old, lost[0].new)

    def rows_of(self, name: str, axes: tuple[int, ...]) -> Array:
        """What stays of a weight, with everything along some axes of its view, those that are summed over."""
        found = next((c for c in self._record.constants.values() if c.name == name), None)
        if found is None:
            return self.graph.array(name)
        rest = tuple(b for b in found.label if not set(b.axes) <= set(axes))
        return _part(self.graph.array(name).reshape(found.view), rest)

    def constant(self, name: str) -> ConstantLabel | None:
        """What is known of a constant."""
        return next((c for c in self._record.constants.values() if c.name == name), None)


def _part(array: Array, label: Label) -> Array:
    for block in label:
        if np.array_equal(block.old, block.new):
            continue
        front = np.moveaxis(array, block.axes, range(len(block.axes)))
        flat = front.reshape(-1, *front.shape[len(block.axes) :])
        taken = flat[locate(block.old, block.new)]
        array = np.moveaxis(taken, range(len(block.axes)), block.axes)
    return array
