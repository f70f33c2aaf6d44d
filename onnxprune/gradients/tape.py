"""Nodes of a graph under construction, written as arithmetic: `dy * (1.0 - y * y)`.

A `Tape` collects nodes and constants; a `Tensor` is the name of a value on it. What is said twice is emitted
once. Differences between operator sets are known here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from ..graph import Array

DType = np.dtype[Any]

FLOAT32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)
BOOL = np.dtype(np.bool_)

ELEMENT_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "bfloat16": 16,
}
"""Numbers of ONNX's DataType by the name of a dtype, as attributes need them."""

NOTHING: Mapping[str, Any] = MappingProxyType({})

OLDEST_OPSET = 11
"""Before it, Clip, Pad and Gemm have other inputs."""

_AXES_ARE_AN_INPUT = {"ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}
_AXES_ARE_AN_INPUT_OF_REDUCTIONS = 18


@dataclass(frozen=True)
class Emitted:
    """A node, without a name of its own."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any]


@dataclass
class Tape:
    """Collects nodes.

    Attributes:
        opset: of the standard domain.
        prefix: what the names of new tensors begin with; no tensor of the graph does.
        nodes: in the order in which they run.
        constants: what they read beside the graph's own tensors.
    """

    opset: int
    prefix: str
    nodes: list[Emitted] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    _known: dict[tuple[Any, ...], tuple[str, ...]] = field(default_factory=dict)
    _count: int = 0

    def tensor(self, name: str, dtype: DType) -> Tensor:
        """A tensor that exists already."""
        return Tensor(self, name, dtype)

    def emit(
        self,
        op: str,
        *inputs: Tensor | None,
        dtype: DType | None = None,
        attrs: Mapping[str, Any] = NOTHING,
        **more: Any,
    ) -> Tensor:
        """The only output of a node; its dtype is that of the first input unless it is given.

        Attributes may be given as a mapping, by name, or both; of the same name, the latter count.
        """
        return self.emit_many(op, *inputs, dtypes=(dtype,), attrs=attrs, **more)[0]

    def emit_many(
        self,
        op: str,
        *inputs: Tensor | None,
        dtypes: Sequence[DType | None],
        attrs: Mapping[str, Any] = NOTHING,
        **more: Any,
    ) -> tuple[Tensor, ...]:
        """All outputs of a node, one for each of `dtypes`; `None` stands for that of the first input."""
        names = tuple(i.name if i is not None else "" for i in inputs)
        first = next((i.dtype for i in inputs if i is not None), FLOAT32)
        attributes = {**attrs, **more}
        key = (op, names, len(dtypes), repr(sorted(attributes.items())))
        if key not in self._known:
            outputs = tuple(self._fresh() for _ in dtypes)
            self.nodes.append(Emitted(op, names, outputs, attributes))
            self._known[key] = outputs
        made = zip(self._known[key], dtypes, strict=True)
        return tuple(Tensor(self, name, first if dtype is None else dtype) for name, dtype in made)

    def constant(self, value: Any, dtype: DType = FLOAT32) -> Tensor:
        """A constant of a dtype."""
        array = np.asarray(value).astype(dtype)
        key = ("", array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            name = self._fresh()
            self.constants[name] = array
            self._known[key] = (name,)
        return Tensor(self, self._known[key][0], array.dtype)

    def ints(self, values: Sequence[int]) -> Tensor:
        """A constant vector of int64."""
        return self.constant(np.asarray(values, np.int64), INT64)

    def zeros(self, shape: Tensor, dtype: DType) -> Tensor:
        """Zeros of a shape that is computed."""
        zero = self.emit("ConstantOfShape", shape, dtype=FLOAT32)
        return zero.cast(dtype)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Tensors side by side."""
        return parts[0] if len(parts) == 1 else self.emit("Concat", *parts, axis=axis)

    def inner(self) -> Tape:
        """A tape for the body of a loop; what it emits may read what is on this one."""
        return Tape(self.opset, f"{self._fresh()}.")

    def named(self, dtype: DType) -> Tensor:
        """A tensor that comes from outside, under a new name."""
        return Tensor(self, self._fresh(), dtype)

    def _fresh(self) -> str:
        self._count += 1
        return f"{self.prefix}{self._count}"


@dataclass(frozen=True)
class Tensor:
    """A value on a tape.

    Attributes:
        tape: where nodes that read it go.
        name: of the tensor.
        dtype: of its elements.
    """

    tape: Tape
    name: str
    dtype: DType

    # ------------------------------------------------------------ arithmetic

    def __add__(self, other: Tensor | float) -> Tensor:
        return self._with("Add", other)

    def __radd__(self, other: float) -> Tensor:
        return self._with("Add", other)

    def __sub__(self, other: Tensor | float) -> Tensor:
        return self._with("Sub", other)

    def __rsub__(self, other: float) -> Tensor:
        return self.like(other) - self

    def __mul__(self, other: Tensor | float) -> Tensor:
        return self if isinstance(other, float | int) and other == 1 else self._with("Mul", other)

    def __rmul__(self, other: float) -> Tensor:
        return self * other

    def __truediv__(self, other: Tensor | float) -> Tensor:
        if isinstance(other, float | int) and self.dtype.kind == "f":
            return self * (1.0 / other)
        return self._with("Div", other)

    def __rtruediv__(self, other: float) -> Tensor:
        return self.like(other) / self

    def __neg__(self) -> Tensor:
        return self.map("Neg")

    def _with(self, op: str, other: Tensor | float) -> Tensor:
        return self.tape.emit(op, self, other if isinstance(other, Tensor) else self.like(other))

    def like(self, value: Any) -> Tensor:
        """A constant of this tensor's dtype."""
        return self.tape.constant(value, self.dtype)

    def map(self, op: str, **attrs: Any) -> Tensor:
        """An operator of this tensor alone."""
        return self.tape.emit(op, self, **attrs)

    def power(self, exponent: Tensor | float) -> Tensor:
        """Element by element."""
        return self._with("Pow", exponent)

    # ------------------------------------------------------------ masks

    def above(self, other: Tensor | float) -> Tensor:
        """1 where this is greater, else 0.

        Masks are numbers and multiplied: in ONNX Runtime's CPU kernels a Where takes 10 times as long.
        """
        return self._compared("Greater", other).cast(self.dtype)

    def below(self, other: Tensor | float) -> Tensor:
        """1 where this is less, else 0."""
        return self._compared("Less", other).cast(self.dtype)

    def between(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """1 where this lies strictly between two numbers, else 0."""
        inside = self.tape.emit("And", self._compared("Greater", low), self._compared("Less", high))
        return inside.cast(self.dtype)

    def equals(self, other: Tensor) -> Tensor:
        """1 where two tensors are equal, else 0."""
        return self._compared("Equal", other).cast(self.dtype)

    def sign(self) -> Tensor:
        """-1, 0 or 1; faster than the operator."""
        return self.above(0.0) - self.below(0.0)

    def _compared(self, op: str, other: Tensor | float) -> Tensor:
        b = other if isinstance(other, Tensor) else self.like(other)
        return self.tape.emit(op, self, b, dtype=BOOL)

    # ------------------------------------------------------------ dtype and shape

    @property
    def element_type(self) -> int:
        """The number of its dtype in ONNX's DataType."""
        return ELEMENT_TYPES[self.dtype.name]

    def cast(self, dtype: DType) -> Tensor:
        """The same numbers in another dtype."""
        if dtype == self.dtype:
            return self
        return self.tape.emit("Cast", self, dtype=dtype, to=ELEMENT_TYPES[dtype.name])

    def shape(self) -> Tensor:
        """int64, the lengths of its axes."""
        return self.tape.emit("Shape", self, dtype=INT64)

    def length(self, axis: int) -> Tensor:
        """int64 (1,), the length of an axis, which counts from the front."""
        return self.shape().slice([axis], [axis + 1], [0])

    def reshape(self, shape: Sequence[int] | Tensor) -> Tensor:
        """The same numbers in another shape."""
        target = shape if isinstance(shape, Tensor) else self.tape.ints(shape)
        return self.tape.emit("Reshape", self, target)

    def transpose(self, *order: int) -> Tensor:
        """Axes in another order."""
        return self if list(order) == sorted(order) else self.map("Transpose", perm=list(order))

    def unsqueeze(self, *axes: int) -> Tensor:
        """New axes of length 1, at these positions of the result."""
        return self._along("Unsqueeze", axes) if axes else self

    def squeeze(self, *axes: int) -> Tensor:
        """Without these axes of length 1."""
        return self._along("Squeeze", axes) if axes else self

    def expand(self, shape: Sequence[int] | Tensor) -> Tensor:
        """Repeated along axes of length 1."""
        target = shape if isinstance(shape, Tensor) else self.tape.ints(shape)
        return self.tape.emit("Expand", self, target)

    def slice(
        self,
        starts: Sequence[int] | Tensor,
        ends: Sequence[int] | Tensor,
        axes: Sequence[int],
        steps: Sequence[int] | None = None,
    ) -> Tensor:
        """A part of it."""
        ints = self.tape.ints
        begin = starts if isinstance(starts, Tensor) else ints(starts)
        end = ends if isinstance(ends, Tensor) else ints(ends)
        more = [ints(steps)] if steps is not None and any(s != 1 for s in steps) else []
        return self.tape.emit("Slice", self, begin, end, ints(axes), *more)

    def pad(self, pads: Sequence[int] | Tensor) -> Tensor:
        """Zeros around it: what to add at the beginning of every axis, then at every end; negative cuts."""
        if isinstance(pads, Tensor):
            return self.tape.emit("Pad", self, pads)
        return self if not any(pads) else self.tape.emit("Pad", self, self.tape.ints(pads))

    def split(self, sizes: Sequence[int] | Tensor, axis: int, count: int) -> tuple[Tensor, ...]:
        """`count` parts of it; sizes that are computed need opset 13."""
        dtypes = [None] * count
        if self.tape.opset < 13 and not isinstance(sizes, Tensor):
            return self.tape.emit_many("Split", self, dtypes=dtypes, axis=axis, split=list(sizes))
        lengths = sizes if isinstance(sizes, Tensor) else self.tape.ints(sizes)
        return self.tape.emit_many("Split", self, lengths, dtypes=dtypes, axis=axis)

    # ------------------------------------------------------------ sums and products

    def sum(self, axes: Sequence[int], *, keep: bool = False) -> Tensor:
        """Over axes, neighbours together, the last first: up to four times as fast as all at once."""
        total, left = self, sorted(axes)
        while left:
            run = [left.pop()]
            while left and left[-1] == run[0] - 1:
                run.insert(0, left.pop())
            total = total._along("ReduceSum", run, keepdims=int(keep))
        return total

    def mean(self, axes: Sequence[int], *, keep: bool = False) -> Tensor:
        """Over axes."""
        return self._along("ReduceMean", axes, keepdims=int(keep)) if axes else self

    def reduce(self, op: str, axes: Sequence[int], *, keep: bool = False) -> Tensor:
        """Any reduction over axes."""
        return self._along(op, axes, keepdims=int(keep))

    def matmul(self, other: Tensor) -> Tensor:
        """The product of matrices in the last two axes."""
        return self.tape.emit("MatMul", self, other)

    def _along(self, op: str, axes: Sequence[int], **attrs: Any) -> Tensor:
        since = _AXES_ARE_AN_INPUT.get(op, _AXES_ARE_AN_INPUT_OF_REDUCTIONS)
        if self.tape.opset >= since:
            return self.tape.emit(op, self, self.tape.ints(list(axes)), **attrs)
        return self.tape.emit(op, self, axes=list(axes), **attrs)
