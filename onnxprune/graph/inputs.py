"""What a model needs, and which of its sizes are open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from ..errors import InputError
from .core import Graph


@dataclass(frozen=True)
class InputSpec:
    """An input of a model: one entry of `shape` per axis, a size, the name of a symbolic one, or `None`.

    Strings have the dtype `object`.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]


def input_specs(graph: Graph) -> tuple[InputSpec, ...]:
    """What the model needs, in its own order.

    Raises:
        InputError: an input is no tensor.
    """
    specs = []
    for v in graph.model.graph.input:
        if v.name in graph.constants:
            continue
        tensor = v.type.tensor_type
        if not v.type.HasField("tensor_type") or tensor.elem_type == TensorProto.UNDEFINED:
            raise InputError(f"input '{v.name}' is no tensor", where=graph.where)
        dims = tensor.shape.dim
        shape = tuple(d.dim_value if d.dim_value > 0 else d.dim_param or None for d in dims)
        if not tensor.HasField("shape"):
            shape = (None,) * (rank_of(graph, v.name) or 0)
        specs.append(InputSpec(v.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape))
    return tuple(specs)


def rank_of(graph: Graph, name: str) -> int | None:
    """The rank of an input that declares none, from the nodes that read it; `None` if not determined."""
    for node, i in graph.readers.get(name, ()):
        weight = node.inputs[1] if len(node.inputs) > 1 else ""
        if i == 0 and node.op in ("Conv", "ConvTranspose") and weight in graph.constants:
            return len(graph.shape_of_constant(weight))
        if i == 0 and node.op in ("AveragePool", "MaxPool") and node.attrs.get("kernel_shape"):
            return len(node.attrs["kernel_shape"]) + 2
        if i == 0 and node.op in ("GRU", "LSTM", "RNN"):
            return 3
        if i < 2 and node.op == "Gemm":
            return 2
    return None


def symbolic_dims(graph: Graph) -> dict[str, tuple[int, int]]:
    """Name of each symbolic input dimension -> (rank of the input, axis). Unnamed ones get a name."""
    return {symbol: place[1:] for symbol, place in symbol_places(graph).items()}


def symbol_places(graph: Graph) -> dict[str, tuple[str, int, int]]:
    """Name of each symbolic input dimension -> (first input that has it, its rank, the axis)."""
    found: dict[str, tuple[str, int, int]] = {}
    for v in graph.model.graph.input:
        if v.name in graph.constants:
            continue
        tensor = v.type.tensor_type
        if v.type.HasField("tensor_type") and not tensor.HasField("shape"):
            rank = rank_of(graph, v.name) or 0
            found |= {f"{v.name}[{axis}]": (v.name, rank, axis) for axis in range(rank)}
        for axis, d in enumerate(tensor.shape.dim):
            if not d.HasField("dim_value") or d.dim_value <= 0:
                found.setdefault(d.dim_param or f"{v.name}[{axis}]", (v.name, len(tensor.shape.dim), axis))
    return found


def one_sample(graph: Graph, batch: int = 1) -> dict[str, int]:
    """A size for the first axis of every input where it is symbolic: one sample."""
    return {name: batch for name, (_, axis) in symbolic_dims(graph).items() if axis == 0}


def rows_of_a_sample(specs: Sequence[InputSpec]) -> int | None:
    """How many rows of its inputs' first axes one sample of a model takes.

    1 where the model takes any number of them or one; else as many as all inputs are fixed to. `None` where
    first axes differ, as with states of a recurrent network: they are no batch, and a sample is all inputs
    as they are.
    """
    sizes = {s.shape[0] for s in specs if s.shape}
    fixed = {size for size in sizes if isinstance(size, int)}
    if fixed <= {1}:
        return 1
    return fixed.pop() if len(sizes) == 1 else None
