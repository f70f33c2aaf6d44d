"""Reductions that take values out of weights, and leave every shape as it is.

The cut writes zeros into the stored constants. The masked reference multiplies at the layer, so that the
proof compares two things.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Self

import numpy as np

from ...contracts.effect import Effect
from ...contracts.groups import Blocked, Choice, Group
from ...contracts.plan import PlannedLayer, PlannedReduction
from ...contracts.reduction import Key, Lost, Sparse, Trace, Wanted
from ...contracts.request import SumKind
from ...contracts.stats import Need
from ...contracts.weights import Weight
from ...errors import InputError
from ...graph import Array, Edits, Graph, Network, make_node, readers_of
from ...graph.behind import fresh, insert, is_free
from ...ops.layers import LinearLayer, float_layers
from ...types import Cause, Floats, Mask, Units
from .coding import packed, unpacked

_NO_VALUES = "its values are not those of a layer that can lose some"


class ValueSpace:
    """The values of some layers' weights, in units of one or several.

    Args:
        network: the network.
        layers: id of a group -> the layer that it is of.
        groups: a group for each of them.
        blocked: layers whose values can't go.
    """

    reduction: str = ""

    def __init__(
        self,
        network: Network,
        layers: Mapping[str, LinearLayer],
        groups: Sequence[Group],
        blocked: Sequence[Blocked] = (),
    ) -> None:
        self.network = network
        self._layers = layers
        self.groups = tuple(groups)
        self.blocked = tuple(blocked)

    @cached_property
    def effect(self) -> Effect:
        """See `Space.effect`: shapes follow from nothing here."""
        return Effect(0, (), (), {}, ())

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        """See `Space.weights`."""
        graph = self.network.graph
        owner = {self.layer(group).weight: group.id for group in self.groups}
        causes = {one.node: one.cause for one in self.blocked}
        found = []
        for name in graph.constants:
            if not graph.is_weight(name) or not graph.readers.get(name):
                continue
            readers = tuple(sorted(readers_of(graph, [name])))
            cause = None
            if name not in owner:
                why = (causes[k] for k in readers if k in causes)
                other = Cause(min(readers, default=-1), _NO_VALUES, "nothing")
                cause = next(why, other)
            own = (owner[name],) if name in owner else ()
            found.append(Weight(name, graph.shape_of_constant(name), readers, own, (), cause))
        return tuple(found)

    def layer(self, group: Group) -> LinearLayer:
        """The layer that a group is of."""
        return self._layers[group.id]

    def activation(self, group: Group) -> Key | None:
        """What a group's layer reads, and the axis of it that it sums over; `None` where that isn't known."""
        layer = self.layer(group)
        shape = self.network.facts.shapes.get(layer.data)
        return None if shape is None else (layer.data, layer.layout.summed % len(shape))

    def weight(self, group: Group) -> Floats:
        """float64 (outputs, inputs of each, taps), the weight of a group's layer."""
        layer = self.layer(group)
        matrix = layer.layout.matrix(self.network.graph.array(layer.weight).astype(np.float64))
        return matrix.reshape(matrix.shape[0] * matrix.shape[1], -1, layer.layout.taps)

    def kernels(self, group: Group) -> Key:
        """See `ValueUnits.kernels`."""
        return self.layer(group).weight, -1

    def lanes(self, group: Group) -> int:
        """See `ValueUnits.lanes`."""
        return self.layer(group).layout.groups

    def summed(self, group: Group, values: Floats) -> Floats:
        """See `ValueUnits.summed`."""
        raise NotImplementedError

    def spread(self, group: Group, kept: Mask) -> Mask:
        """Bool (outputs, inputs of each, taps), from bool (group.size,)."""
        raise NotImplementedError

    def support(self, group: Group, choice: Choice) -> Mask:
        """Which values of a weight stay, in its own shape."""
        layer = self.layer(group)
        mask = self.spread(group, choice.of(group))
        shape = self.network.graph.shape_of_constant(layer.weight)
        matrix = mask.reshape(layer.layout.groups, -1, mask.shape[1] * mask.shape[2]).astype(np.float64)
        return np.asarray(layer.layout.restored(matrix, shape) != 0)

    def wanted(self, needs: frozenset[Need]) -> Wanted:
        """See `Space.wanted`."""
        kinds: dict[Key, frozenset[SumKind]] = {}
        for group in self.groups:
            key = self.activation(group)
            if key is not None and "consumers" in needs:
                kinds[key] = frozenset({"gram"})
            elif key is not None and "inputs" in needs:
                kinds[key] = frozenset({"sum", "squares"})
        return Wanted(kinds)

    def without(self, ids: Collection[str], cause: Cause) -> Self:
        """See `Space.without`."""
        left = [group for group in self.groups if group.id not in ids]
        gone = [self.layer(group).node.index for group in self.groups if group.id in ids]
        blocked = [*self.blocked, *(Blocked(node, 0, cause) for node in gone)]
        return type(self)(self.network, self._layers, left, blocked)

    def at(self, tensors: Collection[str]) -> frozenset[str]:
        """See `Space.at`: of a weight that several nodes read, what any of them makes counts."""
        readers = self.network.graph.readers
        return frozenset(
            group.id
            for group in self.groups
            if any(o in tensors for node, _ in readers[self.layer(group).weight] for o in node.outputs)
        )

    def start(self, group: Group) -> int:
        """See `Space.start`: others may read the weight, too."""
        readers = self.network.graph.readers[self.layer(group).weight]
        return min(node.index for node, _ in readers)

    def lost(self, choice: Choice) -> Iterator[Lost | Sparse]:
        """See `Space.lost`."""
        for group in self._cut(choice):
            yield Sparse(self.layer(group), self.activation(group), self.support(group, choice))

    def _cut(self, choice: Choice) -> list[Group]:
        return [group for group in self.groups if choice.cuts(group)]

    # ------------------------------------------------------------ mask and cut

    def mask(self, reference: Network, choice: Choice) -> Network:
        """See `Space.mask`."""
        edits = Edits()
        for group in self._cut(choice):
            name = self.layer(group).weight
            mask = self.support(group, choice)
            masked = fresh(reference.graph, f"{name}.masked")
            edits.added[f"{masked}.mask"] = mask.astype(self.network.graph.dtype(name))
            inserted = make_node("Mul", [name, f"{masked}.mask"], [masked], masked)
            insert(edits, reference.graph, name, [inserted], masked)
        return reference.edited(edits)

    def cut(self, network: Network, choice: Choice) -> tuple[Network, Trace]:
        """See `Space.cut`."""
        constants: dict[str, Array] = {}
        supports: dict[str, Mask] = {}
        for group in self._cut(choice):
            name = self.layer(group).weight
            supports[name] = self.support(group, choice)
            array = network.graph.array(name)
            constants[name] = np.where(supports[name], array, array.dtype.type(0))
        return network.edited(Edits(constants=constants)), ValueTrace(network.graph, supports)

    # ------------------------------------------------------------ plans

    def write(self, choice: Choice) -> PlannedReduction:
        """See `Space.write`."""
        layers = []
        for group in self._cut(choice):
            mask = self.planned(group, choice.of(group))
            planned = PlannedLayer(self.layer(group).weight, mask.shape, int(mask.sum()), packed(mask))
            layers.append(planned)
        return PlannedReduction(self.reduction, layers=tuple(layers))

    def planned(self, group: Group, kept: Mask) -> Mask:
        """What a plan holds of a group: bool (outputs, inputs of each, taps), or without taps."""
        raise NotImplementedError

    def planned_units(self, group: Group, mask: Mask) -> Mask | None:
        """Bool (group.size,) from what a plan holds; `None` if that can't be a choice of these units."""
        raise NotImplementedError

    def read(self, planned: PlannedReduction) -> Choice:
        """See `Space.read`."""
        by_weight = {self.layer(group).weight: group for group in self.groups}
        kept: dict[str, Mask] = {}
        for layer in planned.layers:
            where = f"plan, tensor '{layer.weight}'"
            group = by_weight.get(layer.weight)
            if group is None:
                known = layer.weight in self.network.graph.constants
                reason = (
                    "is no weight of a layer whose values can go" if known else "the model has no such weight"
                )
                raise InputError(reason, where=where)
            here = self.planned(group, np.ones(group.size, bool)).shape
            if layer.shape != here:
                raise InputError(f"its shape is {list(here)} here, not {list(layer.shape)}", where=where)
            units = self.planned_units(group, unpacked(layer.mask, layer.shape, where))
            if units is None:
                raise InputError("its mask is not one of these units", where=where)
            kept[group.id] = units
        return Choice(kept)


class ValueTrace:
    """A `Trace` of weights with zeros.

    Args:
        graph: before.
        supports: name of a constant -> which of its values are left.
    """

    def __init__(self, graph: Graph, supports: Mapping[str, Mask]) -> None:
        self._graph, self._supports = graph, supports

    @cached_property
    def compared(self) -> frozenset[str]:
        """See `Trace.compared`."""
        readers = (node for name in self._supports for node, _ in self._graph.readers[name])
        return frozenset(node.outputs[0] for node in readers)

    @cached_property
    def changed(self) -> frozenset[str]:
        """See `Trace.changed`."""
        found = set(self.compared)
        for node in self._graph.nodes:
            if any(i in found for i in (*node.inputs, *node.captured)):
                found.update(node.outputs)
        return frozenset(found - {""})

    def part(self, tensor: str, value: Array) -> Array:
        """See `Trace.part`."""
        del tensor
        return value

    def entries(self, tensor: str) -> tuple[int, Units] | None:
        """See `Trace.entries`."""
        del tensor
        return None

    def weight(self, output: str, index: int, value: Array) -> Array:
        """See `Trace.weight`."""
        del output, index
        return value

    def support(self, output: str, index: int) -> Mask | None:
        """See `Trace.support`."""
        return self._supports.get(self._graph.producer[output].inputs[index])


def why_not_free(graph: Graph, layer: LinearLayer) -> str | None:
    """Why no value of a layer's weight can be another one; `None` if it can."""
    if layer.weight in graph.outputs:
        return f"'{layer.weight}' is an output of the model, too"
    return None if is_free(graph, layer.weight) else f"the body of a node reads '{layer.weight}', too"


def layers_once(graph: Graph) -> list[LinearLayer]:
    """The linear layers of floats, each constant once."""
    found: dict[str, LinearLayer] = {}
    for layer in float_layers(graph):
        found.setdefault(layer.weight, layer)
    return list(found.values())
