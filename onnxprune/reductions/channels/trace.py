"""How tensors and weights of a graph without some channels correspond to those before."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ...graph import Array, Graph, Shape
from ...ops.label import Label, locate
from ...ops.record import Record
from ...types import Mask, Units
from .analysis import Analysis
from .cut import taken


class ChannelTrace:
    """A `Trace` from the walk that cut the graph.

    Args:
        graph: before the cut.
        analysis: its units.
        kept: (analysis.count,), which units stayed.
        record: of the walk.
    """

    def __init__(self, graph: Graph, analysis: Analysis, kept: Mask, record: Record) -> None:
        self._graph, self._analysis, self._kept, self._record = graph, analysis, kept, record

    @cached_property
    def _summed(self) -> frozenset[int]:
        """Nodes that sum over units that are gone."""
        return frozenset(r.node for r in self._analysis.readers if not self._kept[r.place.units].all())

    @cached_property
    def changed(self) -> frozenset[str]:
        """See `Trace.changed`."""
        summed = set(self._summed)
        for group in self._analysis.groups:
            if group.approximate and not self._kept[group.units].all():
                summed.update(group.nodes)
        found: set[str] = set()
        for node in self._graph.nodes:
            if node.index in summed or any(i in found for i in (*node.inputs, *node.captured)):
                found.update(node.outputs)
        return frozenset(found - {""})

    @cached_property
    def compared(self) -> frozenset[str]:
        """See `Trace.compared`."""
        return frozenset(name for k in self._summed for name in self._graph.nodes[k].outputs[:1] if name)

    def part(self, tensor: str, value: Array) -> Array:
        """See `Trace.part`."""
        return _part(value, self._record.labels.get(tensor, ()))

    def entries(self, tensor: str) -> tuple[int, Units] | None:
        """See `Trace.entries`."""
        lost = [b for b in self._record.labels.get(tensor, ()) if not np.array_equal(b.old, b.new)]
        if len(lost) != 1 or len(lost[0].axes) != 1:
            return None
        return lost[0].axes[0], locate(lost[0].old, lost[0].new)

    def weight(self, output: str, index: int, value: Array) -> Array:
        """See `Trace.weight`."""
        view, label = self._label(output, index, value)
        return taken(value, view, label)

    def support(self, output: str, index: int) -> Mask | None:
        """See `Trace.support`: of channels that stay, no weight is fixed."""
        del output, index
        return None

    def _label(self, output: str, index: int, value: Array) -> tuple[Shape, Label]:
        """The ids of what an input of a node reads, and the view that they refer to."""
        node = self._graph.producer[output]
        name = node.inputs[index]
        known = self._record.constants
        found = known.get((name, (node.index, index), None)) or known.get((name, None, None))
        if found is None:
            return value.shape, self._record.labels.get(name, ())
        return found.view, found.label


def _part(array: Array, label: Label) -> Array:
    for block in label:
        if np.array_equal(block.old, block.new):
            continue
        front = np.moveaxis(array, block.axes, range(len(block.axes)))
        flat = front.reshape(-1, *front.shape[len(block.axes) :])
        left = flat[locate(block.old, block.new)]
        array = np.moveaxis(left, range(len(block.axes)), block.axes)
    return array
