"""Weights of integers as floats, so that they can be fitted, and as integers again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..graph import Network
from .integers import IntegerLayer, with_float_layers, with_integer_layers
from .stored import Code, decoded, encoded


@dataclass(frozen=True, eq=False)
class Packing:
    """How the weights of a network were stored.

    Attributes:
        codes: name of a constant -> the integers that it was.
        layers: layers that multiplied integers.
    """

    codes: Mapping[str, Code]
    layers: tuple[IntegerLayer, ...]

    @property
    def outputs(self) -> frozenset[str]:
        """What layers that multiplied integers give, as integers."""
        return frozenset(layer.node.outputs[0] for layer in self.layers)

    def packed(self, network: Network) -> Network:
        """A network with floats as integers again: nearest values, scales larger where they have to be."""
        return network.of(encoded(with_integer_layers(network.graph, self.layers), self.codes))


def dequantized(network: Network) -> tuple[Network, Packing]:
    """The network with floats where DequantizeLinear makes them; layers that multiply integers still do."""
    floats, codes = decoded(network.graph)
    return network.of(floats), Packing(codes, ())


def unpacked(network: Network) -> tuple[Network, Packing]:
    """The network with floats in place of integers, and how to store them again."""
    floats, codes = decoded(network.graph)
    floats, layers = with_float_layers(floats)
    return network.of(floats), Packing(codes, layers)
