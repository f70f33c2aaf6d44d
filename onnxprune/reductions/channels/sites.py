"""Where to look when channels are scored: the weights that make them, their outputs, and who reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from ...contracts.effect import Member, Place
from ...contracts.reduction import Consumer, Filters, Key
from ...graph import Array, Graph, Node
from ...graph.behind import only_reader
from ...ops.layers import weight_inputs
from ...ops.layers.storage import stored
from ...types import Floats, Units
from .analysis import Analysis, ChannelGroup, Reader

_FOLDED = frozenset({"BatchNormalization", "Add", "Mul", "Sub", "Div"})
"""With constants, these would be part of the filter in another export of the same network."""

_CARRIERS = frozenset(
    {
        *_FOLDED,
        *("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Resize"),
        *("Cast", "Concat", "Dropout", "Identity", "Pad", "Sum"),
        *("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
    }
)
"""What a signal passes on its way to its ReLU."""


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
                        local = np.searchsorted(group.units, units[mine.ravel()])
                        yield Filters(index, rows[mine.ravel()], local)
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
        elif (made := graph.producer.get(name)) is not None and not is_data(graph, name):
            wanted += [n for n in made.inputs if n]


def floats(graph: Graph, name: str) -> str:
    """What a tensor of integers was before it was quantised; the tensor itself if it was not."""
    made = graph.producer.get(name)
    return made.inputs[0] if made is not None and made.op == "DynamicQuantizeLinear" else name


def is_data(graph: Graph, name: str) -> bool:
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


def axis_of(places: Iterable[Place], units: Units) -> tuple[int, Units] | None:
    """The one axis of a tensor where some of these units lie, and all units along it."""
    for place in places:
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
        node, place = graph.nodes[reader.node], reader.place
        weight = node.inputs[reader.input]
        if stored(graph, weight) is None or (group_of[place.units] < 0).all():
            continue
        if len(place.axes) > 1 and place.units.shape[-1] == 1:
            continue
        read = np.unique(place.units)
        for name in node.inputs[: 1 if reader.input else 2]:
            found = axis_of(analysis.tensors.get(name, ()), read) if name != weight else None
            if found is not None and np.array_equal(np.unique(found[1]), read):
                result.append(
                    Consumer(
                        output=node.outputs[0],
                        node=node.index,
                        op=node.op,
                        input=reader.input,
                        weight=weight,
                        activation=(floats(graph, name), found[0]),
                        units=found[1],
                        view=reader.view,
                        axes=place.axes,
                        lanes=place.units.shape[0] if place.units.ndim > 1 else 1,
                    )
                )
                break
    return tuple(result)


def outputs(graph: Graph, analysis: Analysis, group: ChannelGroup) -> tuple[tuple[Key, Units], ...]:
    """What each node of a group makes, as it is once everything is folded that could be; and its units.

    Units are those of the group, in its own numbers; -1 for others.
    """
    result = []
    for index in group.nodes:
        tensor = graph.nodes[index].outputs[0]
        while (following := only_reader(graph, tensor)) is not None and _folds(graph, following, tensor):
            tensor = following.outputs[0]
        found = along(analysis, tensor, group)
        if found is not None:
            result.append(((tensor, found[0]), found[1]))
    return tuple(result)


def along(analysis: Analysis, tensor: str, group: ChannelGroup) -> tuple[int, Units] | None:
    """The one axis of a tensor where units of a group lie, and these, numbered within it; -1 for others."""
    found = axis_of(analysis.tensors.get(tensor, ()), group.units)
    return None if found is None else (found[0], local(group, found[1]))


def local(group: ChannelGroup, units: Units) -> Units:
    """Units numbered within a group; -1 for those of others."""
    index = np.minimum(np.searchsorted(group.units, units), group.size - 1)
    return np.where(group.units[index] == units, index, -1)


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
            place = along(analysis, reader.outputs[0], group) if reader.outputs else None
            if place is None:
                continue
            if is_relu(graph, reader):
                found[reader.outputs[0]] = ((reader.outputs[0], place[0]), place[1])
            elif reader.op in _CARRIERS:
                wanted.append(reader.outputs[0])
    return tuple(found[name] for name in sorted(found, key=lambda n: graph.producer[n].index))


def is_relu(graph: Graph, node: Node) -> bool:
    """Whether a node gives exact zeros for what is negative: Relu, Clip from 0 (ReLU6), or Max with 0."""
    if node.op in ("Relu", "ThresholdedRelu"):
        return True
    if node.op == "Max" and len(node.inputs) == 2:
        return any(name in graph.constants and not graph.array(name).any() for name in node.inputs)
    if node.op != "Clip":
        return False
    low = node.attrs.get("min")
    if low is None and len(node.inputs) > 1 and node.inputs[1] in graph.constants:
        low = graph.array(node.inputs[1])
    return low is not None and float(np.asarray(low).reshape(())) == 0


def _folds(graph: Graph, node: Node, tensor: str) -> bool:
    return node.op in _FOLDED and all(n == tensor or not is_data(graph, n) for n in node.inputs if n)


def hands_on(reader: Reader) -> bool:
    """Whether each sum is over channels of one unit, so that it belongs to that unit itself.

    As in a depthwise convolution, or where queries meet keys and whole heads are units.
    """
    units = reader.place.units
    return len(reader.place.axes) > 1 and bool((units == units[..., :1]).all())
