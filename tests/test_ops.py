"""Every rule against the oracle: one row per operator variant, at every opset that changed the operator.

A row builds what stands between layers that can be pruned. By default all of them must turn out
prunable, and the pruned graph exact. A row may say instead what blocks them, and in which words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import pytest
from nets import PRIMES, SQUARE, Dims, Net
from onnx import TensorProto
from surgery import check, operate

from onnxprune.ops import RULES
from onnxprune.ops.op import Rule

OPSETS = (9, 23)
"""The opsets to test: from what ONNX Runtime still runs to what exporters write."""
PLAIN_OPSET = 17
"""For operators of other domains, which don't change with the opset."""


@dataclass(frozen=True)
class Row:
    """One variant of an operator.

    Attributes:
        op: the operator under test.
        build: makes the tensors to read.
        variant: in words.
        blocked: what the reason must say, if the operator keeps channels; "" if all may go.
        since: first opset of this variant.
        until: last opset of this variant.
        axis: where the reader finds channels: 1 (Conv) or -1 (MatMul, Gemm); by rank if it is not given.
    """

    op: str
    build: Callable[[Net], Any]
    variant: str = ""
    blocked: str = ""
    since: int = 0
    until: int = 99
    axis: int | None = None

    @property
    def opsets(self) -> list[int]:
        """The opsets of this variant that changed the operator."""
        low, high = max(self.since, OPSETS[0]), min(self.until, OPSETS[1])
        history = HISTORY.get(self.op)
        if history is None:
            return [min(max(PLAIN_OPSET, low), high)]
        low = max(low, history[0])
        high = max(high, low)
        return sorted({low, *(v for v in history if low < v <= high)})


def _history() -> dict[str, list[int]]:
    versions: dict[str, list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, []).append(schema.since_version)
    return {name: sorted(found) for name, found in versions.items()}


HISTORY = _history()


def unary(op: str, before: Callable[[Net, str], str] = lambda n, x: x, **attributes: Any) -> Row:
    return Row(op, lambda n: n.node(op, before(n, n.conv()), **attributes))


def binary(op: str, before: Callable[[Net, str], str] = lambda n, x: x, **attributes: Any) -> Row:
    return Row(op, lambda n: n.node(op, before(n, n.conv()), before(n, n.conv()), **attributes))


def to(kind: int) -> Callable[[Net, str], str]:
    return lambda n, x: n.Cast(n.Mul(n.Abs(x), 4.0), to=kind)


def whole(n: Net, x: str) -> str:
    return str(n.Floor(n.Mul(x, 2.0)))


def boolean(n: Net, x: str) -> str:
    return str(n.Greater(x, 0.0))


def above_one(n: Net, x: str) -> str:
    return str(n.Add(n.Abs(x), 1.5))


UNARY = [
    "Abs",
    "Asinh",
    "Atan",
    "Ceil",
    "Cos",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "HardSigmoid",
    "LeakyRelu",
    "Neg",
    "Relu",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Cosh",
    "Tanh",
    "Identity",
    "Dropout",
    "Celu",
    "Clip",
    "Gelu",
    "HardSwish",
    "Mish",
    "Round",
    "ThresholdedRelu",
    "Swish",
    "com.microsoft:Gelu",
    "com.microsoft:QuickGelu",
]

ELEMENTWISE = [
    *map(unary, UNARY),
    unary("Acosh", above_one),
    unary("Log", above_one),
    unary("Reciprocal", above_one),
    unary("Sqrt", above_one),
    unary("Acos", lambda n, x: n.Tanh(x)),
    unary("Asin", lambda n, x: n.Tanh(x)),
    unary("Atanh", lambda n, x: n.Mul(n.Tanh(x), 0.5)),
    unary("Tan", lambda n, x: n.Tanh(x)),
    unary("IsInf", lambda n, x: n.Div(1.0, n.Relu(x))),
    unary("IsNaN", lambda n, x: n.Sqrt(x)),
    unary("Not", boolean),
    unary("BitwiseNot", to(TensorProto.INT32)),
    replace(unary("Bernoulli", lambda n, x: n.Cast(boolean(n, x), to=TensorProto.FLOAT)), until=21),
    unary("Cast", to=TensorProto.INT32),
    Row("Clip", lambda n: n.Clip(n.conv(), np.float32(-0.5), np.float32(0.5)), "limits as inputs", since=11),
    Row("CastLike", lambda n: n.CastLike(n.conv(), np.zeros(3, np.int32))),
    Row("CastLike", lambda n: n.CastLike(n.conv(), n.Cast(n.conv(), to=TensorProto.INT32)), "two branches"),
    *map(binary, ["Add", "Sub", "Mul", "Max", "Mean", "Min", "Sum"]),
    binary("Div", above_one),
    binary("Pow", lambda n, x: n.Sigmoid(x)),
    binary("Mod", lambda n, x: n.Cast(n.Mul(above_one(n, x), 4.0), to=TensorProto.INT32), fmod=0),
    *(binary(op, boolean) for op in ("And", "Or", "Xor")),
    replace(binary("Equal", whole), since=11),
    *(binary(op, whole) for op in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual")),
    *(binary(op, to(TensorProto.INT32)) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    binary("BitShift", to(TensorProto.UINT8), direction="LEFT"),
    Row("PRelu", lambda n: n.PRelu(n.conv(), n.weight(n.C, 1, 1))),
    Row("PRelu", lambda n: n.PRelu(n.conv(), n.weight(1)), "one slope"),
    Row("Where", lambda n: n.Where(boolean(n, n.conv()), n.conv(), n.conv())),
    Row("Where", lambda n: n.Where(boolean(n, n.conv()), n.conv(), 0.0), "with a number"),
    Row("Mul", lambda n: n.Mul(n.conv(), n.weight(n.C, 1, 1)), "by a layer scale"),
    Row("Mul", lambda n: n.Mul(n.weight(1, n.C, 1, 1), n.conv()), "constant first"),
    Row("Add", lambda n: n.Add(n.conv(), n.GlobalAveragePool(n.conv())), "broadcast over space"),
    Row("Add", lambda n: n.Add(n.conv(), n.conv(out=1)), "broadcast over channels"),
    Row("Add", lambda n: n.Add(n.conv(), n.weight(n.H, n.W)), "of a position map"),
    Row(
        "Add",
        lambda n: n.Add(n.conv(), n.input(n.B, n.C, n.H, n.W)),
        "with an input",
        blocked="no removable channels",
    ),
    Row("Add", lambda n: n.Add(n.dense(), n.weight(n.H, n.C)), "of a position embedding"),
    Row("com.microsoft:BiasGelu", lambda n: n.microsoft("BiasGelu", n.dense(), n.weight(n.C))),
    Row("com.microsoft:FastGelu", lambda n: n.microsoft("FastGelu", n.dense(), n.weight(n.C))),
    Row("com.microsoft:FastGelu", lambda n: n.microsoft("FastGelu", n.dense()), "without bias"),
]


def deep(n: Net, rank: int, **attributes: Any) -> str:
    """A convolution of the given rank."""
    return n.conv(kernel=(1,) * rank, **attributes)


LINEAR = [
    Row("Conv", lambda n: n.Relu(n.conv(n.conv(kernel=(3, 3), pads=[1] * 4), kernel=(2, 1), strides=[2, 1]))),
    Row("Conv", lambda n: n.conv(deep(n, 1), kernel=(2,)), "1-D", axis=1),
    Row("Conv", lambda n: n.conv(deep(n, 3), kernel=(2, 1, 2)), "3-D"),
    Row("Conv", lambda n: n.Conv(n.conv(), n.weight(n.C, n.C, 1, 1)), "without bias"),
    Row("Conv", lambda n: n.conv(n.conv(), n.C, (3, 3), pads=[1] * 4, group=n.C), "depthwise"),
    Row(
        "Conv",
        lambda n: n.conv(n.conv(), 3 * n.C, (1, 1), group=n.C),
        "depthwise with multiplier",
    ),
    Row("Conv", lambda n: n.conv(n.conv(out=4 * n.C), 4 * n.C, group=2), "grouped"),
    Row("Conv", lambda n: n.conv(n.conv(out=4 * n.C), 6 * n.C, group=n.C), "grouped, more out than in"),
    Row(
        "Conv",
        lambda n: n.conv(n.conv(n.conv(out=4 * n.C), 4 * n.C, group=2), 4 * n.C, group=4),
        "grouped twice",
    ),
    Row(
        "Conv",
        lambda n: n.Conv(n.conv(), n.Reshape(n.dense(n.input(6, n.C, 3), 1), [6, n.C, 1, 1])),
        "weight computed",
        blocked="no removable channels",
    ),
    Row(
        "ConvTranspose",
        lambda n: n.ConvTranspose(n.conv(), n.weight(n.C, 6, 2, 2), n.weight(6), strides=[2, 2]),
    ),
    Row(
        "ConvTranspose",
        lambda n: n.ConvTranspose(n.conv(), n.weight(n.C, 6, 2, 2), strides=[2, 2]),
        "without bias",
    ),
    Row("ConvTranspose", lambda n: n.ConvTranspose(deep(n, 1), n.weight(n.C, 6, 2)), "1-D", axis=1),
    Row("ConvTranspose", lambda n: n.ConvTranspose(n.conv(), n.weight(n.C, 1, 2, 2), group=n.C), "depthwise"),
    Row(
        "ConvTranspose",
        lambda n: n.ConvTranspose(n.conv(out=4 * n.C), n.weight(4 * n.C, 3, 2, 2), n.weight(6), group=2),
        "grouped",
    ),
    Row("Gemm", lambda n: n.gemm(n.gemm())),
    Row("Gemm", lambda n: n.Gemm(n.gemm(), n.weight(n.C, 6), alpha=0.5), "untransposed, no bias", since=11),
    Row("Gemm", lambda n: n.Gemm(n.gemm(), n.weight(n.C, 6), n.weight(1, 6), beta=0.5), "bias of rank 2"),
    Row(
        "Gemm",
        lambda n: n.Gemm(n.Transpose(n.gemm()), n.weight(n.C, 6), n.weight(6), transA=1),
        "A transposed",
    ),
    Row(
        "Gemm", lambda n: n.Transpose(n.Gemm(n.weight(6, n.C), n.gemm(), transB=1)), "weight first", since=11
    ),
    Row("MatMul", lambda n: n.dense(n.dense())),
    Row("MatMul", lambda n: n.MatMul(n.gemm(), n.weight(n.C, 6)), "of matrices"),
    Row("MatMul", lambda n: n.MatMul(n.dense(), n.weight(n.B, n.C, 6)), "batched weight"),
    Row(
        "MatMul",
        lambda n: n.MatMul(n.weight(6, n.C), n.Transpose(n.dense(), perm=[0, 2, 1])),
        "weight first",
        axis=1,
    ),
    Row(
        "MatMul", lambda n: n.MatMul(n.dense(), n.Transpose(n.dense(), perm=[0, 2, 1])), "of two activations"
    ),
    Row("MatMul", lambda n: n.Unsqueeze(n.MatMul(n.dense(), n.weight(n.C)), [2]), "by a vector", since=13),
    Row(
        "com.microsoft:FusedMatMul",
        lambda n: n.microsoft("FusedMatMul", n.dense(), n.weight(n.C, 6), alpha=0.5),
    ),
    Row(
        "com.microsoft:FusedMatMul",
        lambda n: n.microsoft("FusedMatMul", n.dense(), n.weight(6, n.C), transB=1),
        "B transposed",
    ),
    Row(
        "com.microsoft:FusedMatMul",
        lambda n: n.microsoft(
            "FusedMatMul", n.Transpose(n.dense(), perm=[0, 2, 1]), n.weight(n.C, 6), transA=1
        ),
        "A transposed",
    ),
    Row("Einsum", lambda n: n.Einsum(n.dense(), n.weight(n.C, 6), equation="bhc,co->bho")),
    Row("Einsum", lambda n: n.Einsum(n.dense(), n.weight(6, n.C), equation="...c,oc"), "ellipsis, no arrow"),
    Row("Einsum", lambda n: n.Einsum(n.dense(), n.dense(), equation="bic,bjc->bij"), "of two activations"),
    Row("Einsum", lambda n: n.Einsum(n.conv(), equation="bchw->bhwc"), "that transposes", axis=-1),
    Row(
        "Einsum",
        lambda n: n.Einsum(n.conv(), equation="bchw->bhw"),
        "over channels",
        axis=-1,
    ),
    Row(
        "Einsum",
        lambda n: n.Einsum(n.Sigmoid(n.dense()), n.dense(out=6), equation="btc,btd->bd"),
        "over channels of one",
    ),
]


def reshaped(n: Net, x: str, *shape: int) -> str:
    return str(n.Reshape(x, list(shape)))


LAYOUT = [
    Row("Transpose", lambda n: n.Transpose(n.conv(), perm=[0, 2, 3, 1]), axis=-1),
    Row(
        "Transpose",
        lambda n: n.Transpose(n.Transpose(n.conv(), perm=[1, 0, 3, 2]), perm=[1, 0, 2, 3]),
        "twice",
    ),
    Row("Transpose", lambda n: n.Transpose(n.Transpose(n.dense())), "reversed"),
    Row("Identity", lambda n: n.Add(n.conv(), n.Identity(n.weight(n.C, 1, 1))), "of a constant"),
    Row("Reshape", lambda n: reshaped(n, n.conv(), 0, n.C * n.H * n.W), "to rows"),
    Row("Reshape", lambda n: reshaped(n, n.conv(), n.B, -1), "to rows, inferred"),
    Row("Reshape", lambda n: reshaped(n, n.conv(), 0, n.C, -1), "to columns", axis=1),
    Row("Reshape", lambda n: reshaped(n, n.conv(), 0, 0, n.W, n.H), "zeros copy"),
    Row("Reshape", lambda n: reshaped(n, n.dense(), n.B * n.H, n.C), "of leading axes"),
    Row("Reshape", lambda n: n.Reshape(n.dense(), [n.B * n.H, n.C], allowzero=1), "allowzero", since=14),
    Row(
        "Reshape",
        lambda n: reshaped(n, reshaped(n, n.conv(out=2 * n.C), 0, 2, n.C, n.H, n.W), 0, 2 * n.C, n.H, n.W),
        "there and back",
    ),
    Row("Flatten", lambda n: n.Flatten(n.conv())),
    Row("Flatten", lambda n: n.Flatten(n.dense(), axis=2), "axis 2"),
    Row("Flatten", lambda n: n.Flatten(n.dense(), axis=-1), "axis -1", since=11),
    Row("Squeeze", lambda n: n.Squeeze(n.GlobalAveragePool(n.conv()), axes=[2, 3]), until=12),
    Row("Squeeze", lambda n: n.Squeeze(n.GlobalAveragePool(n.conv()), [2, 3]), "axes as input", since=13),
    Row("Squeeze", lambda n: n.Squeeze(n.GlobalAveragePool(n.conv())), "all axes of length 1"),
    Row("Unsqueeze", lambda n: n.Unsqueeze(n.gemm(), axes=[2, 3]), until=12),
    Row("Unsqueeze", lambda n: n.Unsqueeze(n.gemm(), [-1, -2]), "axes as input", since=13),
    Row("Expand", lambda n: n.Expand(n.GlobalAveragePool(n.conv()), [n.B, n.C, n.H, n.W])),
    Row("Expand", lambda n: n.Expand(n.GlobalAveragePool(n.conv()), [1, 1, n.H, n.W]), "of the other axes"),
    Row("Expand", lambda n: n.Mul(n.conv(), n.Expand(n.conv(out=1), [n.B, n.C, 1, 1])), "to channels"),
    Row("Tile", lambda n: n.Tile(n.conv(), [1, 1, 2, 1])),
    Row("Tile", lambda n: n.Tile(n.conv(), [1, 3, 1, 1]), "of channels"),
    Row("Tile", lambda n: n.Mul(n.conv(), n.Tile(n.conv(out=1), [1, n.C, 1, 1])), "to channels"),
    Row(
        "ConstantOfShape",
        lambda n: n.Concat(n.conv(), n.ConstantOfShape([n.B, n.C, n.H, n.W]), axis=1),
        "beside channels",
    ),
    Row(
        "ConstantOfShape",
        lambda n: n.Add(n.conv(), n.ConstantOfShape(n.Shape(n.conv()))),
        "of a computed shape",
    ),
]


def halves_multiplied(n: Net, x: str) -> str:
    return str(n.Mul(n.Slice(x, [0], [n.C], [1]), n.Slice(x, [n.C], [2 * n.C], [1])))


def one_channel_added(n: Net, x: str) -> str:
    return str(n.Add(x, n.Unsqueeze(n.Gather(x, 1, axis=1), [1])))


INDEX = [
    Row("Concat", lambda n: n.Concat(n.conv(), n.conv(out=2 * n.C), n.conv(), axis=1)),
    Row("Concat", lambda n: n.Concat(n.conv(), n.conv(), axis=2), "of positions"),
    Row("Concat", lambda n: n.Concat(n.dense(), n.dense(out=n.C + 4), axis=-1), "negative axis", since=11),
    Row("Concat", lambda n: n.Concat(n.conv(), n.input(n.B, n.C, n.H, n.W), axis=1), "with an input"),
    Row(
        "Concat",
        lambda n: n.Concat(n.dense(), n.Expand(n.weight(1, 1, n.C), [n.B, 1, n.C]), axis=1),
        "with a token",
    ),
    Row("Split", lambda n: n.Split(n.conv(out=2 * n.C), outputs=2, axis=1), "equal", until=17),
    Row("Split", lambda n: n.Split(n.conv(out=2 * n.C), outputs=2, axis=1, num_outputs=2), "equal", since=18),
    Row(
        "Split",
        lambda n: n.Split(n.conv(out=2 * n.C + 2), outputs=2, axis=1, split=[n.C, n.C + 2]),
        "sizes",
        until=12,
    ),
    Row(
        "Split",
        lambda n: n.Split(n.conv(out=2 * n.C + 2), [n.C, n.C + 2], outputs=2, axis=1),
        "sizes as input",
        since=13,
    ),
    Row(
        "Split",
        lambda n: n.Split(n.dense(out=n.C + 3), [n.C, 3], outputs=2, axis=-1),
        "negative axis",
        since=13,
    ),
    Row("Split", lambda n: n.Split(n.conv(), [1, n.H - 1], outputs=2, axis=2), "of positions", since=13),
    Row("Split", lambda n: n.Mul(*n.Split(n.conv(out=2 * n.C), outputs=2, axis=1)), "GLU", until=17),
    Row(
        "Slice",
        lambda n: n.Slice(n.conv(out=2 * n.C), starts=[1], ends=[n.C], axes=[1]),
        "attributes",
        until=9,
    ),
    Row("Slice", lambda n: n.Slice(n.conv(out=2 * n.C), [1], [n.C], [1]), since=10),
    Row("Slice", lambda n: n.Slice(n.conv(out=2 * n.C), [-n.C], [2**63 - 1], [1]), "from the end", since=10),
    Row("Slice", lambda n: n.Slice(n.dense(out=2 * n.C), [1], [n.C], [-1]), "negative axis", since=10),
    Row(
        "Slice",
        lambda n: n.Slice(n.conv(), [0, 0, 1, 0], [n.B, n.C, n.H, n.W]),
        "of positions, all axes",
        since=10,
    ),
    Row("Slice", lambda n: n.Slice(n.conv(), [-1], [-(2**63)], [1], [-1]), "reversed", since=10),
    Row("Slice", lambda n: n.Slice(n.conv(out=2 * n.C), [0], [2 * n.C], [1], [2]), "with a step", since=10),
    Row(
        "Slice",
        lambda n: halves_multiplied(n, n.conv(out=2 * n.C)),
        "two halves that meet",
        since=10,
    ),
    Row("Gather", lambda n: n.Gather(n.conv(), n.random.permutation(n.C), axis=1), "permutes"),
    Row(
        "Gather",
        lambda n: n.Gather(n.conv(out=n.C + 2), [0, -1, 1, 3], axis=1),
        "some, from the end",
        since=11,
    ),
    Row("Gather", lambda n: n.Gather(n.conv(), [0, 0, 1, 1, 2], axis=1), "repeats"),
    Row("Gather", lambda n: n.Gather(n.dense(), 0, axis=1), "of a position"),
    Row(
        "Gather",
        lambda n: n.Add(n.dense(), n.Gather(n.weight(9, n.C), n.input(n.H, feed=np.arange(n.H)))),
        "embedding",
    ),
    Row(
        "Gather",
        lambda n: n.Gather(n.conv(), n.input(2, feed=np.asarray([0, 2])), axis=1),
        "computed",
        blocked="computed indices",
    ),
    Row(
        "Gather",
        lambda n: one_channel_added(n, n.conv()),
        "of one channel",
        blocked="taken out",
        since=13,
    ),
    Row("GatherND", lambda n: n.GatherND(n.dense(), [[0, 1], [1, 2]])),
    Row("GatherND", lambda n: n.GatherND(n.dense(), np.full((n.B, 1), 1), batch_dims=1), "batched", since=12),
    Row(
        "GatherElements",
        lambda n: n.GatherElements(n.dense(), n.Expand([[[0], [2]]], [n.B, 2, n.C]), axis=1),
        since=13,
    ),
    Row(
        "GatherElements",
        lambda n: n.GatherElements(n.dense(), np.zeros((n.B, n.H, 3), np.int64), axis=2),
        "of channels",
        since=11,
        blocked="looks up",
    ),
    Row(
        "ScatterElements",
        lambda n: n.ScatterElements(
            n.dense(), n.Expand([[[0]]], [n.B, 1, n.C]), n.dense(n.input(n.B, 1, 3)), axis=1
        ),
        since=13,
    ),
    Row(
        "ScatterND",
        lambda n: n.ScatterND(n.dense(), [[0, 1], [1, 2]], n.gemm(n.input(2, 3))),
        since=11,
    ),
    Row("Pad", lambda n: n.Pad(n.conv(), pads=[0, 0, 1, 1, 0, 0, 1, 1]), until=10),
    Row("Pad", lambda n: n.Pad(n.conv(), pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"), "reflect", until=10),
    Row("Pad", lambda n: n.Pad(n.conv(), [0, 0, 1, 1, 0, 0, 1, 1]), "pads as input", since=11),
    Row("Pad", lambda n: n.Pad(n.conv(), [0, 1, 0, 0, 0, 2, 0, 0], np.float32(0.5)), "of channels", since=11),
    Row("Pad", lambda n: n.Pad(n.conv(), [1, 2], None, [-1]), "some axes", since=18),
    Row(
        "Pad",
        lambda n: n.Pad(n.conv(), [0, 1, 0, 0, 0, 1, 0, 0], mode="reflect"),
        "reflects channels",
        since=11,
        blocked="padded",
    ),
]


def nothing_of(n: Net, x: str, axis: int) -> str:
    """A Slice that takes nothing, as exporters leave it where a length is 0."""
    return str(n.Slice(x, [0], [0], [axis]))


def rolled(n: Net, x: str, axis: int) -> str:
    """A shift by 0: nothing, and behind it everything."""
    return str(n.Concat(nothing_of(n, x, axis), n.Slice(x, [0], [2**62], [axis]), axis=axis))


def beside_nothing(n: Net, make: Callable[[str], str]) -> str:
    """What an operator makes of rows that hold nothing, joined with rows that do."""
    return str(n.Concat(make(nothing_of(n, n.dense(), 1)), make(n.dense()), axis=1))


def narrowed_heads(n: Net) -> str:
    """Nothing of each head, joined with all of it."""
    return str(n.Reshape(rolled(n, reshaped(n, n.dense(out=4 * n.C), 0, 0, 4, n.C), 3), [0, 0, -1]))


NOTHING = [
    Row("Slice", lambda n: rolled(n, n.conv(), 1), "of nothing", since=10),
    Row("Slice", lambda n: rolled(n, n.conv(), 2), "of no positions", since=10),
    Row(
        "Slice",
        lambda n: n.Concat(n.Slice(n.conv(), starts=[0], ends=[0], axes=[1]), n.conv(), axis=1),
        "of nothing, attributes",
        until=9,
    ),
    Row(
        "Slice",
        lambda n: n.Concat(n.Slice(n.conv(), [n.C], [2**62], [1]), n.conv(), axis=1),
        "of nothing at the end",
        since=10,
    ),
    Row(
        "Slice",
        lambda n: n.Concat(n.Slice(n.conv(), [-1], [2], [1]), n.conv(), axis=1),
        "of nothing, the end before the start",
        since=10,
    ),
    Row(
        "Slice",
        lambda n: n.Concat(n.Slice(n.conv(), [0], [3], [1], [-1]), n.conv(), axis=1),
        "of nothing, backwards",
        since=10,
    ),
    Row("Slice", narrowed_heads, "of no width of heads", since=13),
    Row("Split", lambda n: n.Concat(*n.Split(n.conv(), [0, n.C], outputs=2, axis=1), axis=1), since=13),
    Row("Gather", lambda n: n.Concat(n.Gather(n.conv(), np.zeros(0, int), axis=1), n.conv(), axis=1)),
    Row("Concat", lambda n: n.Concat(np.zeros((n.B, 0, n.C), np.float32), n.dense(), axis=1)),
    Row("MatMul", lambda n: beside_nothing(n, lambda x: n.dense(x, n.C)), since=13),
    Row(
        "MatMul",
        lambda n: n.Add(n.MatMul(nothing_of(n, n.dense(), 2), n.weight(0, n.C)), n.dense()),
        "over nothing",
        since=13,
    ),
    Row("Add", lambda n: beside_nothing(n, lambda x: n.Add(x, n.gemm(n.input(1, 3)))), since=13),
    Row("Add", lambda n: beside_nothing(n, lambda x: n.Add(x, n.Tanh(x))), "two of them", since=13),
    Row("Softmax", lambda n: beside_nothing(n, lambda x: n.Softmax(x, axis=1)), since=13),
    Row("Unsqueeze", lambda n: beside_nothing(n, lambda x: n.Unsqueeze(x, [2])), since=13, axis=-1),
    Row(
        "Reshape",
        lambda n: beside_nothing(n, lambda x: reshaped(n, n.dense(x, 4 * n.C), 0, 0, 4, n.C)),
        "to heads",
        since=13,
        axis=-1,
    ),
    Row(
        "Flatten",
        lambda n: n.Concat(n.Flatten(nothing_of(n, n.conv(), 2)), n.Flatten(n.conv()), axis=1),
        since=13,
    ),
    Row(
        "Transpose",
        lambda n: n.Concat(
            n.Transpose(nothing_of(n, n.dense(), 1), perm=[0, 2, 1]),
            n.Transpose(n.dense(), perm=[0, 2, 1]),
            axis=2,
        ),
        since=13,
        axis=1,
    ),
    Row("ReduceSum", lambda n: n.Add(n.dense(), n.ReduceSum(nothing_of(n, n.dense(), 1), [1])), since=13),
    Row("LSTM", lambda n: recurrent(n, "LSTM", rolled(n, n.dense(n.input(n.H, n.B, 3)), 0)), since=13),
]
"""Tensors with an axis of length 0."""
NOTHING = [replace(row, variant=f"empty {row.variant}".strip()) for row in NOTHING]


def norm_args(n: Net, channels: int) -> list[np.ndarray]:
    return [n.positive(channels), n.weight(channels)]


NORM = [
    Row(
        "BatchNormalization",
        lambda n: n.BatchNormalization(n.conv(), *norm_args(n, n.C), n.weight(n.C), n.positive(n.C)),
    ),
    Row(
        "BatchNormalization",
        lambda n: n.BatchNormalization(n.gemm(), *norm_args(n, n.C), n.weight(n.C), n.positive(n.C)),
        "after Gemm",
    ),
    Row("InstanceNormalization", lambda n: n.InstanceNormalization(n.conv(), *norm_args(n, n.C))),
    Row(
        "LayerNormalization",
        lambda n: n.LayerNormalization(n.dense(), *norm_args(n, n.C)),
        blocked="normalises",
    ),
    Row(
        "LayerNormalization",
        lambda n: n.LayerNormalization(n.Transpose(n.dense(), perm=[0, 2, 1]), *norm_args(n, n.H)),
        "of positions",
        axis=1,
    ),
    Row("RMSNormalization", lambda n: n.RMSNormalization(n.dense(), n.positive(n.C)), blocked="normalises"),
    Row(
        "SimplifiedLayerNormalization",
        lambda n: n.SimplifiedLayerNormalization(n.dense(), n.positive(n.C)),
        blocked="normalises",
    ),
    Row(
        "GroupNormalization",
        lambda n: n.GroupNormalization(n.conv(out=4 * n.C), *norm_args(n, 4 * n.C), num_groups=n.C),
        since=21,
    ),
    Row(
        "GroupNormalization",
        lambda n: n.GroupNormalization(n.conv(), *norm_args(n, n.C), num_groups=n.C),
        "one each",
        since=21,
    ),
    Row("Softmax", lambda n: n.Softmax(n.conv(), axis=1), blocked="runs over its channels"),
    Row("Softmax", lambda n: n.Softmax(n.conv(), axis=3), "of positions"),
    Row("Softmax", lambda n: n.Softmax(n.conv()), "of positions by default", since=13),
    Row("LogSoftmax", lambda n: n.LogSoftmax(n.conv(), axis=3)),
    Row("Hardmax", lambda n: n.Hardmax(n.conv(), axis=3)),
    Row("LpNormalization", lambda n: n.LpNormalization(n.conv(), axis=2)),
    Row(
        "LpNormalization",
        lambda n: n.LpNormalization(n.Sigmoid(n.conv()), axis=1),
        "of channels",
    ),
    Row("LpNormalization", lambda n: n.LpNormalization(n.conv(), axis=1, p=1), "of channels, p 1"),
    Row(
        "LpNormalization",
        lambda n: reshaped(n, n.LpNormalization(reshaped(n, n.dense(out=4 * n.C), 0, 0, 4, n.C)), 0, 0, -1),
        "of heads",
    ),
    Row("LRN", lambda n: n.LRN(n.conv(), size=3), blocked="mixes channels"),
    Row("MeanVarianceNormalization", lambda n: n.MeanVarianceNormalization(n.conv())),
    Row(
        "MeanVarianceNormalization",
        lambda n: n.MeanVarianceNormalization(n.conv(), axes=[1]),
        "of channels",
        blocked="over its channels",
    ),
]

REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]


SUMS = ["L1", "L2", "LogSum", "Sum", "SumSquare"]


def reduction(kind: str) -> list[Row]:
    op, since = f"Reduce{kind}", 13 if kind == "Sum" else 18

    def source(n: Net) -> str:
        return above_one(n, n.conv())

    return [
        Row(op, lambda n: n.node(op, source(n), axes=[2, 3]), "attribute", until=since - 1),
        Row(op, lambda n: n.node(op, source(n), [-1, 2], keepdims=0), "axes as input", since=since),
        Row(
            op,
            lambda n: n.Unsqueeze(n.node(op, source(n), [1], keepdims=0), [1]),
            "of channels",
            since=since,
            blocked="" if kind in SUMS else "runs over",
        ),
        *(sums(op, since) if kind in SUMS else []),
    ]


def sums(op: str, since: int) -> list[Row]:
    """A channel that reads as zero adds nothing, whatever it is made of."""
    return [
        Row(op, lambda n: n.node(op, above_one(n, n.conv()), axes=[1]), "of channels", until=since - 1),
        Row(op, lambda n: n.Add(n.conv(out=1), n.node(op, n.Exp(n.conv()), [1, 2])), "keeping", since=since),
        Row(
            op,
            lambda n: n.node(
                op, above_one(n, reshaped(n, n.dense(out=4 * n.C), 0, 0, 4, n.C)), [3], keepdims=0
            ),
            "of heads",
            since=since,
        ),
        Row(
            op,
            lambda n: n.node(
                op, above_one(n, reshaped(n, n.dense(out=4 * n.C), 0, 0, 4, n.C)), [2], keepdims=0
            ),
            "across heads",
            since=since,
        ),
    ]


REDUCE = [
    *(row for kind in REDUCTIONS for row in reduction(kind)),
    Row("ReduceSum", lambda n: n.ReduceSum(n.conv(), noop_with_empty_axes=1), "of nothing", since=13),
    Row(
        "ReduceMean",
        lambda n: n.ReduceMean(n.Mul(n.conv(out=2 * n.C), n.weight(1)), [0, 1, 2, 3]),
        "of all",
        since=18,
        blocked="runs over",
    ),
    Row("ArgMax", lambda n: n.ArgMax(n.conv(), axis=2)),
    Row("ArgMax", lambda n: n.ArgMax(n.conv(), axis=1), "of channels", blocked="runs over"),
    Row(
        "ArgMin",
        lambda n: n.ArgMin(n.Transpose(n.conv(), perm=[0, 2, 3, 1]), axis=1, keepdims=0),
        "dropping the axis",
    ),
    Row("CumSum", lambda n: n.CumSum(n.conv(), 2)),
    Row("CumSum", lambda n: n.CumSum(n.conv(), 1), "of channels", blocked="runs over"),
    Row("TopK", lambda n: n.TopK(n.conv(), [2], outputs=2, axis=2)[0], since=10),
    Row("TopK", lambda n: n.TopK(n.dense(), [2], outputs=2)[0], "of channels", since=10, blocked="runs over"),
    Row(
        "ReverseSequence",
        lambda n: n.ReverseSequence(n.dense(), np.arange(n.B) + 1, time_axis=1, batch_axis=0),
        since=10,
    ),
    Row("Trilu", lambda n: n.Trilu(n.conv())),
    Row("Trilu", lambda n: n.Trilu(n.dense()), "of channels", blocked="Trilu"),
]

SPATIAL = [
    Row("MaxPool", lambda n: n.MaxPool(n.conv(), kernel_shape=[2, 2])),
    Row(
        "MaxPool",
        lambda n: n.MaxPool(n.conv(), outputs=2, kernel_shape=[2, 2])[0],
        "with indices",
        blocked="count across",
    ),
    Row("AveragePool", lambda n: n.AveragePool(n.conv(), kernel_shape=[2, 2], strides=[2, 2])),
    Row("LpPool", lambda n: n.LpPool(n.conv(), kernel_shape=[2, 2])),
    Row("GlobalAveragePool", lambda n: n.GlobalAveragePool(n.conv())),
    Row("GlobalMaxPool", lambda n: n.GlobalMaxPool(n.conv())),
    Row("GlobalLpPool", lambda n: n.GlobalLpPool(n.conv()), until=21),
    Row("Resize", lambda n: n.Resize(n.conv(), np.asarray([1, 1, 2, 2], np.float32)), until=10),
    Row(
        "Resize", lambda n: n.Resize(n.conv(), None, np.asarray([1, 1, 2, 2], np.float32)), "scales", since=13
    ),
    Row("Resize", lambda n: n.Resize(n.conv(), None, None, [n.B, n.C, 2 * n.H, n.W]), "sizes", since=13),
    Row(
        "Resize",
        lambda n: n.Resize(n.conv(), None, None, [2 * n.H, n.W], axes=[2, 3]),
        "sizes of some axes",
        since=18,
    ),
    Row("Upsample", lambda n: n.Upsample(n.conv(), np.asarray([1, 1, 2, 2], np.float32)), until=9),
    Row("DepthToSpace", lambda n: n.DepthToSpace(n.conv(out=4 * n.C), blocksize=2)),
    Row(
        "DepthToSpace",
        lambda n: n.DepthToSpace(n.conv(out=4 * n.C), blocksize=2, mode="CRD"),
        "CRD",
        since=11,
    ),
    Row(
        "SpaceToDepth",
        lambda n: n.SpaceToDepth(n.Resize(n.conv(), None, None, [n.B, n.C, 4, 6]), blocksize=2),
        since=13,
    ),
    Row(
        "GridSample",
        lambda n: n.GridSample(n.conv(), n.random.uniform(-1, 1, (n.B, 2, 3, 2)).astype(np.float32)),
    ),
    Row(
        "GridSample",
        lambda n: n.GridSample(n.conv(), n.Transpose(n.Tanh(n.conv(out=2)), perm=[0, 2, 3, 1])),
        "computed grid",
        blocked="are positions",
    ),
    Row(
        "RoiAlign",
        lambda n: n.RoiAlign(n.conv(), np.asarray([[0, 0, 2, 2], [1, 1, 2, 2]], np.float32), [0, 1]),
        until=21,
    ),
    Row(
        "MaxRoiPool",
        lambda n: n.MaxRoiPool(n.conv(), np.asarray([[0, 0, 0, 2, 2]], np.float32), pooled_shape=[2, 2]),
        until=21,
    ),
]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    n: Net,
    kind: str,
    x: str | None = None,
    *,
    hidden: int = 0,
    both: bool = False,
    state: str | None = None,
    lengths: np.ndarray | None = None,
    peepholes: np.ndarray | None = None,
    **extra: Any,
) -> str:
    """Hidden states of all steps, (T, B, directions * H)."""
    x = x or n.dense(n.input(n.H, n.B, 3))
    hidden, directions, gates = hidden or n.C + 1, 1 + both, GATES[kind]
    outputs = n.node(
        kind,
        x,
        n.weight(directions, gates * hidden, n.shape(x)[2]),
        n.weight(directions, gates * hidden, hidden),
        n.weight(directions, 2 * gates * hidden),
        lengths,
        state,
        *([None, peepholes] if kind == "LSTM" else []),
        outputs=2,
        hidden_size=hidden,
        **{"direction": "bidirectional" if both else "forward", **extra},
    )
    if not both:
        return str(n.Squeeze(outputs[0], [1]))
    return reshaped(n, n.Transpose(outputs[0], perm=[0, 2, 1, 3]), n.H, n.B, 2 * hidden)


def states(n: Net, kind: str) -> str:
    """Final states and, of an LSTM, cells, with initial ones that the network computes."""
    hidden = n.C + 1
    first = n.Unsqueeze(n.gemm(n.input(n.B, 3), hidden), [0])
    x, w = n.dense(n.input(n.H, n.B, 3)), n.weight(1, GATES[kind] * hidden, n.C)
    r = n.weight(1, GATES[kind] * hidden, hidden)
    cells = [n.Unsqueeze(n.gemm(n.input(n.B, 3), hidden), [0])] if kind == "LSTM" else []
    outputs = n.node(kind, x, w, r, None, None, first, *cells, outputs=2 + len(cells), hidden_size=hidden)
    return str(n.Squeeze(n.Concat(*outputs[1:], axis=2), [0]))


def zeros(n: Net, *, slices: bool) -> str:
    """States of zeros for two layers of two directions, of which the second takes its part."""
    shape = n.Concat(np.asarray([4]), [n.B], [n.C + 1], axis=0)
    whole = n.Expand(np.zeros((1, 1, 1), np.float32), shape) if slices else n.ConstantOfShape(shape)
    return str(n.Slice(whole, [2], [4], [0]) if slices else n.Split(whole, outputs=2, axis=0)[1])


def learned(n: Net) -> str:
    """An initial state that is the same for all samples and directions."""
    return str(n.Expand(n.weight(1, 1, n.C + 1), [2, n.B, 1]))


def projected(n: Net) -> str:
    """Initial states of two directions that a layer makes."""
    made = reshaped(n, n.gemm(n.input(n.B, 3), 2 * (n.C + 1)), n.B, 2, n.C + 1)
    return str(n.Transpose(made, perm=[1, 0, 2]))


def last_states(n: Net, kind: str, take: Callable[[Net, str], str], **extra: Any) -> str:
    """What is made of the last states of both directions, (2, B, H)."""
    hidden, gates = n.C + 1, GATES[kind]
    weights = [n.weight(2, gates * hidden, width) for width in (n.C, hidden)]
    x = n.dense(n.input(n.H, n.B, 3))
    made = n.node(kind, x, *weights, outputs=2, hidden_size=hidden, direction="bidirectional", **extra)
    return take(n, made[1])


def added(n: Net, states: str) -> str:
    return str(n.Add(n.Gather(states, -1, axis=0), n.Gather(states, -2, axis=0)))


def joined(n: Net, states: str) -> str:
    return str(n.Concat(n.Gather(states, 0, axis=0), n.Gather(states, 1, axis=0), axis=1))


def flattened(n: Net, states: str) -> str:
    return reshaped(n, n.Transpose(states, perm=[1, 0, 2]), n.B, -1)


def streaming(n: Net, kind: str) -> list[str]:
    """A state that the caller keeps: an input of the graph, and an output."""
    hidden = n.C + 1
    weights = [n.weight(1, GATES[kind] * hidden, width) for width in (n.C, hidden)]
    state = n.input(1, n.B, hidden)
    made = n.node(
        kind, n.dense(n.input(n.H, n.B, 3)), *weights, None, None, state, outputs=2, hidden_size=hidden
    )
    n.output(made[1])
    return [n.Squeeze(made[0], [1])]


BOTH_WAYS = [
    row
    for kind in GATES
    for row in [
        Row(
            kind,
            lambda n, k=kind: recurrent(n, k, both=True, state=zeros(n, slices=True)),
            "both ways, state of zeros by Expand and Slice",
            since=13,
        ),
        Row(
            kind,
            lambda n, k=kind: recurrent(n, k, both=True, state=zeros(n, slices=False)),
            "both ways, state of zeros by ConstantOfShape",
            since=13,
            until=17,
        ),
        Row(
            kind,
            lambda n, k=kind: recurrent(n, k, both=True, state=n.const(n.weight(2, n.B, n.C + 1))),
            "both ways, constant state",
            since=13,
        ),
        Row(kind, lambda n, k=kind: recurrent(n, k, both=True, state=learned(n)), "learned state", since=13),
        Row(
            kind, lambda n, k=kind: recurrent(n, k, both=True, state=projected(n)), "computed state", since=13
        ),
        Row(
            kind,
            lambda n, k=kind: recurrent(n, k, both=True, lengths=np.arange(n.B, dtype=np.int32) % 3 + 1),
            "both ways, lengths",
            since=13,
        ),
        Row(kind, lambda n, k=kind: recurrent(n, k, direction="reverse"), "backwards", since=13),
        Row(kind, lambda n, k=kind: last_states(n, k, added), "last states added", since=13),
        Row(kind, lambda n, k=kind: last_states(n, k, joined), "last states joined", since=13),
        Row(kind, lambda n, k=kind: last_states(n, k, flattened), "last states flattened", since=13),
        Row(
            kind,
            lambda n, k=kind: last_states(n, k, lambda m, y: m.MatMul(y, m.weight(2, m.C + 1, 6))),
            "a matrix for each direction",
            since=13,
        ),
        Row(
            kind,
            lambda n, k=kind: streaming(n, k),
            "a state from outside",
            blocked="a state that the caller keeps",
            since=13,
        ),
    ]
]

RECURRENT = [
    *BOTH_WAYS,
    Row(
        "GRU", lambda n: recurrent(n, "GRU", both=True, linear_before_reset=1), "both, reset after", since=13
    ),
    Row(
        "LSTM",
        lambda n: recurrent(n, "LSTM", both=True, peepholes=n.weight(2, 3 * (n.C + 1))),
        "both ways, peepholes",
        since=13,
    ),
    Row("LSTM", lambda n: recurrent(n, "LSTM", peepholes=n.weight(1, 3 * (n.C + 1))), "peepholes", since=13),
    *(Row(op, lambda n, op=op: recurrent(n, op), since=13) for op in GATES),
    *(Row(op, lambda n, op=op: recurrent(n, op, both=True), "both ways", since=13) for op in GATES),
    *(Row(op, lambda n, op=op: recurrent(n, op, recurrent(n, op)), "stacked", since=13) for op in GATES),
    *(
        Row(
            op,
            lambda n, op=op: recurrent(n, op, recurrent(n, op, both=True), both=True),
            "stacked, both ways",
            since=13,
        )
        for op in GATES
    ),
    *(Row(op, lambda n, op=op: states(n, op), "states", since=13) for op in GATES),
    Row("GRU", lambda n: recurrent(n, "GRU", linear_before_reset=1), "reset after", since=13),
    Row(
        "LSTM",
        lambda n: recurrent(n, "LSTM", state=n.const(n.weight(1, n.B, n.C + 1))),
        "constant state",
        since=13,
    ),
]


# ---------------------------------------------------------------- what operators make together


def shuffle(n: Net, x: str, groups: int) -> str:
    """ShuffleNet's channel shuffle."""
    b, c, h, w = n.shape(x)
    cells = n.Transpose(reshaped(n, x, b, groups, c // groups, h, w), perm=[0, 2, 1, 3, 4])
    return reshaped(n, cells, b, c, h, w)


def group_norm(n: Net, x: str, groups: int) -> str:
    """GroupNorm as PyTorch exports it."""
    c = n.shape(x)[1]
    flat = n.InstanceNormalization(
        reshaped(n, x, 0, groups, -1), np.ones(groups, np.float32), np.zeros(groups, np.float32)
    )
    back = n.Reshape(flat, n.Shape(x))
    return str(n.Add(n.Mul(back, n.weight(c, 1, 1)), n.weight(c, 1, 1)))


def pixel_shuffle(n: Net, x: str) -> str:
    b, c, h, w = n.shape(x)
    cells = n.Transpose(reshaped(n, x, b, c // 4, 2, 2, h, w), perm=[0, 1, 4, 2, 5, 3])
    return reshaped(n, cells, b, c // 4, 2 * h, 2 * w)


def squeeze_excite(n: Net, x: str) -> str:
    inner = n.Relu(n.conv(n.GlobalAveragePool(x), 6))
    return str(n.Mul(x, n.Sigmoid(n.conv(inner, n.shape(x)[1]))))


def heads(n: Net, x: str, count: int, *, transposed: bool = False) -> str:
    b, t, c = n.shape(x)
    return str(
        n.Transpose(
            reshaped(n, x, b, t, count, c // count), perm=[0, 2, 3, 1] if transposed else [0, 2, 1, 3]
        )
    )


def merge_heads(n: Net, y: str) -> str:
    b, k, t, d = n.shape(y)
    return reshaped(n, n.Transpose(y, perm=[0, 2, 1, 3]), b, t, k * d)


def attend(n: Net, q: str, k: str, v: str) -> str:
    """Softmax(q k) v, with k transposed already."""
    return str(n.MatMul(n.Softmax(n.Mul(n.MatMul(q, k), 0.3), axis=-1), v))


def attention(n: Net, count: int, width: int) -> str:
    x, c = n.input(n.B, n.H, 3), count * width
    q, k, v = (
        heads(n, n.dense(x, c), count),
        heads(n, n.dense(x, c), count, transposed=True),
        heads(n, n.dense(x, c), count),
    )
    return merge_heads(n, attend(n, q, k, v))


def fused_attention(n: Net, count: int, width: int) -> str:
    """One projection for q, k and v, taken apart on a leading axis (timm)."""
    x = n.input(n.B, n.H, 3)
    qkv = n.Transpose(
        reshaped(n, n.dense(x, 3 * count * width), n.B, n.H, 3, count, width), perm=[2, 0, 3, 1, 4]
    )
    q, k, v = (n.Gather(qkv, i, axis=0) for i in range(3))
    return merge_heads(n, attend(n, q, n.Transpose(k, perm=[0, 1, 3, 2]), v))


def split_attention(n: Net, count: int, width: int) -> str:
    """One projection for q, k and v, taken apart by Split."""
    x = n.input(n.B, n.H, 3)
    parts = n.Split(n.dense(x, 3 * count * width), outputs=3, axis=-1)
    q, k, v = (heads(n, p, count) for p in parts)
    return merge_heads(n, attend(n, q, n.Transpose(k, perm=[0, 1, 3, 2]), v))


def flat_attention(n: Net, count: int, width: int) -> str:
    """Heads and batch on one axis (torch.nn.MultiheadAttention)."""
    x, c = n.input(n.H, n.B, 3), count * width

    def rows(y: str) -> str:
        return str(n.Transpose(reshaped(n, y, n.H, n.B * count, width), perm=[1, 0, 2]))

    q, k, v = (rows(n.dense(x, c)) for _ in range(3))
    y = attend(n, q, n.Transpose(k, perm=[0, 2, 1]), v)
    return reshaped(n, n.Transpose(y, perm=[1, 0, 2]), n.H, n.B, c)


def grouped_query_attention(n: Net, count: int, shared: int, width: int) -> str:
    """Each head of k and v serves several of q, repeated by Expand."""
    x, times = n.input(n.B, n.H, 3), count // shared

    def repeated(y: str) -> str:
        once = n.Unsqueeze(heads(n, y, shared), [2])
        return reshaped(n, n.Expand(once, [n.B, shared, times, n.H, width]), n.B, count, n.H, width)

    q = heads(n, n.dense(x, count * width), count)
    k, v = repeated(n.dense(x, shared * width)), repeated(n.dense(x, shared * width))
    return merge_heads(n, attend(n, q, n.Transpose(k, perm=[0, 1, 3, 2]), v))


def conv_attention(n: Net, count: int, width: int) -> str:
    """Over positions of an image, channels first (k, q, v of shape (B, heads, width, H*W))."""
    x, c = n.input(n.B, 3, n.H, n.W), count * width
    q, k, v = (reshaped(n, n.conv(x, c), n.B, count, width, n.H * n.W) for _ in range(3))
    weights = n.Softmax(n.MatMul(n.Transpose(q, perm=[0, 1, 3, 2]), k), axis=-1)
    y = n.MatMul(v, n.Transpose(weights, perm=[0, 1, 3, 2]))
    return reshaped(n, y, n.B, c, n.H, n.W)


def dynamic_flatten(n: Net) -> str:
    """x.view(x.shape[0], -1) of a symbolic batch."""
    x = n.conv(n.input("batch", 3, n.H, n.W))
    batch = n.Unsqueeze(n.Gather(n.Shape(x), 0), [0])
    return str(n.Reshape(x, n.Concat(batch, [-1], axis=0)))


def dynamic_shuffle(n: Net) -> str:
    """Every number of the Reshape comes out of Shape, the widths too."""
    x = n.conv(n.input("batch", 3, n.H, n.W), 2 * n.C)

    def length(axis: int) -> str:
        return str(n.Gather(n.Shape(x), axis))

    half = n.Unsqueeze(n.Div(length(1), 2), [0])
    space = [n.Unsqueeze(length(a), [0]) for a in (2, 3)]
    batch = n.Unsqueeze(length(0), [0])
    cells = n.Transpose(n.Reshape(x, n.Concat(batch, [2], half, *space, axis=0)), perm=[0, 2, 1, 3, 4])
    return str(n.Reshape(cells, n.Concat(batch, [-1], *space, axis=0)))


def dynamic_heads(n: Net) -> str:
    """Attention of a symbolic batch; numbers of heads are literal, the batch is computed."""
    x = n.input("batch", n.H, 3)
    batch = n.Unsqueeze(n.Gather(n.Shape(x), 0), [0])

    def split(y: str) -> str:
        return str(n.Transpose(n.Reshape(y, n.Concat(batch, [n.H], [4], [n.C], axis=0)), perm=[0, 2, 1, 3]))

    q, k, v = (split(n.dense(x, 4 * n.C)) for _ in range(3))
    y = attend(n, q, n.Transpose(k, perm=[0, 1, 3, 2]), v)
    return str(n.Reshape(n.Transpose(y, perm=[0, 2, 1, 3]), n.Concat(batch, [n.H], [4 * n.C], axis=0)))


def siamese(n: Net) -> str:
    """Two towers with the same weights."""
    w, b = n.const(n.weight(n.C, 3, 1, 1)), n.const(n.weight(n.C))
    left, right = (n.Relu(n.Conv(n.input(n.B, 3, n.H, n.W), w, b)) for _ in range(2))
    return str(n.Concat(left, right, axis=1))


def tied(n: Net) -> str:
    """One matrix that reads in one place and, transposed, makes channels in another."""
    w = n.const(n.weight(n.C, n.C))
    hidden = n.Relu(n.MatMul(n.Relu(n.dense()), w))
    return str(n.Relu(n.MatMul(hidden, n.Transpose(w))))


def through(n: Net) -> str:
    """Weights come through Transpose, Reshape and Identity."""
    w = n.Reshape(n.Identity(n.Transpose(n.weight(n.C, 6), perm=[1, 0])), [6, n.C, 1, 1])
    return str(n.Conv(n.conv(), w, n.Identity(n.weight(6))))


def merged_vectors(n: Net) -> str:
    """Two layers whose equal biases an exporter has merged."""
    b = n.const(n.weight(n.C))
    x = n.input(n.B, 3, n.H, n.W)
    return str(n.conv(n.Conv(n.Conv(x, n.weight(n.C, 3, 1, 1), b), n.weight(n.C, n.C, 1, 1), b), n.C))


def dense_block(n: Net) -> str:
    first = n.conv()
    second = n.conv(first)
    third = n.conv(n.Concat(first, second, axis=1))
    return str(n.Concat(first, second, third, axis=1))


def residual(n: Net) -> str:
    x = n.conv()
    for _ in range(2):
        x = n.Add(x, n.conv(n.Relu(n.conv(x, n.C + 2)), n.C))
    return str(x)


def branch(n: Net, body: Callable[[Net, str], str]) -> str:
    """If whose branches read a tensor from outside."""
    x = n.conv()
    bodies = []
    for k in range(2):
        inner = Net(f"body{k}", PRIMES, n.opset)
        result = body(inner, x)
        info = onnx.helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
        bodies.append(onnx.helper.make_graph(inner._nodes, f"body{k}", [], [info], inner._initializers))
    return str(n.If(n.const(np.asarray(True)), then_branch=bodies[0], else_branch=bodies[1]))


TOGETHER = [
    Row("Add", residual, "residual stream"),
    Row("Mul", lambda n: squeeze_excite(n, n.conv()), "squeeze and excitation"),
    Row("Mul", lambda n: n.Mul(n.dense(), n.Sigmoid(n.dense())), "gate"),
    Row("Concat", dense_block, "dense block"),
    Row("Reshape", lambda n: shuffle(n, n.conv(out=2 * n.C), 2), "channel shuffle"),
    Row(
        "Reshape", lambda n: shuffle(n, n.conv(n.conv(out=4 * n.C), 4 * n.C, group=2), 2), "shuffle of groups"
    ),
    Row("Reshape", lambda n: group_norm(n, n.conv(out=4 * n.C), n.C), "GroupNorm as exported"),
    Row("Reshape", lambda n: pixel_shuffle(n, n.conv(out=4 * n.C)), "PixelShuffle"),
    Row("Reshape", lambda n: attention(n, 4, n.C), "heads", since=13),
    Row("Reshape", lambda n: attention(n, 2, 4), "two heads: their width goes", since=13),
    Row("Reshape", lambda n: fused_attention(n, 4, n.C), "heads of a fused qkv", since=13),
    Row("Reshape", lambda n: split_attention(n, 4, n.C), "heads of a split qkv", since=13, until=17),
    Row("Reshape", lambda n: flat_attention(n, 4, n.C), "heads beside the batch", since=13),
    Row("Reshape", lambda n: grouped_query_attention(n, 8, 4, n.C), "grouped heads", since=13),
    Row("Reshape", lambda n: conv_attention(n, 4, n.C), "heads over an image", since=13),
    Row("Reshape", dynamic_flatten, "symbolic batch", since=13),
    Row("Reshape", dynamic_shuffle, "all numbers computed", since=13),
    Row("Reshape", dynamic_heads, "heads of a symbolic batch", since=13),
    Row("Conv", siamese, "shared by two towers"),
    Row("MatMul", tied, "tied weights"),
    Row("Conv", through, "weights through other nodes"),
    Row("Conv", merged_vectors, "merged biases"),
    Row("Conv", lambda n: branch(n, lambda m, x: m.Relu(x)), "read inside an If", blocked="If has"),
    Row("Relu", lambda n: n.output(n.Relu(n.conv())) or n.conv(), "graph output", blocked="graph output"),
    Row(
        "Conv",
        lambda n: n.Compress(n.conv(), [True, False, True], axis=1),
        "before what has no rule",
        blocked="no rule",
    ),
]

# ---------------------------------------------------------------- fused operators

HEADS = 4


def qkv(n: Net, count: int = HEADS, shared: int = 0, width: int = 8) -> list[str]:
    """Queries of `count` heads; keys and values of `shared`, if not of as many."""
    x, shared = n.input(n.B, n.H, 3), shared or count
    return [n.dense(x, heads * width) for heads in (count, shared, shared)]


def fused(n: Net, *extra: Any, **attributes: Any) -> str:
    """com.microsoft Attention behind a layer, queries and keys 8 wide, values as wide unless said."""
    sizes = attributes.get("qkv_hidden_sizes", [8 * HEADS] * 3)
    parts = [n.dense(), n.weight(sum(sizes), n.C).T, n.weight(sum(sizes)), *extra]
    return str(n.microsoft("Attention", *parts, num_heads=HEADS, **attributes))


def grouped_query(n: Net, *parts: str | None, **attributes: Any) -> str:
    lengths = [np.full(n.B, n.H - 1, np.int32), np.asarray(n.H, np.int32)]
    parts = (*parts, *[None] * (3 - len(parts)))
    return str(n.microsoft("GroupQueryAttention", *parts, None, None, *lengths, outputs=3, **attributes)[0])


def given_keys(n: Net, attend: Callable[[str, str, str], str], shared: int = 1) -> str:
    """Eight heads of queries, from a layer, that read a few of keys and values; these are inputs."""
    q = n.dense(out=8 * 8)
    return attend(q, *(n.input(n.B, n.H, shared * 8) for _ in "kv"))


def cached_query(n: Net) -> str:
    """One step behind others that are in the cache; one head of keys."""
    q, k, v = n.dense(n.input(n.B, 1, 3), 8 * 8), n.input(n.B, 1, 8), n.input(n.B, 1, 8)
    past = [n.input(n.B, 1, n.H, 8) for _ in "kv"]
    lengths = [np.full(n.B, n.H, np.int32), np.asarray(n.H + 1, np.int32)]
    made = n.microsoft(
        "GroupQueryAttention", q, k, v, *past, *lengths, outputs=3, num_heads=8, kv_num_heads=1
    )
    n.output(made[1])
    return str(made[0])


def angles(n: Net, half: int) -> list[np.ndarray]:
    """Cosines and sines of some angles for each position."""
    turns = n.weight(n.H, half)
    return [np.cos(turns), np.sin(turns)]


def batched(n: Net, tables: list[np.ndarray]) -> list[np.ndarray]:
    return [np.tile(t, (n.B, 1, 1)) for t in tables]


def rotated(n: Net, op: str, **attributes: Any) -> str:
    """Four heads of width 8, each rotated in itself."""
    x, tables = n.dense(out=32), angles(n, 4)
    if ":" not in op:
        return str(n.node(op, x, *batched(n, tables), **attributes))
    return str(n.node(op, x, np.tile(np.arange(n.H), (n.B, 1)), *tables, **attributes))


def skip_norm(n: Net, kind: str, *parameters: np.ndarray) -> list[str]:
    made = n.microsoft(kind, n.dense(), n.dense(), *parameters, outputs=4)
    return [made[0], made[3]]


FUSED = [
    Row("com.microsoft:Attention", fused),
    Row(
        "com.microsoft:Attention",
        lambda n: fused(n, qkv_hidden_sizes=[32, 32, 12]),
        "values of another width",
    ),
    Row(
        "com.microsoft:Attention",
        lambda n: fused(n, None, None, n.weight(1, 1, n.H, n.H)),
        "same bias for all heads",
    ),
    Row(
        "com.microsoft:Attention",
        lambda n: fused(n, None, None, n.weight(n.B, HEADS, n.H, n.H)),
        "bias for each head",
    ),
    Row(
        "com.microsoft:Attention",
        lambda n: fused(n, n.input(n.B, n.H, feed=np.ones((n.B, n.H), np.int32)), unidirectional=1),
        "masked",
    ),
    Row(
        "com.microsoft:MultiHeadAttention",
        lambda n: n.microsoft("MultiHeadAttention", *qkv(n), num_heads=HEADS),
    ),
    Row(
        "com.microsoft:MultiHeadAttention",
        lambda n: n.microsoft(
            "MultiHeadAttention", *qkv(n), n.weight(96), None, n.weight(1, HEADS, n.H, n.H), num_heads=HEADS
        ),
        "bias, and one of the scores",
    ),
    Row(
        "com.microsoft:MultiHeadAttention",
        lambda n: n.microsoft(
            "MultiHeadAttention", n.dense(out=32), n.dense(out=32), n.input(n.B, n.H, 32), num_heads=HEADS
        ),
        "values from outside",
        blocked="no removable heads",
    ),
    Row(
        "com.microsoft:GroupQueryAttention",
        lambda n: grouped_query(n, *qkv(n, 8, 4), num_heads=8, kv_num_heads=4),
    ),
    Row(
        "com.microsoft:GroupQueryAttention",
        lambda n: grouped_query(n, n.dense(out=16 * 8), num_heads=8, kv_num_heads=4),
        "packed",
    ),
    Row(
        "com.microsoft:GroupQueryAttention",
        lambda n: given_keys(
            n, lambda q, k, v: grouped_query(n, q, k, v, num_heads=8, kv_num_heads=2), shared=2
        ),
        "two heads of keys",
    ),
    Row(
        "com.microsoft:GroupQueryAttention",
        lambda n: given_keys(n, lambda q, k, v: grouped_query(n, q, k, v, num_heads=8, kv_num_heads=1)),
        "one head of keys",
    ),
    Row(
        "com.microsoft:GroupQueryAttention",
        lambda n: given_keys(
            n,
            lambda q, k, v: grouped_query(n, n.Concat(q, k, v, axis=2), num_heads=8, kv_num_heads=1),
        ),
        "one head of keys, packed",
    ),
    Row(
        "com.microsoft:GroupQueryAttention",
        cached_query,
        "one head of keys, cached",
    ),
    Row("com.microsoft:RotaryEmbedding", lambda n: rotated(n, "com.microsoft:RotaryEmbedding")),
    Row(
        "com.microsoft:RotaryEmbedding",
        lambda n: rotated(n, "com.microsoft:RotaryEmbedding", num_heads=HEADS),
        "counted",
    ),
    Row("RotaryEmbedding", lambda n: rotated(n, "RotaryEmbedding", num_heads=HEADS), since=23),
    Row(
        "RotaryEmbedding",
        lambda n: merge_heads(
            n, n.RotaryEmbedding(heads(n, n.dense(out=32), HEADS), *batched(n, angles(n, 4)))
        ),
        "4-D",
        since=23,
    ),
    Row("Attention", lambda n: n.Attention(*qkv(n), q_num_heads=HEADS, kv_num_heads=HEADS), "3-D", since=23),
    Row(
        "Attention",
        lambda n: n.Attention(*qkv(n, 8, 4), q_num_heads=8, kv_num_heads=4),
        "3-D, grouped",
        since=23,
    ),
    Row(
        "Attention",
        lambda n: merge_heads(n, n.Attention(*(heads(n, x, HEADS) for x in qkv(n)))),
        "4-D",
        since=23,
    ),
    Row(
        "Attention",
        lambda n: merge_heads(
            n, n.Attention(*(heads(n, x, k) for x, k in zip(qkv(n, 8, 4), (8, 4, 4), strict=True)))
        ),
        "4-D, grouped",
        since=23,
    ),
    Row(
        "Attention",
        lambda n: given_keys(n, lambda q, k, v: n.Attention(q, k, v, q_num_heads=8, kv_num_heads=1)),
        "3-D, one head of keys",
        since=23,
    ),
    Row(
        "Attention",
        lambda n: given_keys(
            n,
            lambda q, k, v: merge_heads(
                n,
                n.Attention(*(heads(n, x, c) for x, c in ((q, 8), (k, 1), (v, 1))), n.weight(1, 8, n.H, n.H)),
            ),
        ),
        "4-D, one head of keys, bias for each head",
        since=23,
    ),
    Row(
        "Attention",
        lambda n: n.Attention(*qkv(n), n.weight(1, HEADS, n.H, n.H), q_num_heads=HEADS, kv_num_heads=HEADS),
        "bias for each head",
        since=23,
    ),
    Row(
        "com.microsoft:SkipLayerNormalization",
        lambda n: skip_norm(n, "SkipLayerNormalization", *norm_args(n, n.C)),
        blocked="normalises",
    ),
    Row(
        "com.microsoft:SkipSimplifiedLayerNormalization",
        lambda n: skip_norm(n, "SkipSimplifiedLayerNormalization", n.positive(n.C)),
        blocked="normalises",
    ),
    Row(
        "com.microsoft:EmbedLayerNormalization",
        lambda n: n.microsoft(
            "EmbedLayerNormalization",
            n.input(n.B, n.H, feed=np.zeros((n.B, n.H), np.int32)),
            None,
            n.weight(9, n.C),
            n.weight(n.H, n.C),
            None,
            *norm_args(n, n.C),
            outputs=2,
        )[0],
        blocked="normalises",
    ),
    Row(
        "com.microsoft:FusedConv",
        lambda n: n.microsoft("FusedConv", n.conv(), n.weight(6, n.C, 1, 1), n.weight(6), activation="Relu"),
    ),
    Row(
        "com.microsoft:FusedConv",
        lambda n: n.microsoft(
            "FusedConv", n.conv(), n.weight(6, n.C, 1, 1), n.weight(6), n.conv(out=6), activation="Relu"
        ),
        "with a sum",
    ),
    Row(
        "com.microsoft:FusedGemm",
        lambda n: n.microsoft("FusedGemm", n.gemm(), n.weight(n.C, 6), n.weight(6), activation="Relu"),
    ),
    Row(
        "com.microsoft:FusedMatMul",
        lambda n: n.microsoft("FusedMatMul", n.dense(), n.weight(n.B, n.C, 6), transBatchA=0, transBatchB=0),
        "batched",
    ),
]


# ---------------------------------------------------------------- quantised operators

SCALE, ZERO = np.float32(0.05), np.uint8(120)


def whole_numbers(n: Net, *shape: int, kind: type = np.int8) -> np.ndarray:
    limits = np.iinfo(kind)
    return n.random.integers(limits.min, limits.max + 1, shape).astype(kind)


def quantized(n: Net, x: str) -> str:
    return str(n.QuantizeLinear(x, SCALE, ZERO))


def dequantized(n: Net, x: str) -> str:
    return str(n.DequantizeLinear(x, SCALE, ZERO))


def quantized_lstm(
    n: Net, x: str, directions: int = 1, *, state: str | None = None, **attributes: Any
) -> str:
    """Hidden states of all steps, (T, directions * B, 6)."""
    # Half of the range: processors without VNNI cut sums of pairs off at 16 bits, whichever are a pair.
    weights = [whole_numbers(n, directions, inputs, 24) // 2 for inputs in (n.shape(x)[2], 6)]
    codes = [a for _ in weights for a in (scales(n, directions), np.zeros(directions, np.int8))]
    y = n.microsoft(
        "DynamicQuantizeLSTM",
        x,
        *weights,
        n.weight(directions, 48),
        None,
        state,
        None,
        None,
        *codes,
        hidden_size=6,
        **attributes,
    )
    return reshaped(n, y, n.H, directions * n.B, 6)


def scales(n: Net, channels: int) -> np.ndarray:
    return (0.01 * n.positive(channels)).astype(np.float32)


def quantized_weight(n: Net, out: int, *rest: int, zeros: bool = False, **attributes: Any) -> str:
    """A weight with a scale, and maybe a zero point, for each output channel."""
    points = [whole_numbers(n, out)] if zeros else []
    return str(
        n.DequantizeLinear(whole_numbers(n, out, *rest), scales(n, out), *points, axis=0, **attributes)
    )


def qdq_conv(n: Net, x: str, out: int, **attributes: Any) -> str:
    inside = n.shape(x)[1] // attributes.get("group", 1)
    y = n.Conv(
        dequantized(n, quantized(n, x)), quantized_weight(n, out, inside, 1, 1), n.weight(out), **attributes
    )
    return dequantized(n, quantized(n, n.Relu(y)))


def qlinear_conv(n: Net, x: str, out: int, **attributes: Any) -> str:
    weight = whole_numbers(n, out, n.shape(x)[1] // attributes.get("group", 1), 1, 1)
    bias = whole_numbers(n, out).astype(np.int32)
    parts = [x, SCALE, ZERO, weight, scales(n, out), np.zeros(out, np.int8), np.float32(0.2), ZERO, bias]
    return str(n.QLinearConv(*parts, **attributes))


def qlinear_matmul(n: Net, x: str, out: int) -> str:
    weight = whole_numbers(n, n.shape(x)[-1], out)
    return str(
        n.QLinearMatMul(x, SCALE, ZERO, weight, scales(n, out), whole_numbers(n, out), np.float32(0.2), ZERO)
    )


def qlinear(n: Net, kind: str, *tensors: str, **attributes: Any) -> str:
    """An operator of com.microsoft on quantised tensors, and its result as floats."""
    parts = [p for x in tensors for p in (quantized(n, x), SCALE, ZERO)]
    return dequantized(n, n.microsoft(kind, *parts, SCALE, ZERO, **attributes))


def dynamic_product(n: Net, x: str) -> str:
    """Weights are of seven bits, as sums of pairs are cut off at 16 bits on some processors."""
    values, _, zero = n.DynamicQuantizeLinear(x, outputs=3)
    return str(n.MatMulInteger(values, whole_numbers(n, n.C, 6) // 2, zero))


def few_bits(
    n: Net, zeros: type[np.generic] | None = None, *, bits: int = 4, x: str = "", blocks: int = 0
) -> str:
    """MatMulNBits behind a layer, blocks of 16; with zero points of some type."""
    blocks = blocks or n.C
    rows, points = n.C + 1, None
    if zeros is np.uint8:
        points = whole_numbers(n, rows, -(-blocks * bits // 8), kind=np.uint8)
    elif zeros is not None:
        points = n.positive(rows, blocks)
    return str(
        n.microsoft(
            "MatMulNBits",
            x or n.dense(out=16 * blocks),
            whole_numbers(n, rows, blocks, 2 * bits, kind=np.uint8),
            scales(n, rows * blocks),
            points,
            N=rows,
            K=16 * blocks,
            bits=bits,
            block_size=16,
        )
    )


QUANTISED = [
    Row("QuantizeLinear", lambda n: dequantized(n, quantized(n, n.conv())), since=10),
    Row(
        "QuantizeLinear",
        lambda n: n.DequantizeLinear(
            n.QuantizeLinear(n.conv(), c := n.const(scales(n, n.C)), np.zeros(n.C, np.int8), axis=1),
            c,
            axis=1,
        ),
        "by channel",
        since=13,
    ),
    Row(
        "DequantizeLinear",
        lambda n: n.Conv(n.conv(), quantized_weight(n, 6, n.C, 1, 1)),
        "weight by channel",
        since=13,
    ),
    Row(
        "DequantizeLinear",
        lambda n: n.Conv(
            n.Conv(n.input(n.B, 3, n.H, n.W), quantized_weight(n, n.C, 3, 1, 1, zeros=True)),
            n.weight(6, n.C, 1, 1),
        ),
        "zero points",
        since=13,
    ),
    Row("DequantizeLinear", lambda n: qdq_conv(n, qdq_conv(n, n.conv(), n.C + 1), 6), "layers", since=13),
    Row("DequantizeLinear", lambda n: qdq_conv(n, n.conv(), n.C, group=n.C), "depthwise layer", since=13),
    Row(
        "DequantizeLinear",
        lambda n: n.MatMul(
            n.dense(out=8),
            n.DequantizeLinear(whole_numbers(n, 8, 6), scales(n, 12).reshape(2, 6), axis=0, block_size=4),
        ),
        "by block",
        since=21,
        blocked="each block",
    ),
    Row("QLinearConv", lambda n: qlinear_conv(n, quantized(n, n.conv()), 6), since=10),
    Row(
        "QLinearConv",
        lambda n: qlinear_conv(n, qlinear_conv(n, quantized(n, n.conv()), n.C + 1), 6),
        "twice",
        since=10,
    ),
    Row(
        "QLinearConv",
        lambda n: qlinear_conv(n, quantized(n, n.conv()), n.C, group=n.C),
        "depthwise",
        since=10,
    ),
    Row(
        "QLinearMatMul",
        lambda n: qlinear_matmul(n, qlinear_matmul(n, quantized(n, n.dense()), n.C + 1), 6),
        since=10,
    ),
    Row(
        "ConvInteger",
        lambda n: n.ConvInteger(
            quantized(n, n.conv()), whole_numbers(n, 6, n.C, 1, 1, kind=np.uint8), ZERO, np.uint8(9)
        ),
        since=10,
    ),
    Row(
        "ConvInteger",
        lambda n: n.ConvInteger(quantized(n, n.conv()), whole_numbers(n, 6, n.C, 1, 1, kind=np.uint8)),
        "no zero points",
        since=10,
    ),
    Row(
        "MatMulInteger",
        lambda n: n.MatMulInteger(
            quantized(n, n.dense()), whole_numbers(n, n.C, 6), ZERO, whole_numbers(n, 6)
        ),
        since=10,
    ),
    Row(
        "MatMulInteger",
        lambda n: n.MatMulInteger(quantized(n, n.dense()), whole_numbers(n, n.C, 6)),
        "no zero points",
        since=10,
    ),
    Row(
        "DynamicQuantizeLinear",
        lambda n: dynamic_product(n, n.dense()),
        since=11,
    ),
    Row("com.microsoft:DynamicQuantizeLSTM", lambda n: quantized_lstm(n, n.dense(n.input(n.H, n.B, 3)))),
    Row(
        "com.microsoft:DynamicQuantizeLSTM",
        lambda n: quantized_lstm(n, n.dense(n.input(n.H, n.B, 3)), 2, direction="bidirectional"),
        "both ways",
    ),
    Row(
        "com.microsoft:DynamicQuantizeLSTM",
        lambda n: quantized_lstm(n, n.input(n.H, n.B, 3), state=n.Unsqueeze(n.gemm(n.input(n.B, 3), 6), [0])),
        "states",
        blocked="are states of the DynamicQuantizeLSTM",
    ),
    Row(
        "com.microsoft:DynamicQuantizeMatMul",
        lambda n: n.microsoft(
            "DynamicQuantizeMatMul", n.dense(), whole_numbers(n, n.C, 6), scales(n, 6), None, n.weight(6)
        ),
    ),
    Row(
        "com.microsoft:MatMulIntegerToFloat",
        lambda n: n.microsoft(
            "MatMulIntegerToFloat",
            quantized(n, n.dense()),
            whole_numbers(n, n.C, 6),
            SCALE,
            scales(n, 6),
            ZERO,
            whole_numbers(n, 6),
        ),
    ),
    Row(
        "com.microsoft:MatMulNBits",
        lambda n: n.microsoft(
            "MatMulNBits",
            n.input(n.B, n.H, 32),
            whole_numbers(n, n.C, 2, 8, kind=np.uint8),
            scales(n, 2 * n.C),
            N=n.C,
            K=32,
            bits=4,
            block_size=16,
        ),
    ),
    Row("com.microsoft:MatMulNBits", few_bits, "reads blocks"),
    Row(
        "com.microsoft:MatMulNBits", lambda n: few_bits(n, np.float32), "reads blocks, zero points as floats"
    ),
    Row("com.microsoft:MatMulNBits", lambda n: few_bits(n, np.uint8), "reads blocks, packed zero points"),
    Row("com.microsoft:MatMulNBits", lambda n: few_bits(n, np.uint8, bits=8), "reads blocks of bytes"),
    Row(
        "com.microsoft:MatMulNBits",
        lambda n: few_bits(n, np.uint8, x=attention(n, 4, 32), blocks=8),
        "reads heads",
    ),
    Row(
        "com.microsoft:QGemm",
        lambda n: dequantized(
            n,
            n.microsoft(
                "QGemm",
                quantized(n, n.gemm()),
                SCALE,
                ZERO,
                whole_numbers(n, 6, n.C),
                scales(n, 6),
                np.zeros(6, np.int8),
                whole_numbers(n, 6).astype(np.int32),
                SCALE,
                ZERO,
                transB=1,
            ),
        ),
    ),
    Row(
        "com.microsoft:QLinearAveragePool",
        lambda n: qlinear(n, "QLinearAveragePool", n.conv(), kernel_shape=[2, 2]),
    ),
    Row(
        "com.microsoft:QuantizeLinear",
        lambda n: dequantized(n, n.microsoft("QuantizeLinear", n.conv(), SCALE, ZERO)),
    ),
    Row(
        "com.microsoft:DequantizeLinear",
        lambda n: n.microsoft("DequantizeLinear", quantized(n, n.conv()), SCALE, ZERO),
    ),
    Row("com.microsoft:QLinearAdd", lambda n: qlinear(n, "QLinearAdd", n.conv(), n.conv())),
    Row(
        "com.microsoft:QLinearMul",
        lambda n: qlinear(n, "QLinearMul", n.conv(), n.GlobalAveragePool(n.conv())),
    ),
    Row("com.microsoft:QLinearSigmoid", lambda n: qlinear(n, "QLinearSigmoid", n.conv())),
    Row("com.microsoft:QLinearLeakyRelu", lambda n: qlinear(n, "QLinearLeakyRelu", n.conv(), alpha=0.1)),
    Row("com.microsoft:QLinearGlobalAveragePool", lambda n: qlinear(n, "QLinearGlobalAveragePool", n.conv())),
    Row(
        "com.microsoft:QLinearConcat",
        lambda n: dequantized(
            n,
            n.microsoft(
                "QLinearConcat",
                SCALE,
                ZERO,
                *(p for _ in "ab" for p in (quantized(n, n.conv()), SCALE, ZERO)),
                axis=1,
            ),
        ),
    ),
]

ROWS = [
    *ELEMENTWISE,
    *LINEAR,
    *LAYOUT,
    *INDEX,
    *NOTHING,
    *NORM,
    *REDUCE,
    *SPATIAL,
    *RECURRENT,
    *FUSED,
    *QUANTISED,
    *TOGETHER,
]


def cases() -> Iterator[Any]:
    for row in ROWS:
        for opset in row.opsets:
            for dims, shape in ((PRIMES, "primes"), (SQUARE, "square")):
                words = "-".join([row.op.rpartition(":")[2], *row.variant.split(), str(opset), shape])
                yield pytest.param(row, opset, dims, id=words)


def build(row: Row, dims: Dims, opset: int) -> Net:
    """The model of a row."""
    net = Net(f"{row.op} {row.variant}", dims, opset)
    results = row.build(net)
    for result in [results] if isinstance(results, str) else results:
        net.read(result, row.axis)
    return net


def judge(row: Row, opset: int, dims: Dims, rules: Mapping[str, Rule] = RULES, seed: int = 0) -> None:
    """Prune the model of a row, and hold it against what the row says and against the oracle."""
    net = build(row, dims, opset)
    surgery = operate(net.finished(), dims=net.symbols, rules=rules, seed=seed)
    expected = row.blocked == "graph output"
    reasons = [
        b.cause.reason for b in surgery.analysis.blocked if expected or "graph output" not in b.cause.reason
    ]
    if row.blocked:
        assert any(row.blocked in reason for reason in reasons), reasons
    else:
        assert reasons == []
        assert surgery.removed
    for feeds in net.feeds():
        check(surgery, feeds, all_read=True)


@pytest.mark.parametrize(("row", "opset", "dims"), list(cases()))
def test_rule(row: Row, opset: int, dims: Dims) -> None:
    judge(row, opset, dims)


def test_every_rule_has_a_row() -> None:
    assert sorted(set(RULES) - {row.op for row in ROWS}) == []
