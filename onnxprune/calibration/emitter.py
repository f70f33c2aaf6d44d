"""Nodes that reduce tensors to sums: the graph's own layout is kept where it can be.

ONNX Runtime runs convolutions in a blocked layout. What it can pool, multiply and turn to channels-last in
that layout costs little; a Reshape first brings the whole tensor back to the plain one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contracts.request import Request
from ..graph import Appended, Array, Shape

POSITIONS = "onnxprune.positions"
"""The extra input of a graph that looks at some positions only: float32 (samples, positions) in [0, 1)."""

SAMPLED_SINCE = 11
"""The opset from which on a graph may look at some positions only."""

_FLOAT = 1  # as in TensorProto.DataType
_INT64 = 7
_BOOL = 9
_AXES_INPUT_SINCE = {"ReduceSum": 13, "ReduceMean": 18, "Unsqueeze": 13}
_POOLED_RANKS = (3, 4, 5)


class Emitter:
    """Collects the nodes of all requests.

    Args:
        opset: of the graph.
        sampled: whether the graph may look at some positions only.

    Attributes:
        nodes: to append to the graph.
        constants: what they read beside the graph's tensors.
        outputs: what they give: `base.attribute of Moments` -> tensor.
    """

    def __init__(self, opset: int, sampled: bool) -> None:
        self.nodes: list[Appended] = []
        self.constants: dict[str, Array] = {}
        self.outputs: dict[str, str] = {}
        self._opset = opset
        self._sampled = sampled
        self._done: dict[tuple[Any, ...], str] = {}

    def request(self, base: str, r: Request) -> None:
        """Append what a request needs; outputs begin with `base`."""
        if r.kinds & {"zeros", "gram"}:
            self._rows(base, r)
        elif r.kinds & {"sum", "squares"}:
            self._averages(base, r)
        if r.kinds & {"norms", "pooled"}:
            self._per_sample(base, r)
        if "kernels" in r.kinds:
            self._kernels(base, r)

    # ------------------------------------------------------------ rows

    def _rows(self, base: str, r: Request) -> None:
        x, channels = self._matrix(r)
        rows = 1 - channels
        self._give(f"{base}.rows", self._row_count(r, x, rows))
        self._give(f"{base}.sum", self.reduce("ReduceSum", x, rows))
        if "squares" in r.kinds and "gram" not in r.kinds:  # else they are its diagonal
            self._give(f"{base}.squares", self.reduce("ReduceSum", self.op("Mul", x, x), rows))
        if "zeros" in r.kinds:
            zero = self.op("Not", self.op("Cast", x, to=_BOOL))  # before opset 11 Equal takes no floats
            self._give(f"{base}.zeros", self.reduce("ReduceSum", self.op("Cast", zero, to=_FLOAT), rows))
        if "gram" in r.kinds:
            none = () if self._opset >= 11 else (self.const(np.float32(0)),)  # no option before
            turns = {"transA": int(channels == 1), "transB": int(channels == 0)}
            self._give(f"{base}.gram", self.op("Gemm", x, x, *none, **turns))

    def _row_count(self, r: Request, x: str, axis: int) -> str:
        """int64, the length of an axis of the matrix; most tensors have one of a few, made only once."""
        each = r.positions or r.length
        if each is None or not self._sampled:
            return self.op("Gather", self.op("Shape", x), self.const(axis))
        return self.op("Mul", self._samples(POSITIONS), self.const(each))

    def _matrix(self, r: Request) -> tuple[str, int]:
        """The rows of a tensor as a matrix, and which of its axes has the channels: 0 or 1."""
        tensor, axis, shape = _place(r)
        if self._sampled and r.positions:
            return self._some(tensor, axis, shape, r)
        x, channels = self._cube(tensor, axis, shape)
        if channels == 2:
            return self.op("Flatten", x, axis=2), 1
        if len(shape) <= (2 if axis else 1):  # one position: (N, C, 1) is a matrix already
            return self.op("Flatten", x, axis=1), 1
        return self.op("Flatten", self.op("Transpose", x, perm=[1, 0, 2]), axis=1), 0

    def _some(self, tensor: str, axis: int, shape: Shape, r: Request) -> tuple[str, int]:
        """Rows at one position from each of `r.positions` equal stretches."""
        x = self.op("Cast", tensor, to=_FLOAT)
        width = shape[axis]
        if axis == len(shape) - 1 or r.turn:
            if axis != len(shape) - 1:
                order = [0, *(a for a in range(1, len(shape)) if a != axis), axis]
                x = self.op("Transpose", x, perm=order)
            rows = self.op("Reshape", x, self.const([-1, width]))
            return self.op("Gather", rows, self._flat_places(x, r), axis=0), 1
        cube, _ = self._cube(tensor, axis, shape)
        index = self.op("Unsqueeze", self._places(cube, r), axes=[1])
        spread = self.op("Expand", index, self.const([1, width, 1]))
        some = self.op("GatherElements", cube, spread, axis=2)
        return self.op("Flatten", self.op("Transpose", some, perm=[1, 0, 2]), axis=1), 0

    def _places(self, cube: str, r: Request) -> str:
        """int64 (samples, positions), which positions of (samples, channels, positions) to look at."""
        if r.length is not None:
            length = self.const(np.float32(r.length))
        else:
            length = self.op("Cast", self.op("Gather", self.op("Shape", cube), self.const(2)), to=_FLOAT)
        return self._drawn(length, r)

    def _flat_places(self, x: str, r: Request) -> str:
        """int64 (samples * positions,), which rows of (samples, ..., channels) to look at."""
        if r.length is not None:
            length, whole = self.const(np.float32(r.length)), self.const(r.length)
        else:
            inner = self.op("Slice", self.op("Shape", x), self.const([1]), self.const([-1]))
            whole = self.op("ReduceProd", inner, keepdims=0)
            length = self.op("Cast", whole, to=_FLOAT)
        nth = self.op("Range", self.const(0), self._samples(POSITIONS), self.const(1))
        start = self.op("Mul", self.op("Unsqueeze", nth, axes=[1]), whole)
        return self.op("Reshape", self.op("Add", start, self._drawn(length, r)), self.const([-1]))

    def _drawn(self, length: str, r: Request) -> str:
        """int64 (samples, positions): one from each of `r.positions` equal stretches of `length`."""
        positions = r.positions or 0
        drawn = self.op("Slice", POSITIONS, self.const([0]), self.const([positions]), self.const([1]))
        start = self.const(np.arange(positions, dtype=np.float32))
        unit = self.op("Mul", self.op("Add", drawn, start), self.const(np.float32(1 / positions)))
        return self.op("Cast", self.op("Mul", unit, length), to=_INT64)

    def _cube(self, tensor: str, axis: int, shape: Shape) -> tuple[str, int]:
        """A tensor as (samples, channels, positions) or (samples, positions, channels), and the channel axis.

        Channels that come last stay there: transposing all of a tensor costs as much as reducing it.
        """
        x = self.op("Cast", tensor, to=_FLOAT)
        if axis == 0:
            x, shape, axis = self.op("Unsqueeze", x, axes=[0]), (1, *shape), 1
        if 2 <= axis == len(shape) - 1:
            return (x if axis == 2 else self.op("Reshape", x, self.const([0, -1, shape[axis]]))), 2
        if axis != 1:
            order = [0, axis, *(a for a in range(1, len(shape)) if a != axis)]
            x = self.op("Transpose", x, perm=order)
        return (x if len(shape) == 3 else self.op("Reshape", x, self.const([0, 0, -1]))), 1

    # ------------------------------------------------------------ samples

    def _averages(self, base: str, r: Request) -> None:
        """Sums over all rows, from the averages over the positions of each sample."""
        length = self._length(r)
        for kind in sorted(r.kinds & {"sum", "squares"}):
            means = self._means(r, squared=kind == "squares")
            scale = self.op("Cast", length, to=_FLOAT)
            self._give(f"{base}.{kind}", self.op("Mul", self.reduce("ReduceSum", means, 0), scale))
            self._give(f"{base}.rows", self.op("Mul", self._samples(means), length))

    def _per_sample(self, base: str, r: Request) -> None:
        if "norms" in r.kinds:  # ReduceL2 takes 3 times as long
            length = self.op("Cast", self._length(r), to=_FLOAT)
            means = self._means(r, squared=True)
            squares = self.op("Mul", means, length)
            self._give(f"{base}.norms", self.reduce("ReduceSum", self.op("Sqrt", squares), 0))
            self._give(f"{base}.norm_squares", self.reduce("ReduceSum", squares, 0))
        if "pooled" in r.kinds:
            means = self._means(r, squared=False)
            self._give(f"{base}.pooled", means)
        self._give(f"{base}.samples", self._samples(means))

    def _means(self, r: Request, *, squared: bool) -> str:
        """Of x or x² over positions, (samples, channels)."""
        pools = _pools(r)
        x, channels = (self.op("Cast", r.tensor, to=_FLOAT), 1) if pools else self._cube(*_place(r))
        if squared:
            x = self.op("Mul", x, x)
        if pools:
            return self.op("Flatten", self.op("GlobalAveragePool", x), axis=1)
        return self.reduce("ReduceMean", x, 3 - channels)

    def _length(self, r: Request) -> str:
        """int64, the number of positions of a sample."""
        if r.length is not None:
            return self.const(r.length)
        x, channels = self._cube(*_place(r))
        return self.op("Gather", self.op("Shape", x), self.const(3 - channels))

    def _samples(self, x: str) -> str:
        """int64, the length of the first axis."""
        return self.op("Gather", self.op("Shape", x), self.const(0))

    # ------------------------------------------------------------ kernels

    def _kernels(self, base: str, r: Request) -> None:
        """Norms of W_ts * X_s for all filters t and channels s.

        ||W_ts * X_s||² = w_tsᵀ P_s w_ts with P_s = sum of p pᵀ over the patches p of X_s: it takes no more
        than one small matrix for each channel.
        """
        if r.kernel is None:
            raise ValueError(f"the kernel norms of '{r.tensor}' need a kernel")
        weight = np.asarray(r.kernel.weight, np.float32)
        filters, width = weight.shape[:2]
        taps = weight[0, 0].size
        if weight.ndim > 2:
            pick = np.tile(np.eye(taps, dtype=np.float32), (width, 1)).reshape(
                width * taps, 1, *weight.shape[2:]
            )
            x = self.op("Cast", r.tensor, to=_FLOAT)
            patches = self.op("Conv", x, self.const(pick), group=width, **r.kernel.attrs)
            x = self.op("Reshape", patches, self.const([0, width, taps, -1]))
        else:
            cube, channels = self._cube(*_place(r))
            first = self.op("Transpose", cube, perm=[0, 2, 1]) if channels == 2 else cube
            x = self.op("Unsqueeze", first, axes=[2])
        gram = self.op("MatMul", x, self.op("Transpose", x, perm=[0, 1, 3, 2]))
        flat = self.op("Transpose", self.op("Reshape", gram, self.const([0, 0, -1])), perm=[1, 0, 2])
        w = weight.reshape(filters, width, taps)
        pairs = np.einsum("tsa,tsb->sabt", w, w).reshape(width, taps * taps, filters)
        squares = self.op("Max", self.op("MatMul", flat, self.const(pairs)), self.const(np.float32(0)))
        self._give(f"{base}.samples", self.op("Gather", self.op("Shape", flat), self.const(1)))
        for name, value in (("kernel_norms", self.op("Sqrt", squares)), ("kernel_squares", squares)):
            summed = self.reduce("ReduceSum", value, 1)
            self._give(f"{base}.{name}", self.op("Transpose", summed, perm=[1, 0]))

    # ------------------------------------------------------------ nodes

    def op(self, kind: str, *inputs: str, **attrs: Any) -> str:
        """A node; the same one is made only once."""
        key = (kind, inputs, tuple(sorted((k, repr(v)) for k, v in attrs.items())))
        if key not in self._done:
            axes = attrs.get("axes")
            if axes is not None and self._opset >= _AXES_INPUT_SINCE[kind]:
                del attrs["axes"]
                inputs = (*inputs, self.const(axes))
            name = f"onnxprune.n{len(self.nodes)}"
            self.nodes.append(Appended(kind, inputs, name, attrs))
            self._done[key] = name
        return self._done[key]

    def reduce(self, kind: str, x: str, axis: int) -> str:
        """A reduction over one axis, which goes."""
        return self.op(kind, x, axes=[axis], keepdims=0)

    def const(self, value: Any) -> str:
        """A constant: integers as int64, others as float32."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._done:
            name = f"onnxprune.c{len(self.constants)}"
            self.constants[name] = array
            self._done[key] = name
        return self._done[key]

    def _give(self, output: str, x: str) -> None:
        self.outputs[output] = x


def _place(r: Request) -> tuple[str, int, Shape]:
    return r.tensor, r.axis, r.shape


def _pools(r: Request) -> bool:
    """Whether GlobalAveragePool takes the tensor as it is."""
    return r.axis == 1 and len(r.shape) in _POOLED_RANKS
