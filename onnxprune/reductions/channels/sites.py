"""Where to look when a group is scored: the weights that make its units, their outputs, and who reads them.

`measure` gathers statistics at these places and `criteria` look them up there, so both find them here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...contracts.analysis import Analysis, ChannelGroup, Member, Place, Reader
from ...graph import Array, Graph, Node
from ...ops.layers import weight_inputs
from ...ops.layers.storage import stored
from ...types import Floats, Shape, Units

_FOLDED = frozenset({"BatchNormalization", "Add", "Mul", "Sub", "Div"})
"""With constants, these would be part of the filter in another export of the same network."""

_CARRIERS = frozenset({*_FOLDED, "Identity", "Dropout", "Concat", "Sum", "Cast"})
"""What a signal passes on its way to its ReLU."""


Key = tuple[str, int]
"""A tensor and its channel axis."""


@dataclass(frozen=True, eq=False)
class Filters:
    """Weights of one node that make units of a group.

    Attributes:
        node: index of the node.
        rows: float64 (n, d), the weights that make each output channel.
        units: int64 (n,), the unit of each.
    """

    node: int
    rows: Floats
    units: Units


@dataclass(frozen=True, eq=False)
class Consumer:
    """A node with constant weights that sums over units.

    Attributes:
        node: index of the node.
        activation: the tensor it reads, in floats if it was quantised for it, and the axis it sums over.
        units: int64 (C,), along that axis.
        weight: name of what it multiplies by; `weights` gives the values.
        reader: how the units lie in that constant.
    """

    node: int
    activation: Key
    units: Units
    weight: str
    reader: Reader


def filters(graph: Graph, analysis: Analysis, group: ChannelGroup) -> Iterator[Filters]:
    """The weights that make the units of a group, one by one for each node that makes any."""
    for index in group.nodes:
        node = graph.nodes[index]
        for i in weight_inputs(node.op) or range(len(node.inputs)):
            for member, name in _constants(graph, analysis, node, i):
                if math.prod(member.view) <= max(member.view, default=1) and not weight_inputs(node.op):
                    continue
                for place in member.places:
                    mine = np.isin(place.units, group.units)
                    if mine.any() and not _is_read(analysis, index, i, member, place):
                        rows, units = _rows(graph.array(name), member, place)
                        yield Filters(index, rows[mine.ravel()], units[mine.ravel()])
                        break  # a depthwise kernel names its units twice


def _constants(graph: Graph, analysis: Analysis, node: Node, i: int) -> Iterator[tuple[Member, str]]:
    """The constants behind an input: itself, or what nodes that only read constants compute it from."""
    if i >= len(node.inputs):
        return
    wanted, use = [node.inputs[i]], (node.index, i)
    while wanted:
        name = wanted.pop()
        if name in graph.constants:
            for member in analysis.members:
                if member.constant == name and member.use in (None, use):
                    yield member, name
        elif (made := graph.producer.get(name)) is not None and not _is_data(graph, name):
            wanted += [n for n in made.inputs if n]


def _floats(graph: Graph, name: str) -> str:
    """What a tensor of integers was before it was quantised; the tensor itself if it was not."""
    made = graph.producer.get(name)
    return made.inputs[0] if made is not None and made.op == "DynamicQuantizeLinear" else name


def _is_data(graph: Graph, name: str) -> bool:
    """Whether a tensor depends on the inputs of the graph."""
    wanted, seen = [name], set()
    while wanted:
        tensor = wanted.pop()
        if tensor in graph.inputs:
            return True
        made = graph.producer.get(tensor)
        if made is not None and made.index not in seen:
            seen.add(made.index)
            wanted += [*made.inputs, *made.captured]
    return False


def _is_read(analysis: Analysis, node: int, i: int, member: Member, place: Place) -> bool:
    """Whether a place is the axis that the node sums over; a depthwise one makes what it reads."""
    if sum(np.array_equal(np.unique(p.units), np.unique(place.units)) for p in member.places) > 1:
        return False
    return any(
        r.node == node and r.input == i and r.place.axes == place.axes and r.view == member.view
        for r in analysis.readers
    )


def _rows(array: Array, member: Member, place: Place) -> tuple[Floats, Units]:
    front = np.moveaxis(array.reshape(member.view), place.axes, range(len(place.axes)))
    return front.reshape(place.units.size, -1).astype(np.float64), place.units.ravel()


def axis_of(analysis: Analysis, tensor: str, units: Units) -> tuple[int, Units] | None:
    """The one axis of a tensor where some of these units lie, and all units along it."""
    for place in analysis.tensors.get(tensor, ()):
        if len(place.axes) == 1 and np.isin(place.units, units).any():
            return place.axes[0], place.units
    return None


def consumers(graph: Graph, analysis: Analysis) -> tuple[Consumer, ...]:
    """All readers that multiply a tensor by constant weights and sum over removable units.

    Depthwise convolutions are none: what they make goes together with what they read.
    """
    result = []
    group_of = analysis.group_of
    for reader in analysis.readers:
        node = graph.nodes[reader.node]
        weight = node.inputs[reader.input]
        if stored(graph, weight) is None or (group_of[reader.place.units] < 0).all():
            continue
        if len(reader.place.axes) > 1 and reader.place.units.shape[-1] == 1:
            continue
        read = np.unique(reader.place.units)
        for name in node.inputs[: 1 if reader.input else 2]:
            found = axis_of(analysis, name, read) if name != weight else None
            if found is not None and np.array_equal(np.unique(found[1]), read):
                result.append(
                    Consumer(node.index, (_floats(graph, name), found[0]), found[1], weight, reader)
                )
                break
    return tuple(result)


def kernels_of(consumer: Consumer) -> Key:
    """Where the statistics of a consumer's single kernels are kept: many consumers may read one tensor."""
    return consumer.weight, -1


def outputs(graph: Graph, analysis: Analysis, group: ChannelGroup) -> tuple[tuple[Key, Units], ...]:
    """What each node of a group makes, as it is once everything is folded that could be; and its units."""
    result = []
    for index in group.nodes:
        tensor = graph.nodes[index].outputs[0]
        while (following := only_reader(graph, tensor)) is not None and _folds(graph, following, tensor):
            tensor = following.outputs[0]
        found = axis_of(analysis, tensor, group.units)
        if found is not None:
            result.append(((tensor, found[0]), found[1]))
    return tuple(result)


def activations(graph: Graph, analysis: Analysis, group: ChannelGroup) -> tuple[tuple[Key, Units], ...]:
    """The outputs of every ReLU that a group's units pass through before anything else uses them."""
    found: dict[str, tuple[Key, Units]] = {}
    seen: set[str] = set()
    wanted = [graph.nodes[index].outputs[0] for index in group.nodes]
    while wanted:
        tensor = wanted.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        for reader, _ in graph.readers.get(tensor, ()):
            place = axis_of(analysis, reader.outputs[0], group.units) if reader.outputs else None
            if place is None:
                continue
            if is_relu(graph, reader):
                found[reader.outputs[0]] = ((reader.outputs[0], place[0]), place[1])
            elif reader.op in _CARRIERS:
                wanted.append(reader.outputs[0])
    return tuple(found[name] for name in sorted(found, key=lambda n: graph.producer[n].index))


def is_relu(graph: Graph, node: Node) -> bool:
    """Whether a node gives exact zeros for what is negative: Relu, or Clip from 0 (ReLU6)."""
    if node.op in ("Relu", "ThresholdedRelu"):
        return True
    if node.op != "Clip":
        return False
    low = node.attrs.get("min")
    if low is None and len(node.inputs) > 1 and node.inputs[1] in graph.constants:
        low = graph.array(node.inputs[1])
    return low is not None and float(np.asarray(low).reshape(())) == 0


def only_reader(graph: Graph, tensor: str) -> Node | None:
    """The one node that reads a tensor; `None` if others do, or it is an output of the graph."""
    readers = graph.readers.get(tensor, ())
    return readers[0][0] if len(readers) == 1 and tensor not in graph.outputs else None


def _folds(graph: Graph, node: Node, tensor: str) -> bool:
    return node.op in _FOLDED and all(n == tensor or not _is_data(graph, n) for n in node.inputs if n)


def hands_on(reader: Reader) -> bool:
    """Whether each sum is over channels of one unit, so that it belongs to that unit itself.

    As in a depthwise convolution, or where queries meet keys and whole heads are units.
    """
    units = reader.place.units
    return len(reader.place.axes) > 1 and bool((units == units[..., :1]).all())


def spread(values: Array, reader: Reader) -> Array:
    """What is said of every unit of `reader.place`, so that it broadcasts over `reader.view`."""
    shape = [1] * len(reader.view)
    for axis, length in zip(reader.place.axes, values.shape, strict=True):
        shape[axis] = length
    return values.reshape(shape)


def merged(values: Array, reader: Reader, shape: Shape) -> Array:
    """What `spread` gives, over the tensor itself, of `shape`: one of its axes may be split in the view."""
    view = reader.view
    if view == shape:
        return values
    split = next(a for a in range(len(shape)) if (*view[:a], view[a] * view[a + 1], *view[a + 2 :]) == shape)
    over = values.shape
    return values.reshape((*over[:split], over[split] * over[split + 1], *over[split + 2 :]))
