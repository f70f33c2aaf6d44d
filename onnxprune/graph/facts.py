"""Shapes of all tensors, and values of all shape arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TypeProto

from .core import Array, Graph, Shape
from .inputs import symbolic_dims
from .propagation import Propagation


@dataclass(frozen=True)
class Facts:
    """Shapes and known values of all tensors, for one choice of the symbolic dimensions.

    Attributes:
        shapes: tensor -> shape, or `None` where inference does not reach.
        values: tensor -> value, for shape arithmetic and lone constants.
        dynamic: tensor -> mask over its value: which elements depend on symbolic dimensions.
        dims: the choice made for each symbolic dimension.
        dtypes: tensor -> dtype, where known.
    """

    shapes: Mapping[str, Shape | None]
    values: Mapping[str, Array]
    dynamic: Mapping[str, NDArray[np.bool_]]
    dims: Mapping[str, int]
    dtypes: Mapping[str, np.dtype[Any]]

    def is_dynamic(self, name: str) -> bool:
        """Whether any element of a known value depends on symbolic dimensions."""
        return name in self.dynamic and bool(self.dynamic[name].any())


def _guess(rank: int, axis: int, spatial: int, sequence: int, batch: int) -> int:
    if axis == 0:
        return batch
    return spatial if rank >= 4 and axis >= 2 else sequence


def infer(graph: Graph, dims: Mapping[str, int] | None = None) -> Facts:
    """Shapes of all tensors and values of all shape arithmetic.

    Symbolic dimensions are given a concrete size (from `dims`, else a guess by rank and axis), and
    a second one to see which values depend on them.
    """
    symbols = symbolic_dims(graph)
    given = dict(dims or {})

    def choose(spatial: int, sequence: int, batch: int) -> dict[str, int]:
        return {s: given.get(s) or _guess(r, a, spatial, sequence, batch) for s, (r, a) in symbols.items()}

    first = choose(64, 16, 3)
    found = Propagation(graph, first)
    if symbols and found.unknown:
        other = choose(224, 16, 3)
        alternative = Propagation(graph, other)
        if alternative.unknown < found.unknown:
            first, found = other, alternative
    dynamic: dict[str, NDArray[np.bool_]] = {}
    if symbols:
        second = {s: 5 if a == 0 else first[s] + 32 for s, (_, a) in symbols.items()}
        moved = Propagation(graph, second).values
        for name, value in found.values.items():
            other_value = moved.get(name)
            same = other_value is not None and other_value.shape == value.shape
            dynamic[name] = np.asarray(value != other_value) if same else np.ones(value.shape, bool)
    return Facts(found.shapes, found.values, dynamic, first, _dtypes(found.types))


def _dtypes(types: Mapping[str, TypeProto]) -> dict[str, np.dtype[Any]]:
    known = {name: t.tensor_type.elem_type for name, t in types.items() if t.tensor_type.elem_type}
    return {name: onnx.helper.tensor_dtype_to_np_dtype(elem) for name, elem in known.items()}
