"""Single weights: they become zero wherever they are (unstructured pruning).

Sources: Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks (magnitude), and
Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models (wanda).
"""

from __future__ import annotations

from dataclasses import dataclass

from ...contracts.choices import Among
from ...contracts.groups import Blocked, Group
from ...graph import Network
from ...ops.layers import LinearLayer
from ...types import Cause, Floats, Mask
from .values import ValueSpace, layers_once, why_not_free

NAME = "weights"


@dataclass(frozen=True)
class Weights:
    """Single weights of convolutions and matrix products.

    Attributes:
        among: what a weight competes with. The weights of a group compete: those of a layer, each of its
            outputs keeping equally many where it is `output`. Whether layers compete is decided elsewhere.
    """

    among: Among = "auto"
    name: str = NAME

    def find(self, network: Network) -> WeightSpace:
        """The weights of a network, a group for each layer."""
        graph = network.graph
        layers: dict[str, LinearLayer] = {}
        groups, blocked = [], []
        for layer in layers_once(graph):
            weight, reason = layer.weight, why_not_free(graph, layer)
            if reason is not None:
                outputs = graph.count(weight) // max(layer.layout.fan_in(graph.shape_of_constant(weight)), 1)
                blocked.append(Blocked(layer.node.index, outputs, Cause(layer.node.index, reason, "nothing")))
                continue
            layers[weight] = layer
            fan_in = layer.layout.fan_in(graph.shape_of_constant(weight))
            groups.append(
                Group(
                    id=weight,
                    name=layer.node.name or layer.output,
                    kind="weight",
                    size=graph.count(weight),
                    layers=(layer.output,),
                    runs=graph.count(weight) // max(fan_in, 1) if self.among == "output" else 1,
                )
            )
        return WeightSpace(network, layers, groups, blocked)


class WeightSpace(ValueSpace):
    """The single weights of a network: a unit for each value, in the order of the layer's matrix."""

    reduction = NAME

    def spread(self, group: Group, kept: Mask) -> Mask:
        """See `ValueSpace.spread`."""
        return self.planned(group, kept)

    def summed(self, group: Group, values: Floats) -> Floats:
        """See `ValueUnits.summed`."""
        del group
        return values.ravel()

    def planned(self, group: Group, kept: Mask) -> Mask:
        """See `ValueSpace.planned`."""
        layer = self.layer(group)
        fan_in = layer.layout.fan_in(self.network.graph.shape_of_constant(layer.weight))
        return kept.reshape(-1, fan_in // layer.layout.taps, layer.layout.taps)

    def planned_units(self, group: Group, mask: Mask) -> Mask | None:
        """See `ValueSpace.planned_units`."""
        del group
        return mask.ravel()
