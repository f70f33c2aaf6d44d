"""Single kernels: every filter, or every group of filters, reads only some of the input channels.

An input channel that no filter keeps is read by nobody, and can be removed like any other unit.

Source: Polyak and Wolf 2015, Channel-Level Acceleration of Deep Face Representations, Inbound Pruning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...contracts.groups import Blocked, Group
from ...contracts.reduction import Key, Wanted
from ...contracts.request import Kernel
from ...contracts.stats import Need
from ...graph import Graph, Network
from ...ops.layers import LINEAR, LinearLayer
from ...types import Cause, Floats, Mask
from .values import ValueSpace, layers_once, why_not_free

NAME = "kernels"


@dataclass(frozen=True)
class Kernels:
    """Kernels of convolutions that have no groups.

    Attributes:
        groups: so many runs of consecutive filters read the same channels; 0: every filter has its own.
            Convolutions whose filters don't divide into as many have none.
    """

    groups: int = 0
    name: str = NAME

    def find(self, network: Network) -> KernelSpace:
        """The kernels of a network, a group for each convolution."""
        graph = network.graph
        behind = _behind_layers(graph)
        layers: dict[str, LinearLayer] = {}
        found, blocked = [], []
        for layer in layers_once(graph):
            if layer.node.op != "Conv":
                continue
            reason = _why_not(graph, layer, behind)
            if reason is not None:
                outputs = graph.shape_of_constant(layer.weight)[0]
                blocked.append(Blocked(layer.node.index, outputs, Cause(layer.node.index, reason, "nothing")))
                continue
            filters, width = graph.shape_of_constant(layer.weight)[:2]
            runs = self.groups if self.groups and filters % self.groups == 0 else filters
            layers[f"{layer.weight}:kernels"] = layer
            found.append(
                Group(
                    id=f"{layer.weight}:kernels",
                    name=layer.node.name or layer.output,
                    kind="kernel",
                    size=runs * width,
                    layers=(layer.output,),
                    runs=runs,
                )
            )
        return KernelSpace(network, layers, found, blocked)


def _why_not(graph: Graph, layer: LinearLayer, behind: set[str]) -> str | None:
    if layer.layout.groups > 1:
        return "its filters read channels of their own already"
    if layer.data not in behind:
        return "it reads the model's input, of which every channel is needed"
    if len(graph.readers[layer.weight]) > 1:
        return f"others read '{layer.weight}', too"
    return why_not_free(graph, layer)


def _behind_layers(graph: Graph) -> set[str]:
    """The tensors that some linear layer has had a part in."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.op in LINEAR or any(i in found for i in (*node.inputs, *node.captured)):
            found.update(node.outputs)
    return found


class KernelSpace(ValueSpace):
    """The kernels of a network: a unit for each run of filters and input channel, run by run."""

    reduction = NAME

    def _filters(self, group: Group) -> int:
        return self.network.graph.shape_of_constant(self.layer(group).weight)[0]

    def spread(self, group: Group, kept: Mask) -> Mask:
        """See `ValueSpace.spread`."""
        taps = self.layer(group).layout.taps
        mask = self.planned(group, kept)
        return np.broadcast_to(mask[:, :, None], (*mask.shape, taps))

    def summed(self, group: Group, values: Floats) -> Floats:
        """See `ValueUnits.summed`."""
        kernels = values.sum(axis=2)
        return np.asarray(kernels.reshape(group.runs, -1, kernels.shape[1]).sum(axis=1).ravel())

    def planned(self, group: Group, kept: Mask) -> Mask:
        """See `ValueSpace.planned`."""
        return kept.reshape(group.runs, -1).repeat(self._filters(group) // group.runs, axis=0)

    def planned_units(self, group: Group, mask: Mask) -> Mask | None:
        """See `ValueSpace.planned_units`."""
        runs = mask.reshape(group.runs, -1, mask.shape[1])
        return runs[:, 0].ravel() if (runs == runs[:, :1]).all() else None

    def wanted(self, needs: frozenset[Need]) -> Wanted:
        """See `Space.wanted`."""
        found = super().wanted(needs)
        return found | Wanted({}, dict(self._kernels())) if "kernels" in needs else found

    def _kernels(self) -> Iterator[tuple[Key, tuple[Key, Kernel]]]:
        for group in self.groups:
            layer, key = self.layer(group), self.activation(group)
            if key is not None:
                placing = ("auto_pad", "dilations", "pads", "strides")
                attrs = {k: v for k, v in layer.node.attrs.items() if k in placing}
                weight = self.network.graph.array(layer.weight).astype(np.float64)
                yield self.kernels(group), (key, Kernel(weight, attrs))
