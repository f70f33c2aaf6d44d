"""Reductions inside the graph, so that ONNX Runtime computes the sums and only sums come out.

Dumping activations to reduce them later takes memory that grows with the samples. Here it grows with the
channels alone:

    meter = Meter(graph, [Request("relu1", 1, (1, 64, 28, 28), {"gram"})])
    session = Session(meter.graph.serialized())
    for feeds in batches:
        meter.add(session.run(meter.feeds(feeds)))
    meter.moments[0].covariance

Sums over a batch are float32 (float16 is cast first); over batches they are float64.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from .graph import Appended, Array, Graph, Shape, appended
from .stats import Floats, Moments

Kind = Literal["sum", "squares", "zeros", "gram", "cross", "norms", "pooled", "kernels"]

POSITIONS = "onnxprune.positions"
"""The extra input of a graph that looks at some positions only: float32 (samples, positions) in [0, 1)."""

_FLOAT = 1  # as in TensorProto.DataType
_INT64 = 7
_BOOL = 9
_AXES_INPUT_SINCE = {"ReduceSum": 13, "ReduceMean": 18, "Unsqueeze": 13}
_GATHER_ELEMENTS_SINCE = 11


@dataclass(frozen=True)
class Kernel:
    """Which convolution to take the per-kernel norms of; its input is the request's tensor.

    Attributes:
        weight: float (T, S, *taps), groups written out as zeros or, for a matrix product, (T, S).
        attrs: attributes of the Conv that say where its taps fall: kernel_shape, strides, pads, dilations.
    """

    weight: Floats
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """What to gather from one tensor.

    Attributes:
        tensor: its name.
        axis: of its channels, not negative. All other axes are positions; axis 0 counts samples, too,
            unless it is the channel axis.
        shape: of the tensor; only its rank and the lengths of `axis` are relied on.
        kinds: what to gather, as the attributes of `Moments`: `gram` brings `sum`; `norms` and `kernels`
            bring their squares.
        positions: look at this many positions of each sample, drawn evenly from all; `None`: at all. Norms
            and pooled values always see all.
        other: for `cross`: (tensor, axis, shape) that has the same positions.
        kernel: for `kernels`.
    """

    tensor: str
    axis: int
    shape: Shape
    kinds: frozenset[Kind]
    positions: int | None = None
    other: tuple[str, int, Shape] | None = None
    kernel: Kernel | None = None


class Meter:
    """A graph that gives sums, and the sums it has given so far.

    Args:
        graph: the graph to look into.
        requests: what to gather.
        seed: of the positions to look at.

    Attributes:
        graph: `graph` with reductions appended, and only their results as outputs.
    """

    def __init__(self, graph: Graph, requests: Sequence[Request], seed: int = 0) -> None:
        self.requests = tuple(requests)
        self._seed = seed
        self._sums: dict[str, Array] = {}
        self._pooled: dict[str, list[Array]] = {}
        if graph.opset() < _GATHER_ELEMENTS_SINCE:  # looking at all positions is only slower
            self.positions = 0
        else:
            self.positions = max((r.positions or 0 for r in requests), default=0)
        emit = _Emitter(graph.opset(), self.positions > 0)
        for index, request in enumerate(self.requests):
            emit.request(f"onnxprune.{index}", request)
        extra = {POSITIONS: (np.dtype(np.float32), (None, self.positions))} if self.positions else {}
        self.graph = appended(graph, emit.nodes, emit.constants, extra, emit.outputs)

    def feeds(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs of `graph` for a batch: with the positions to look at, if there is a choice.

        They are drawn from the content of each sample, so neither the batch size nor the order of the samples
        changes them.
        """
        if not self.positions:
            return dict(feeds)
        count = max((len(a) for a in feeds.values() if a.ndim), default=1)
        drawn = np.empty((count, self.positions), np.float32)
        for k in range(count):
            digest = self._seed
            for name in sorted(feeds):
                array = feeds[name]
                part = array[k] if array.ndim and len(array) == count else array
                digest = zlib.crc32(np.ascontiguousarray(part).view(np.uint8).data, digest)
            drawn[k] = np.random.default_rng(digest).random(self.positions, np.float32)
        # The largest float32 below 1 times a length may round up to that length.
        return {**feeds, POSITIONS: np.minimum(drawn, np.float32(0.9999))}

    def add(self, outputs: Mapping[str, Array]) -> None:
        """Add what the graph gave for one batch."""
        for name, value in outputs.items():
            if name.endswith(".pooled"):
                self._pooled.setdefault(name, []).append(value)
            elif name in self._sums:
                self._sums[name] += value
            else:
                self._sums[name] = value.astype(np.float64)

    @property
    def moments(self) -> tuple[Moments, ...]:
        """The moments of each request, over all batches so far."""
        return tuple(self._moments(f"onnxprune.{i}") for i in range(len(self.requests)))

    def _moments(self, base: str) -> Moments:
        known: dict[str, Any] = {}
        for field in fields(Moments):
            name = f"{base}.{field.name}"
            if name in self._pooled:
                known[field.name] = np.concatenate(self._pooled[name])
            elif name in self._sums:
                value = self._sums[name]
                known[field.name] = round(float(value)) if field.name in ("rows", "samples") else value
        return Moments(**known)


def augmented(graph: Graph, requests: Sequence[Request]) -> Graph:
    """The graph with reductions appended, giving only sums: see `Meter`."""
    return Meter(graph, requests).graph


class _Emitter:
    """Collects the nodes of all requests."""

    def __init__(self, opset: int, sampled: bool) -> None:
        self.nodes: list[Appended] = []
        self.constants: dict[str, Array] = {}
        self.outputs: list[str] = []
        self._opset = opset
        self._sampled = sampled
        self._done: dict[tuple[Any, ...], str] = {}

    def request(self, base: str, r: Request) -> None:
        per_row = r.kinds & {"sum", "squares", "zeros", "gram", "cross"}
        if per_row:
            self._rows(base, r)
        if r.kinds & {"norms", "pooled"}:
            self._per_sample(base, r)
        if "kernels" in r.kinds:
            self._kernels(base, r)

    # ------------------------------------------------------------ rows

    def _rows(self, base: str, r: Request) -> None:
        x, channels = self._matrix(r.tensor, r.axis, r.shape, r.positions)
        rows = 1 - channels
        self._give(f"{base}.rows", self.op("Gather", self.op("Shape", x), self.const(rows)))
        self._give(f"{base}.sum", self.reduce("ReduceSum", x, rows))
        if "squares" in r.kinds and "gram" not in r.kinds:  # else they are its diagonal
            self._give(f"{base}.squares", self.reduce("ReduceSum", self.op("Mul", x, x), rows))
        if "zeros" in r.kinds:
            if self._opset >= 11:  # Equal doesn't compare floats before
                zero = self.op("Equal", x, self.const(0.0))
            else:
                zero = self.op("Not", self.op("Cast", x, to=_BOOL))
            self._give(f"{base}.zeros", self.reduce("ReduceSum", self.op("Cast", zero, to=_FLOAT), rows))
        if "gram" in r.kinds:
            self._give(f"{base}.gram", self._product(x, channels, x, channels))
        if "cross" in r.kinds:
            if r.other is None:
                raise ValueError(f"the cross-moments of '{r.tensor}' need another tensor")
            y, other_channels = self._matrix(*r.other, r.positions)
            self._give(f"{base}.other_sum", self.reduce("ReduceSum", y, 1 - other_channels))
            self._give(f"{base}.cross", self._product(x, channels, y, other_channels))

    def _product(self, x: str, x_channels: int, y: str, y_channels: int) -> str:
        zero = () if self._opset >= 11 else (self.const(np.float32(0)),)  # no option before
        return self.op("Gemm", x, y, *zero, transA=int(x_channels == 1), transB=int(y_channels == 0))

    def _matrix(self, tensor: str, axis: int, shape: Shape, positions: int | None) -> tuple[str, int]:
        """The rows of a tensor as a matrix, and which of its axes has the channels: 0 or 1."""
        x, channels = self._cube(tensor, axis, shape)
        if self._sampled and positions:
            x = self._some(x, channels, shape[axis], positions)
        if channels == 2:
            return self.op("Flatten", x, axis=2), 1
        if len(shape) <= (2 if axis else 1):  # one position: (N, C, 1) is a matrix already
            return self.op("Flatten", x, axis=1), 1
        return self.op("Flatten", self.op("Transpose", x, perm=[1, 0, 2]), axis=1), 0

    def _some(self, x: str, channels: int, width: int, positions: int) -> str:
        """One position from each of `positions` equal stretches."""
        drawn = self.op("Slice", POSITIONS, self.const([0]), self.const([positions]), self.const([1]))
        start = self.const(np.arange(positions, dtype=np.float32))
        unit = self.op("Mul", self.op("Add", drawn, start), self.const(np.float32(1 / positions)))
        length = self.op("Gather", self.op("Shape", x), self.const(3 - channels))
        place = self.op("Cast", self.op("Mul", unit, self.op("Cast", length, to=_FLOAT)), to=_INT64)
        index = self.op("Unsqueeze", place, axes=[channels])
        spread = [1, 1, 1]
        spread[channels] = width
        return self.op("GatherElements", x, self.op("Expand", index, self.const(spread)), axis=3 - channels)

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

    def _per_sample(self, base: str, r: Request) -> None:
        x, channels = self._cube(r.tensor, r.axis, r.shape)
        self._give(f"{base}.samples", self.op("Gather", self.op("Shape", x), self.const(0)))
        if "norms" in r.kinds:
            squares = self.reduce(
                "ReduceSum", self.op("Mul", x, x), 3 - channels
            )  # ReduceL2 takes 3 times as long
            self._give(f"{base}.norms", self.reduce("ReduceSum", self.op("Sqrt", squares), 0))
            self._give(f"{base}.norm_squares", self.reduce("ReduceSum", squares, 0))
        if "pooled" in r.kinds:
            self._give(f"{base}.pooled", self.reduce("ReduceMean", x, 3 - channels))

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
            cube, channels = self._cube(r.tensor, r.axis, r.shape)
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
        if output not in self.outputs:
            self.nodes.append(Appended("Identity", (x,), output, {}))
            self.outputs.append(output)
