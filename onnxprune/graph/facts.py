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
from .inputs import symbol_places
from .sizes import Places, SizeFit, fitted


@dataclass(frozen=True)
class Facts:
    """Shapes and known values of all tensors, for one choice of the symbolic dimensions.

    Attributes:
        shapes: tensor -> shape, or `None` where inference does not reach.
        values: tensor -> value, for shape arithmetic and lone constants.
        dynamic: tensor -> mask over its value: which elements depend on symbolic dimensions.
        dims: the choice made for each symbolic dimension.
        dtypes: tensor -> dtype, where known.
        guessed: symbolic dimensions whose size nothing determines.
    """

    shapes: Mapping[str, Shape | None]
    values: Mapping[str, Array]
    dynamic: Mapping[str, NDArray[np.bool_]]
    dims: Mapping[str, int]
    dtypes: Mapping[str, np.dtype[Any]]
    guessed: frozenset[str] = frozenset()

    def is_dynamic(self, name: str) -> bool:
        """Whether any element of a known value depends on symbolic dimensions."""
        return name in self.dynamic and bool(self.dynamic[name].any())


def infer(graph: Graph, dims: Mapping[str, int] | None = None) -> Facts:
    """Shapes of all tensors and values of all shape arithmetic.

    Symbolic dimensions are given a concrete size: from `dims`, else what weights demand, else a guess by rank
    and axis; and a second one to see which values depend on them. Tensors in branches of an If have the names
    of `graph.flat`.
    """
    graph = graph.flat
    places = symbol_places(graph)
    given = dict(dims or {})
    free = [symbol for symbol in places if not given.get(symbol)]

    def attempt(spatial: int, sequence: int) -> SizeFit:
        guesses = {
            symbol: given.get(symbol) or _guess(rank, axis, spatial, sequence)
            for symbol, (_, rank, axis) in places.items()
        }
        return fitted(graph, guesses, free, places)

    fit = attempt(*_GUESSES[0])
    for larger in _GUESSES[1:] if free else ():
        if fit.found.unknown:
            other = attempt(*larger)
            fit = other if other.found.unknown < fit.found.unknown else fit
    dynamic: dict[str, NDArray[np.bool_]] = {}
    if places:
        moved = fitted(graph, _moved(fit, places), fit.exact, places).found.values
        for name, value in fit.found.values.items():
            other_value = moved.get(name)
            same = other_value is not None and other_value.shape == value.shape
            dynamic[name] = np.asarray(value != other_value) if same else np.ones(value.shape, bool)
    guessed = frozenset(symbol for symbol in free if symbol not in fit.solved)
    return Facts(fit.found.shapes, fit.found.values, dynamic, fit.dims, _dtypes(fit.found.types), guessed)


_GUESSES = ((64, 16), (224, 16), (64, 4096))
"""Sizes of images and lengths of sequences: kernels may be larger than the first ones."""


def _guess(rank: int, axis: int, spatial: int, sequence: int) -> int:
    if axis == 0:
        return 3
    return spatial if rank >= 4 and axis >= 2 else sequence


def _moved(fit: SizeFit, places: Places) -> dict[str, int]:
    """Another size for each symbol that may have one."""
    moved = {s: 5 if axis == 0 else fit.dims[s] + 32 for s, (_, _, axis) in places.items()}
    return moved | dict.fromkeys(fit.loose, 1) | {symbol: fit.dims[symbol] for symbol in fit.exact}


def _dtypes(types: Mapping[str, TypeProto]) -> dict[str, np.dtype[Any]]:
    known = {name: t.tensor_type.elem_type for name, t in types.items() if t.tensor_type.elem_type}
    return {name: onnx.helper.tensor_dtype_to_np_dtype(elem) for name, elem in known.items()}
