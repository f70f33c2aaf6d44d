"""What stored constants stand for: floats as they are, integers by their scale and zero point."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import Array, Graph
from ...types import Floats
from .arranged import arranged
from .table import LINEAR


def values(graph: Graph, name: str) -> Array | None:
    """The value of a constant, also behind Identity, as exporters share equal ones; else `None`."""
    while name not in graph.constants:
        made = graph.producer.get(name)
        if made is None or made.op != "Identity":
            return None
        name = made.inputs[0]
    return graph.array(name).astype(np.float64)


def weights(graph: Graph, name: str) -> Array:
    """What a linear node multiplies by, in floats where integers are stored: see `stored`.

    The integers of layers that multiply integers count as they are, from their zero point on: float64.
    """
    if name in graph.constants:
        nothing = zero_point(graph, name)
        return graph.array(name) if nothing is None else graph.array(name) - nothing
    made = arranged(graph, name)
    if made is not None:
        return made.value(graph.array(made.source))
    node = graph.producer[name]
    values, scale, *zero = (graph.array(i) for i in node.inputs)
    return dequantized(values, scale, zero[0] if zero else np.zeros_like(scale), node.attrs.get("axis", 1))


def zero_point(graph: Graph, name: str) -> Floats | None:
    """Of the weight of a layer of integers, so that it broadcasts over it; `None` for any other constant."""
    for node, i in graph.readers.get(name, ()):
        row = LINEAR.get(node.op)
        if row is not None and row.zero is not None and i in row.weights:
            zero = node.inputs[row.zero] if len(node.inputs) > row.zero else ""
            vector = graph.array(zero) if zero in graph.constants else np.zeros(1)
            return along(vector, len(graph.shape_of_constant(name)), row.zero_axis)
    return None


def stored(graph: Graph, name: str) -> str | None:
    """The constant that a tensor is, or is made of; else `None`.

    Made by Cast, Reshape and Transpose of floats, or by DequantizeLinear, not in blocks.
    """
    if name in graph.constants:
        return name
    if (rearranged := arranged(graph, name)) is not None:
        return rearranged.source
    made = graph.producer.get(name)
    if made is None or made.op != "DequantizeLinear" or any(i not in graph.constants for i in made.inputs):
        return None
    integers, scale = made.inputs[:2]
    dtype = graph.dtype(integers)
    plain = dtype.kind in "iu" and dtype.isbuiltin and len(graph.shape_of_constant(scale)) < 2
    return integers if plain else None


def dequantized(values: Array, scale: Array, zero: Array, axis: int) -> Array:
    """(values - zero) scale, in the scale's dtype; one scale for all, or one for each index of an axis."""
    zero, factor = (along(vector, values.ndim, axis) for vector in (zero, scale))
    return np.asarray((values.astype(np.float64) - zero) * factor, scale.dtype)


def nearest(exact: Floats, dtype: np.dtype[Any]) -> Array:
    """The integers that are nearest, of those that there are."""
    limits = np.iinfo(dtype)
    return np.clip(np.rint(exact), limits.min, limits.max).astype(dtype)


def along(vector: Array, ndim: int, axis: int) -> Floats:
    """A scale or zero point, so that it broadcasts: one for each index of an axis, or one for all."""
    shape = [1] * ndim
    if vector.size > 1:
        shape[axis] = vector.size
    return vector.reshape(shape).astype(np.float64)
