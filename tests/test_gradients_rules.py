"""Every rule of the gradients against central differences: one row per operator variant.

A row builds tensors, whose random projection is differentiated with respect to every weight and every input
of floating-point numbers. A row may say instead what blocks a gradient, and in which words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
from nets import PRIMES, Dims, Net
from onnx import TensorProto
from slopes import STEPS, compare, sources

from onnxprune.errors import Infeasible
from onnxprune.gradients import differentiable, gradient_graph
from onnxprune.gradients.rules import RULES
from onnxprune.gradients.tape import Tensor
from onnxprune.gradients.vjp import Rule
from onnxprune.graph import Graph, infer

OPSETS = (13, 23)
PLAIN_OPSET = 17
"""For operators of other domains."""


@dataclass(frozen=True)
class Row:
    """One variant of an operator.

    Attributes:
        op: the operator under test.
        build: makes the tensors to read.
        variant: in words.
        blocked: what the reason must say, if there is no gradient; "" if there is one.
        since: first opset of this variant.
        until: last opset of this variant.
        tolerance: relative, where differences tell less.
        steps: of the differences.
    """

    op: str
    build: Callable[[Net], Any]
    variant: str = ""
    blocked: str = ""
    since: int = 0
    until: int = 99
    tolerance: float = 2e-3
    steps: tuple[float, ...] = STEPS

    @property
    def opsets(self) -> list[int]:
        """The opsets of this variant that changed the operator."""
        low, high = max(self.since, OPSETS[0]), min(self.until, OPSETS[1])
        history = HISTORY.get(self.op)
        if history is None:
            return [min(max(PLAIN_OPSET, low), high)]
        low = max(low, history[0])
        high = max(high, low)
        return sorted({low, high, *(v for v in history if low < v <= high)})


def _history() -> dict[str, list[int]]:
    versions: dict[str, list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, []).append(schema.since_version)
    return {name: sorted(found) for name, found in versions.items()}


HISTORY = _history()


def image(n: Net) -> str:
    return n.input(n.B, n.C, n.H, n.W)


def tokens(n: Net) -> str:
    return n.input(n.B, n.H, n.C)


def positive(n: Net, *shape: int) -> str:
    return n.input(*shape, feed=n.positive(*shape))


def away(n: Net, *shape: int) -> str:
    """Values in steps of a third, none of them near another or near 0: maxima and signs don't flip."""
    size = int(np.prod(shape))
    values = (n.random.permutation(size) - size // 2 + 0.4) / 3
    return n.input(*shape, feed=values.reshape(shape).astype(np.float32))


def unary(op: str, source: Callable[[Net], str] = image, variant: str = "", **attributes: Any) -> Row:
    return Row(op, lambda n: n.node(op, source(n), **attributes), variant)


def small(n: Net) -> str:
    """Between -1 and 1."""
    return n.input(n.B, n.C, feed=n.random.uniform(-0.8, 0.8, (n.B, n.C)).astype(np.float32))


def distinct(n: Net) -> str:
    return away(n, n.B, n.C, n.H, n.W)


def above_one(n: Net) -> str:
    return n.input(n.B, n.C, feed=1.5 + n.positive(n.B, n.C))


ELEMENTWISE = [
    *(
        unary(op)
        for op in [
            "Asinh",
            "Atan",
            "Cos",
            "Cosh",
            "Erf",
            "Exp",
            "Identity",
            "Neg",
            "Sigmoid",
            "Sin",
            "Sinh",
            "Softplus",
            "Tanh",
        ]
    ),
    *(unary(op) for op in ["Elu", "Celu", "Selu", "Softsign", "Mish", "Gelu", "HardSwish", "Swish"]),
    *(unary(op, distinct) for op in ["Abs", "Relu", "LeakyRelu"]),
    *(unary(op, small) for op in ["Acos", "Asin", "Atanh", "Tan"]),
    *(unary(op, above_one) for op in ["Acosh", "Log", "Reciprocal", "Sqrt"]),
    unary("Celu", variant="alpha", alpha=0.5),
    unary("Elu", variant="alpha", alpha=0.5),
    unary("LeakyRelu", distinct, "alpha", alpha=0.3),
    unary("HardSigmoid", distinct, alpha=0.3, beta=0.45),
    unary("Swish", variant="alpha", alpha=1.7),
    unary("Shrink", distinct, lambd=0.6, bias=0.2),
    unary("ThresholdedRelu", distinct, alpha=0.5),
    unary("Gelu", variant="tanh", approximate="tanh"),
    unary("Cast", variant="to double", to=TensorProto.DOUBLE),
    unary("Dropout"),
    unary("com.microsoft:Gelu"),
    unary("com.microsoft:QuickGelu", alpha=1.5),
    Row("CastLike", lambda n: n.CastLike(image(n), np.zeros(1, np.float64)), since=15),
    Row("Clip", lambda n: n.Clip(distinct(n), np.float32(-0.5), np.float32(0.5))),
    Row("Clip", lambda n: n.Clip(distinct(n), np.float32(-0.5)), "from below"),
    Row("Clip", lambda n: n.Clip(distinct(n), None, np.float32(0.5)), "from above"),
    Row("Dropout", lambda n: n.Dropout(image(n), np.float32(0.5), True), "training", blocked="training"),
]


def pair(op: str, second: Callable[[Net], Any] = image, variant: str = "", **more: Any) -> Row:
    return Row(op, lambda n: n.node(op, image(n), second(n)), variant, **more)


BROADCAST = [
    *(pair(op) for op in ["Add", "Sub", "Mul"]),
    *(pair(op, lambda n: n.weight(n.C, 1, 1), "channels") for op in ["Add", "Sub", "Mul"]),
    *(pair(op, lambda n: n.weight(n.W, 1, 1, 1, 1), "wider") for op in ["Add", "Sub", "Mul"]),
    Row("Sub", lambda n: n.Sub(n.weight(1, n.C, 1, 1), image(n)), "weight first"),
    Row("Mul", lambda n: n.Mul(x := image(n), x), "with itself"),
    Row("Mul", lambda n: n.Mul(x := image(n), n.Sigmoid(x)), "with its sigmoid"),
    Row("Mul", lambda n: n.Mul(n.Sigmoid(x := image(n)), x), "of its sigmoid"),
    Row("Mul", lambda n: [n.Mul(x := image(n), s := n.Sigmoid(x)), n.Exp(s)], "with a sigmoid read twice"),
    Row("Div", lambda n: n.Div(image(n), positive(n, n.C, 1, 1))),
    Row("Div", lambda n: n.Div(n.weight(n.C, 1, 1), positive(n, n.B, n.C, n.H, n.W)), "weight first"),
    Row("Pow", lambda n: n.Pow(positive(n, n.B, n.C), np.float32(2))),
    Row("Pow", lambda n: n.Pow(positive(n, n.B, n.C), np.float32(3)), "third"),
    Row("Pow", lambda n: n.Pow(positive(n, n.B, n.C), np.float32(-0.5)), "root"),
    Row("Pow", lambda n: n.Pow(positive(n, n.B, n.C), np.int64(2)), "integer"),
    Row("Pow", lambda n: n.Pow(positive(n, n.B, n.C), n.weight(n.C)), "weights"),
    *(Row(op, lambda n, op=op: n.node(op, distinct(n), distinct(n))) for op in ("Max", "Min")),
    *(
        Row(op, lambda n, op=op: n.node(op, distinct(n), away(n, n.C, 1, 1)), "channels")
        for op in ("Max", "Min")
    ),
    Row("Max", lambda n: n.Max(distinct(n), away(n, n.C, 1, 1), away(n, 1)), "three"),
    Row("Max", lambda n: n.Max(distinct(n)), "one"),
    Row("Mean", lambda n: n.Mean(image(n), n.weight(n.C, 1, 1), image(n))),
    Row("Sum", lambda n: n.Sum(image(n), n.weight(n.C, 1, 1), image(n))),
    Row("Sum", lambda n: n.Sum(image(n)), "one"),
    Row("Mod", lambda n: n.Mod(distinct(n), np.float32(7.77), fmod=1)),
    Row("PRelu", lambda n: n.PRelu(distinct(n), n.weight(n.C, 1, 1))),
    Row("PRelu", lambda n: n.PRelu(distinct(n), n.weight(n.B, n.C, n.H, n.W)), "full"),
    Row("Where", lambda n: n.Where(n.Greater(image(n), 0.0), image(n), n.weight(n.C, 1, 1))),
    Row("Where", lambda n: n.Where(n.random.integers(0, 2, (n.C, 1, 1)) > 0, image(n), 0.0), "constant"),
    Row("com.microsoft:BiasGelu", lambda n: n.microsoft("BiasGelu", tokens(n), n.weight(n.C))),
    Row("com.microsoft:FastGelu", lambda n: n.microsoft("FastGelu", tokens(n), n.weight(n.C))),
    Row("com.microsoft:FastGelu", lambda n: n.microsoft("FastGelu", tokens(n)), "without bias"),
]

LINEAR = [
    *(
        Row(
            "Gemm",
            lambda n, a=a, b=b: n.Gemm(
                n.input(*((5, n.B) if a else (n.B, 5))),
                n.weight(*((3, 5) if b else (5, 3))),
                n.weight(3),
                transA=a,
                transB=b,
                alpha=0.5,
                beta=0.25,
            ),
            f"{a}{b}",
        )
        for a in (0, 1)
        for b in (0, 1)
    ),
    Row("Gemm", lambda n: n.Gemm(n.input(n.B, 5), n.weight(5, 3)), "without bias"),
    Row("Gemm", lambda n: n.Gemm(n.input(n.B, 5), n.weight(5, 3), n.weight(n.B, 1)), "bias of rows"),
    Row("MatMul", lambda n: n.MatMul(tokens(n), n.weight(n.C, 6))),
    Row("MatMul", lambda n: n.MatMul(n.input(n.B, n.C), n.weight(n.C, 6)), "matrices"),
    Row("MatMul", lambda n: n.MatMul(tokens(n), n.weight(n.B, n.C, 6)), "batches"),
    Row("MatMul", lambda n: n.MatMul(n.weight(6, n.H), tokens(n)), "weight first"),
    Row("MatMul", lambda n: n.MatMul(image(n), n.weight(1, n.C, n.W, 6)), "broadcast"),
    Row("MatMul", lambda n: n.MatMul(n.weight(n.B, 1, 2, n.H), image(n)), "broadcast first"),
    Row("MatMul", lambda n: n.MatMul(tokens(n), n.weight(n.C)), "by a vector"),
    Row("MatMul", lambda n: n.MatMul(n.weight(n.H), tokens(n)), "of a vector"),
    Row("MatMul", lambda n: n.Unsqueeze(n.MatMul(n.weight(n.H), n.weight(n.H)), [0]), "of two vectors"),
    Row("MatMul", lambda n: n.MatMul(n.input(n.H), n.weight(n.H, 3)), "vector by matrix"),
    *(
        Row(
            "com.microsoft:FusedMatMul",
            lambda n, a=a, b=b: n.microsoft(
                "FusedMatMul",
                n.input(*((n.B, n.C, n.H) if a else (n.B, n.H, n.C))),
                n.weight(*((6, n.C) if b else (n.C, 6))),
                transA=a,
                transB=b,
                alpha=0.5,
            ),
            f"{a}{b}",
        )
        for a in (0, 1)
        for b in (0, 1)
    ),
    Row("Einsum", lambda n: n.Einsum(tokens(n), n.weight(n.C, 6), equation="bhc,co->bho")),
    Row("Einsum", lambda n: n.Einsum(tokens(n), n.weight(6, n.C), equation="...c,oc"), "ellipsis"),
    Row("Einsum", lambda n: n.Einsum(tokens(n), tokens(n), equation="bic,bjc->bij"), "of two"),
    Row("Einsum", lambda n: n.Einsum(image(n), equation="bchw->bwhc"), "transposes"),
    Row("Einsum", lambda n: n.Einsum(image(n), equation="bchw->bw"), "sums"),
    Row(
        "Einsum", lambda n: n.Einsum(tokens(n), n.weight(n.H), n.weight(n.C), equation="bhc,h,c->b"), "three"
    ),
    Row("Einsum", lambda n: n.Einsum(n.input(4, 4), equation="ii->i"), "diagonal", blocked="diagonal"),
]


def conv(variant: str, shape: tuple[int, ...], weight: tuple[int, ...], **attributes: Any) -> Row:
    bias = attributes.pop("bias", True)
    more = {k: attributes.pop(k) for k in ("since", "blocked") if k in attributes}
    return Row(
        "Conv",
        lambda n: n.Conv(
            n.input(*shape), n.weight(*weight), *([n.weight(weight[0])] if bias else []), **attributes
        ),
        variant,
        **more,
    )


CONV = [
    conv("plain", (2, 9, 6, 7), (5, 9, 3, 3), pads=[1, 1, 1, 1]),
    conv("few channels", (2, 3, 6, 7), (5, 3, 3, 3), pads=[1, 1, 1, 1]),
    conv("without bias", (2, 9, 6, 7), (5, 9, 2, 3), bias=False),
    conv("one tap", (2, 4, 3, 5), (6, 4, 1, 1)),
    conv("one tap, many channels", (2, 14, 2, 1), (16, 14, 1, 1)),
    conv("one tap, grouped", (2, 4, 3, 5), (6, 2, 1, 1), group=2),
    conv("one tap, strided", (2, 9, 5, 6), (6, 9, 1, 1), strides=[2, 2]),
    conv("one tap, padded", (2, 9, 3, 3), (6, 9, 1, 1), pads=[1, 0, 0, 1]),
    conv("strided", (2, 9, 8, 7), (5, 9, 3, 3), strides=[2, 3], pads=[1, 1, 1, 1]),
    conv("strided, rest", (2, 9, 9, 8), (5, 9, 2, 2), strides=[3, 3]),
    conv("dilated", (2, 9, 8, 8), (5, 9, 3, 3), dilations=[2, 3], pads=[2, 3, 1, 0]),
    conv(
        "dilated and strided", (2, 9, 9, 9), (5, 9, 3, 3), dilations=[2, 1], strides=[2, 2], pads=[2, 0, 2, 1]
    ),
    conv("unequal pads", (2, 9, 5, 5), (5, 9, 3, 3), pads=[0, 1, 2, 3]),
    conv("tiles", (2, 3, 8, 9), (5, 3, 4, 3), strides=[4, 3]),
    conv("tiles, rest", (2, 4, 9, 10), (6, 2, 4, 3), strides=[4, 3], group=2),
    conv("grouped", (2, 18, 6, 5), (4, 9, 3, 3), pads=[1, 1, 1, 1], group=2),
    conv("grouped, narrow", (2, 4, 6, 5), (6, 2, 3, 3), pads=[1, 1, 1, 1], group=2),
    conv("depthwise", (2, 5, 6, 7), (5, 1, 3, 3), pads=[1, 1, 1, 1], group=5),
    conv("depthwise, strided", (2, 5, 7, 8), (5, 1, 3, 2), pads=[1, 0, 0, 1], strides=[2, 2], group=5),
    conv("depthwise, dilated", (2, 5, 9, 9), (5, 1, 3, 3), pads=[2, 2, 2, 2], dilations=[2, 2], group=5),
    conv("depthwise, large", (1, 2, 11, 13), (2, 1, 5, 5), pads=[2, 2, 2, 2], group=2),
    conv("depthwise, wide", (1, 2, 3, 60), (2, 1, 3, 3), pads=[1, 1, 1, 1], group=2),
    conv("depthwise, multiplied", (2, 3, 5, 5), (6, 1, 3, 3), pads=[1, 1, 1, 1], group=3),
    conv("many taps", (1, 9, 9, 9), (2, 9, 8, 8), pads=[3, 3, 3, 3]),
    conv("1-D", (2, 9, 11), (5, 9, 3), pads=[1, 0]),
    conv("1-D, depthwise", (2, 4, 11), (4, 1, 3), pads=[1, 1], group=4),
    conv("1-D, depthwise, long", (1, 2, 130), (2, 1, 3), pads=[1, 1], group=2),
    conv("3-D", (2, 9, 4, 5, 3), (4, 9, 2, 3, 2), pads=[0, 1, 1, 0, 1, 1]),
    conv("3-D, depthwise", (2, 3, 4, 5, 3), (3, 1, 2, 2, 2), group=3),
    conv("same upper", (2, 9, 7, 6), (5, 9, 3, 2), strides=[2, 2], auto_pad="SAME_UPPER"),
    conv("same lower", (2, 9, 7, 6), (5, 9, 3, 2), auto_pad="SAME_LOWER"),
    conv("valid", (2, 9, 7, 6), (5, 9, 3, 2), auto_pad="VALID"),
    conv("open batch", ("batch", 9, 6, 7), (5, 9, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1]),
    conv("open batch, depthwise", ("batch", 4, 6, 7), (4, 1, 3, 3), pads=[1, 1, 1, 1], group=4),
    Row("Conv", lambda n: n.Conv(image(n), n.Tanh(n.weight(n.C, n.C, 2, 2))), "computed weight"),
    Row("Conv", lambda n: n.Conv(image(n), n.Tanh(n.input(3, n.C, 2, 2))), "weight of an activation"),
]


def conv_transpose(variant: str, shape: tuple[int, ...], weight: tuple[int, ...], **attributes: Any) -> Row:
    blocked = attributes.pop("blocked", "")
    filters = weight[1] * attributes.get("group", 1)
    return Row(
        "ConvTranspose",
        lambda n: n.ConvTranspose(n.input(*shape), n.weight(*weight), n.weight(filters), **attributes),
        variant,
        blocked=blocked,
    )


CONV_TRANSPOSE = [
    conv_transpose("plain", (2, 9, 4, 5), (9, 4, 3, 3)),
    conv_transpose("strided", (2, 9, 4, 5), (9, 4, 2, 3), strides=[2, 2], pads=[0, 1, 0, 1]),
    conv_transpose("unequal pads", (2, 9, 4, 5), (9, 4, 3, 3), strides=[2, 2], pads=[0, 1, 2, 1]),
    conv_transpose(
        "output padding", (2, 9, 4, 5), (9, 4, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]
    ),
    conv_transpose("grouped", (2, 6, 4, 5), (6, 2, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], group=3),
    conv_transpose("depthwise", (2, 4, 4, 5), (4, 1, 2, 2), strides=[2, 2], group=4),
    conv_transpose("dilated", (2, 9, 4, 5), (9, 4, 2, 2), dilations=[2, 3]),
    conv_transpose("1-D", (2, 9, 7), (9, 4, 4), strides=[2], pads=[1, 1]),
    conv_transpose("3-D", (1, 3, 2, 3, 2), (3, 2, 2, 2, 2), strides=[2, 2, 2]),
    conv_transpose("output shape", (2, 9, 4, 5), (9, 4, 3, 3), strides=[2, 2], output_shape=[7, 9]),
    conv_transpose(
        "output shape, odd",
        (2, 9, 4, 5),
        (9, 4, 3, 3),
        strides=[2, 2],
        output_shape=[8, 10],
        blocked="depends on the runtime",
    ),
    conv_transpose(
        "longer than its windows",
        (2, 3, 4, 5),
        (3, 4, 2, 2),
        strides=[2, 2],
        output_padding=[1, 1],
    ),
]


def pooled(op: str, variant: str, shape: tuple[int, ...], **attributes: Any) -> Row:
    since, until = attributes.pop("since", 0), attributes.pop("until", 99)
    source = (lambda n: positive(n, *shape)) if op == "LpPool" else (lambda n: away(n, *shape))
    return Row(op, lambda n: n.node(op, source(n), **attributes), variant, since=since, until=until)


POOL = [
    pooled("MaxPool", "tiles", (2, 3, 6, 8), kernel_shape=[2, 2], strides=[2, 2]),
    pooled("MaxPool", "tiles, rest", (2, 3, 7, 9), kernel_shape=[3, 2], strides=[3, 2]),
    pooled("MaxPool", "tiles, 1-D", (2, 3, 7), kernel_shape=[2], strides=[2]),
    pooled("MaxPool", "tiles, 3-D", (1, 2, 4, 4, 5), kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
    pooled("MaxPool", "overlap", (2, 3, 7, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    pooled("MaxPool", "dense", (2, 3, 6, 5), kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    pooled("MaxPool", "dilated", (2, 3, 8, 7), kernel_shape=[2, 3], dilations=[3, 2]),
    pooled("MaxPool", "ceil", (2, 3, 7, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    pooled("MaxPool", "ceil tiles", (2, 3, 7, 8), kernel_shape=[2, 3], strides=[2, 3], ceil_mode=1),
    pooled("MaxPool", "same", (2, 3, 7, 8), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    pooled("AveragePool", "tiles", (2, 3, 6, 8), kernel_shape=[2, 2], strides=[2, 2]),
    pooled("AveragePool", "tiles, rest", (2, 3, 7, 9), kernel_shape=[2, 2], strides=[2, 2]),
    pooled("AveragePool", "overlap", (2, 3, 7, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    pooled(
        "AveragePool",
        "padding counts",
        (2, 3, 7, 8),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        count_include_pad=1,
    ),
    pooled("AveragePool", "ceil", (2, 3, 7, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    pooled(
        "AveragePool",
        "ceil, padding counts",
        (2, 3, 7, 8),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
        count_include_pad=1,
    ),
    pooled("AveragePool", "same", (2, 3, 7, 8), kernel_shape=[3, 3], auto_pad="SAME_LOWER"),
    pooled("AveragePool", "dilated", (2, 3, 8, 8), kernel_shape=[2, 3], dilations=[2, 2], since=19),
    pooled("AveragePool", "1-D", (2, 3, 8), kernel_shape=[3], strides=[2]),
    pooled("AveragePool", "3-D", (1, 2, 4, 5, 4), kernel_shape=[2, 3, 2], strides=[1, 2, 1]),
    pooled("LpPool", "", (2, 3, 7, 8), kernel_shape=[3, 2], strides=[2, 2]),
    pooled("LpPool", "order 3", (2, 3, 7, 8), kernel_shape=[3, 2], p=3, pads=[1, 0, 1, 0]),
    Row("GlobalAveragePool", lambda n: n.GlobalAveragePool(image(n))),
    Row("GlobalMaxPool", lambda n: n.GlobalMaxPool(distinct(n))),
    Row("GlobalLpPool", lambda n: n.GlobalLpPool(distinct(n)), until=21),
    Row("GlobalLpPool", lambda n: n.GlobalLpPool(distinct(n), p=3), "order 3", until=21),
]


def stats(n: Net, channels: int) -> list[np.ndarray]:
    """Scale, bias, mean and variance."""
    return [n.positive(channels), n.weight(channels), n.weight(channels), n.positive(channels)]


NORM = [
    Row("BatchNormalization", lambda n: n.BatchNormalization(image(n), *stats(n, n.C))),
    Row("BatchNormalization", lambda n: n.BatchNormalization(n.Tanh(image(n)), *stats(n, n.C)), "of a tanh"),
    Row("BatchNormalization", lambda n: n.BatchNormalization(n.input(n.B, n.C), *stats(n, n.C)), "matrix"),
    Row(
        "BatchNormalization",
        lambda n: n.BatchNormalization(
            n.Conv(image(n), n.weight(6, n.C, 2, 2), n.weight(6)), *stats(n, 6), epsilon=0.1
        ),
        "behind a convolution",
    ),
    Row(
        "BatchNormalization",
        lambda n: n.BatchNormalization(n.Conv(image(n), n.weight(n.C, 1, 2, 2), group=n.C), *stats(n, n.C)),
        "behind a depthwise convolution",
    ),
    Row(
        "BatchNormalization",
        lambda n: n.node("BatchNormalization", image(n), *stats(n, n.C), outputs=3, training_mode=1)[0],
        "training",
        since=14,
        blocked="training",
    ),
    Row(
        "LayerNormalization",
        lambda n: n.LayerNormalization(tokens(n), n.weight(n.C), n.weight(n.C)),
        since=17,
    ),
    Row(
        "LayerNormalization",
        lambda n: n.LayerNormalization(image(n), n.weight(n.H, n.W), n.weight(n.H, n.W), axis=2, epsilon=0.1),
        "two axes",
        since=17,
    ),
    Row(
        "LayerNormalization",
        lambda n: n.LayerNormalization(tokens(n), n.weight(n.C)),
        "without bias",
        since=17,
    ),
    Row("RMSNormalization", lambda n: n.RMSNormalization(tokens(n), n.weight(n.C)), since=23),
    Row("SimplifiedLayerNormalization", lambda n: n.SimplifiedLayerNormalization(tokens(n), n.weight(n.C))),
    Row(
        "InstanceNormalization",
        lambda n: n.InstanceNormalization(image(n), n.positive(n.C), n.weight(n.C)),
    ),
    Row(
        "GroupNormalization",
        lambda n: n.GroupNormalization(n.input(n.B, 6, n.H, n.W), n.positive(6), n.weight(6), num_groups=3),
        since=21,
    ),
    Row(
        "GroupNormalization",
        lambda n: n.GroupNormalization(n.input(n.B, 6, n.H, n.W), n.positive(3), n.weight(3), num_groups=3),
        "by group",
        since=18,
        until=20,
    ),
    Row("LpNormalization", lambda n: n.LpNormalization(image(n), axis=2)),
    Row("LpNormalization", lambda n: n.LpNormalization(distinct(n), axis=1, p=1), "order 1"),
    Row("MeanVarianceNormalization", lambda n: n.MeanVarianceNormalization(image(n))),
    Row("MeanVarianceNormalization", lambda n: n.MeanVarianceNormalization(image(n), axes=[1]), "channels"),
    Row("LRN", lambda n: n.LRN(image(n), size=3, alpha=0.5, beta=0.6, bias=1.5)),
    Row("Softmax", lambda n: n.Softmax(image(n), axis=1)),
    Row("Softmax", lambda n: n.Softmax(image(n)), "last axis"),
    Row("LogSoftmax", lambda n: n.LogSoftmax(image(n), axis=1)),
    Row(
        "com.microsoft:SkipLayerNormalization",
        lambda n: n.microsoft(
            "SkipLayerNormalization", tokens(n), tokens(n), n.weight(n.C), n.weight(n.C), n.weight(n.C)
        ),
    ),
    Row(
        "com.microsoft:SkipLayerNormalization",
        lambda n: [
            x
            for k, x in enumerate(
                n.microsoft("SkipLayerNormalization", tokens(n), tokens(n), n.weight(n.C), outputs=4)
            )
            if k in (0, 3)
        ],
        "sum put out",
    ),
    Row(
        "com.microsoft:SkipSimplifiedLayerNormalization",
        lambda n: n.microsoft(
            "SkipSimplifiedLayerNormalization", tokens(n), tokens(n), n.weight(n.C), n.weight(n.C)
        ),
    ),
]


def reduction(op: str, source: Callable[[Net], str]) -> list[Row]:
    since = 13 if op == "ReduceSum" else 18
    old = [
        Row(op, lambda n: n.node(op, source(n), axes=[2, 3]), "attribute", until=since - 1),
        Row(
            op, lambda n: n.node(op, source(n), axes=[-2], keepdims=0), "attribute, dropped", until=since - 1
        ),
    ]
    return [
        *(old if since > OPSETS[0] else []),
        Row(op, lambda n: n.node(op, source(n), [1, -1]), "input", since=since),
        Row(op, lambda n: n.node(op, source(n), [1], keepdims=0), "dropped", since=since),
        Row(op, lambda n: n.Unsqueeze(n.node(op, source(n), keepdims=0), [0]), "all"),
    ]


def small_image(n: Net) -> str:
    return positive(n, 2, 3, 2, 2)


REDUCE = [
    *(
        r
        for op in ["ReduceSum", "ReduceMean", "ReduceLogSumExp", "ReduceSumSquare"]
        for r in reduction(op, image)
    ),
    *(r for op in ["ReduceL1", "ReduceL2", "ReduceMax", "ReduceMin"] for r in reduction(op, distinct)),
    *reduction("ReduceLogSum", small_image),
    Row("ReduceProd", lambda n: n.ReduceProd(image(n), axes=[2]), "attribute", until=17),
    Row("ReduceProd", lambda n: n.ReduceProd(image(n), [1], keepdims=0), "dropped", since=18),
    Row(
        "ReduceProd", lambda n: n.ReduceProd(image(n), [1, 2]), "two", since=18, blocked="more than one axis"
    ),
    Row("ReduceSum", lambda n: n.ReduceSum(image(n), noop_with_empty_axes=1), "of nothing"),
    Row("CumSum", lambda n: n.CumSum(image(n), np.asarray(1))),
    Row(
        "CumSum", lambda n: n.CumSum(image(n), np.asarray(-1), exclusive=1, reverse=1), "exclusive, reversed"
    ),
    Row("TopK", lambda n: n.TopK(distinct(n), [2], outputs=2, axis=2)[0]),
    Row("TopK", lambda n: n.TopK(distinct(n), [2], outputs=2, axis=1, largest=0)[0], "smallest"),
    Row("Trilu", lambda n: n.Trilu(image(n)), since=14),
    Row("Trilu", lambda n: n.Trilu(image(n), np.asarray(-1), upper=0), "lower", since=14),
    Row(
        "ReverseSequence",
        lambda n: n.ReverseSequence(tokens(n), np.arange(n.B) + 1, time_axis=1, batch_axis=0),
    ),
]


LAYOUT = [
    Row("Transpose", lambda n: n.Transpose(image(n), perm=[2, 0, 3, 1])),
    Row("Transpose", lambda n: n.Transpose(tokens(n)), "reversed"),
    Row("Reshape", lambda n: n.Reshape(image(n), [0, -1])),
    Row("Reshape", lambda n: n.Reshape(n.input("batch", n.C, n.H), [0, -1]), "open batch"),
    Row("Flatten", lambda n: n.Flatten(image(n), axis=2)),
    Row("Squeeze", lambda n: n.Squeeze(n.input(n.B, 1, n.C, 1), [1])),
    Row("Squeeze", lambda n: n.Squeeze(n.input(n.B, 1, n.C, 1)), "all"),
    Row("Unsqueeze", lambda n: n.Unsqueeze(tokens(n), [0, -1])),
    Row("Expand", lambda n: n.Expand(n.weight(n.C, 1), [n.B, n.C, n.W])),
    Row("Expand", lambda n: n.Expand(image(n), [1]), "of nothing"),
    Row("Expand", lambda n: n.Expand(n.weight(1, n.C), n.Shape(n.input("batch", n.C))), "open batch"),
    Row("Tile", lambda n: n.Tile(tokens(n), [2, 1, 3])),
    Row("Concat", lambda n: n.Concat(image(n), n.weight(n.B, 2, n.H, n.W), image(n), axis=1)),
    Row("Concat", lambda n: n.Concat(n.input("batch", n.C), n.input("batch", 2), axis=-1), "open batch"),
    Row("Concat", lambda n: n.Concat(n.input("batch", n.C), n.weight(3, n.C), axis=0), "of open batches"),
    Row("Split", lambda n: n.Split(image(n), [1, n.C - 1], outputs=2, axis=1)),
    Row("Split", lambda n: n.Split(image(n), [1, n.C - 1], outputs=2, axis=1)[1], "one read"),
    Row("Split", lambda n: n.Split(n.input(n.B, 6), outputs=3, axis=1), "equal", until=17),
    Row("Split", lambda n: n.Split(n.input(n.B, 6), outputs=3, axis=1, num_outputs=3), "equal", since=18),
    Row("Slice", lambda n: n.Slice(image(n), [1, 0], [-1, 2], [1, -1])),
    Row("Slice", lambda n: n.Slice(n.input(7, 5), [1], [7], [0], [2]), "steps"),
    Row("Slice", lambda n: n.Slice(n.input(7, 5), [-1, 4], [-(2**31), 0], [0, 1], [-2, -1]), "backward"),
    Row("Slice", lambda n: n.Slice(n.input(7, 5), [0, 1], [2, 4]), "without axes"),
    Row("Slice", lambda n: n.Slice(n.input("batch", 5), [1], [2**31], [0]), "of an open batch"),
    Row("Slice", lambda n: n.Slice(n.input("batch", 5), [-1], [2**31], [0]), "of an open batch, last"),
    Row(
        "Slice",
        lambda n: n.Slice(
            n.input(7, 5), n.input(1, feed=np.asarray([2])), n.input(1, feed=np.asarray([5])), [0]
        ),
        "computed",
    ),
    Row("Slice", lambda n: n.Slice(n.input("batch", 5), [0], [2], [0], [2]), "steps, open", blocked="steps"),
    Row("Pad", lambda n: n.Pad(image(n), [0, 1, 0, 2, 0, 0, 1, 0])),
    Row("Pad", lambda n: n.Pad(image(n), [0, -1, 0, 1, 0, 0, 1, -1]), "cuts"),
    Row("Pad", lambda n: n.Pad(n.input(2, 5, 4), [0, 2, 1, 0, 1, 0], mode="reflect"), "reflect"),
    Row("Pad", lambda n: n.Pad(n.input(2, 5, 4), [0, 2, 1, 0, 1, 0], mode="edge"), "edge"),
    Row("Pad", lambda n: n.Pad(n.input(2, 5, 4), [1, 0, 0, 1, 0, 0], mode="edge"), "edge of the first axis"),
    Row("Pad", lambda n: n.Pad(n.input(2, 5, 4), [0, 2, 1, 0, 1, 0], mode="wrap"), "wrap", since=19),
    Row("Pad", lambda n: n.Pad(n.input(2, 5, 4), [2, 1], None, [1]), "axes", since=18),
    Row("Pad", lambda n: n.Pad(n.input(2, 5), n.input(4, feed=np.asarray([0, 1, 2, 0]))), "computed"),
    Row("DepthToSpace", lambda n: n.DepthToSpace(n.input(2, 12, 3, 2), blocksize=2)),
    Row("DepthToSpace", lambda n: n.DepthToSpace(n.input(2, 12, 3, 2), blocksize=2, mode="CRD"), "CRD"),
    Row("SpaceToDepth", lambda n: n.SpaceToDepth(n.input(2, 3, 4, 6), blocksize=2)),
]

INDEX = [
    Row("Gather", lambda n: n.Gather(n.weight(9, n.C), n.input(4, feed=np.asarray([1, 3, 3, -1]))), since=16),
    Row(
        "Gather",
        lambda n: n.Gather(n.weight(9, n.C), n.input(4, feed=np.asarray([1, 3, 3, -1]))),
        "before scatters add",
        until=15,
    ),
    Row("Gather", lambda n: n.Gather(image(n), np.asarray([[0, 2], [1, 2]]), axis=1), "inner axis"),
    Row("Gather", lambda n: n.Gather(image(n), np.asarray(-1), axis=2), "one"),
    Row("Gather", lambda n: n.Gather(image(n), np.asarray([[1]]), axis=1), "one, kept"),
    Row(
        "Gather",
        lambda n: n.Gather(n.input("batch", n.C), np.asarray([0, 0]), axis=0),
        "open batch",
        since=16,
    ),
    Row(
        "GatherElements",
        lambda n: n.GatherElements(n.input(3, 4), np.asarray([[0, 1, 1], [3, 0, 0]]), axis=1),
        since=16,
    ),
    Row(
        "GatherElements",
        lambda n: n.GatherElements(n.input(3, 4), np.asarray([[0, 1, 1]]), axis=1),
        "before scatters add",
        until=15,
        blocked="opset 16",
    ),
    Row("GatherND", lambda n: n.GatherND(image(n), np.asarray([[0, 1], [1, 2], [0, 1]])), since=16),
    Row(
        "GatherND",
        lambda n: n.GatherND(n.input(2, 3, 4), np.asarray([[[1], [2]], [[0], [0]]]), batch_dims=1),
        "batches",
        since=16,
    ),
    Row(
        "ScatterND",
        lambda n: n.ScatterND(n.input(5, 4), np.asarray([[0], [3]]), n.weight(2, 4)),
    ),
    Row(
        "ScatterND",
        lambda n: n.ScatterND(n.input(5, 4), np.asarray([[0], [0]]), n.weight(2, 4), reduction="add"),
        "added",
        since=16,
    ),
    Row(
        "ScatterND",
        lambda n: n.ScatterND(n.input(5, 4), np.asarray([[0], [1]]), n.weight(2, 4), reduction="mul"),
        "multiplied",
        since=16,
        blocked="reduction",
    ),
    Row(
        "ScatterElements",
        lambda n: n.ScatterElements(n.input(3, 4), np.asarray([[0, 2], [1, 3]]), n.weight(2, 2), axis=1),
    ),
    Row(
        "ScatterElements",
        lambda n: n.ScatterElements(
            n.input(3, 4), np.asarray([[0, 0], [1, 3]]), n.weight(2, 2), axis=1, reduction="add"
        ),
        "added",
        since=16,
    ),
]


def resized(variant: str, shape: tuple[int, ...], scales: list[float] | None, **attributes: Any) -> Row:
    sizes, since = attributes.pop("sizes", None), attributes.pop("since", 0)
    blocked = attributes.pop("blocked", "")
    given = None if scales is None else np.asarray(scales, np.float32)
    return Row(
        "Resize",
        lambda n: n.Resize(n.input(*shape), None, given, sizes, **attributes),
        variant,
        since=since,
        blocked=blocked,
    )


RESIZE = [
    resized("nearest", (2, 3, 4, 5), [1, 1, 2, 3]),
    resized(
        "nearest, asymmetric",
        (2, 3, 4, 5),
        [1, 1, 2, 2],
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    resized("nearest, fraction", (2, 3, 4, 5), [1, 1, 1.5, 0.6]),
    resized(
        "nearest, ceil",
        (2, 3, 4, 5),
        [1, 1, 2, 2],
        coordinate_transformation_mode="asymmetric",
        nearest_mode="ceil",
    ),
    resized("linear", (2, 3, 4, 5), [1, 1, 2, 2], mode="linear"),
    resized(
        "linear, corners",
        (2, 3, 4, 5),
        None,
        sizes=[2, 3, 7, 3],
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    resized(
        "linear, half pixel",
        (2, 3, 4, 5),
        None,
        sizes=[2, 3, 9, 11],
        mode="linear",
        coordinate_transformation_mode="pytorch_half_pixel",
    ),
    resized("linear, 1-D", (2, 3, 5), [1, 1, 2], mode="linear"),
    resized("linear, 3-D", (1, 2, 3, 2, 3), [1, 1, 2, 2, 2], mode="linear"),
    resized("cubic", (2, 3, 6, 5), [1, 1, 2, 1.5], mode="cubic"),
    resized(
        "linear, antialiased", (2, 3, 8, 9), None, sizes=[2, 3, 4, 3], mode="linear", antialias=1, since=18
    ),
    resized("of some axes", (2, 3, 4, 5), None, sizes=[8, 7], axes=[2, 3], mode="linear", since=18),
    resized("repeats, open batch", ("batch", 3, 4, 5), [1, 1, 2, 2]),
    resized("linear, open batch", ("batch", 3, 4, 5), [1, 1, 2, 2], mode="linear"),
    resized("of channels", (2, 4, 4, 5), [1, 0.5, 1, 1], blocked="channels"),
]


def grid_sample(variant: str, spread: float, **attributes: Any) -> Row:
    def build(n: Net) -> str:
        grid = n.random.uniform(-spread, spread, (2, 3, 4, 2)).astype(np.float32)
        return str(n.GridSample(n.input(2, 3, 5, 6), n.input(2, 3, 4, 2, feed=grid), **attributes))

    since = 20 if attributes.get("mode") == "linear" else 16
    blocked = attributes.pop("blocked", "")
    return Row("GridSample", build, variant, blocked=blocked, since=since, until=19 if since == 16 else 99)


SAMPLE = [
    grid_sample("inside", 0.7),
    grid_sample("beyond", 1.4),
    grid_sample("aligned", 1.4, align_corners=1),
    grid_sample("border", 1.4, padding_mode="border"),
    grid_sample("linear", 1.4, mode="linear"),
    grid_sample("reflected", 1.4, padding_mode="reflection", blocked="reflection"),
]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    n: Net, op: str, *, directions: int = 1, states: bool = False, read: str = "all", **attributes: Any
) -> Any:
    t, b, i, h, gates = 3, n.B, 4, 5, GATES[op]
    outputs = 3 if op == "LSTM" else 2
    given = [n.input(directions, b, h) for _ in range(outputs - 1)] if states else []
    made = n.node(
        op,
        n.input(t, b, i),
        n.weight(directions, gates * h, i),
        n.weight(directions, gates * h, h),
        n.weight(directions, 2 * gates * h),
        None,
        *given,
        outputs=outputs,
        hidden_size=h,
        **attributes,
    )
    return {"all": made, "first": made[0], "last": made[1]}[read]


RECURRENT = [
    *(Row(op, lambda n, op=op: recurrent(n, op)) for op in GATES),
    *(Row(op, lambda n, op=op: recurrent(n, op, states=True), "states") for op in GATES),
    *(Row(op, lambda n, op=op: recurrent(n, op, read="first"), "sequence") for op in GATES),
    *(Row(op, lambda n, op=op: recurrent(n, op, read="last"), "last state") for op in GATES),
    *(Row(op, lambda n, op=op: recurrent(n, op, direction="reverse"), "reverse") for op in GATES),
    *(
        Row(
            op,
            lambda n, op=op: recurrent(n, op, directions=2, direction="bidirectional", states=True),
            "both ways",
        )
        for op in GATES
    ),
    Row("GRU", lambda n: recurrent(n, "GRU", linear_before_reset=1, states=True), "reset after"),
    Row("RNN", lambda n: recurrent(n, "RNN", activations=["Relu"]), "relu"),
    Row("RNN", lambda n: recurrent(n, "RNN", activations=["Sigmoid"]), "sigmoid"),
    Row("RNN", lambda n: recurrent(n, "RNN", activations=["Elu"]), "other", blocked="activations Elu"),
    Row("LSTM", lambda n: recurrent(n, "LSTM", clip=1.0), "clip", blocked="clip"),
    Row(
        "GRU",
        lambda n: n.GRU(n.input(3, n.B, 4), n.weight(1, 15, 4), n.weight(1, 15, 5), hidden_size=5),
        "without bias",
    ),
    Row(
        "LSTM",
        lambda n: n.node(
            "LSTM",
            n.input(3, n.B, 4),
            n.weight(1, 20, 4),
            n.weight(1, 20, 5),
            None,
            np.full(n.B, 2, np.int32),
            outputs=1,
            hidden_size=5,
        ),
        "lengths",
        blocked="different lengths",
    ),
    Row(
        "RNN",
        lambda n: n.node(
            "RNN",
            n.input(3, n.B, 4),
            n.weight(1, 5, 4),
            n.weight(1, 5, 5),
            None,
            np.full(n.B, 3, np.int32),
            hidden_size=5,
        ),
        "full lengths",
    ),
]


def heads(n: Net, count: int, t: int, width: int) -> str:
    return n.input(n.B, count, t, width)


def angles(n: Net, *shape: int) -> tuple[str, str]:
    """Cosines and sines that are no weights."""
    at = n.Cast(n.input(*shape, feed=n.random.integers(-9, 9, shape)), to=TensorProto.FLOAT)
    return n.Cos(at), n.Sin(at)


ATTENTION = [
    Row(
        "Attention", lambda n: n.Attention(heads(n, 2, 3, 4), heads(n, 2, 5, 4), heads(n, 2, 5, 6)), since=23
    ),
    Row(
        "Attention",
        lambda n: n.Attention(
            n.input(n.B, 3, 8), n.input(n.B, 5, 8), n.input(n.B, 5, 6), q_num_heads=2, kv_num_heads=2
        ),
        "flat",
        since=23,
    ),
    Row(
        "Attention",
        lambda n: n.Attention(
            heads(n, 4, 3, 4), heads(n, 2, 3, 4), heads(n, 2, 3, 4), is_causal=1, scale=0.3
        ),
        "shared, causal",
        since=23,
    ),
    Row(
        "Attention",
        lambda n: n.Attention(
            heads(n, 2, 3, 4), heads(n, 2, 3, 4), heads(n, 2, 3, 4), n.input(3, 3), softcap=2.0
        ),
        "mask, cap",
        since=23,
    ),
    Row(
        "RotaryEmbedding",
        lambda n: n.RotaryEmbedding(
            heads(n, 2, 3, 8), n.Cos(n.weight(n.B, 3, 4)), n.Sin(n.weight(n.B, 3, 4))
        ),
        since=23,
        blocked="angles",
    ),
    Row(
        "com.microsoft:MultiHeadAttention",
        lambda n: n.microsoft(
            "MultiHeadAttention",
            n.input(n.B, 3, 8),
            n.input(n.B, 5, 8),
            n.input(n.B, 5, 8),
            n.weight(24),
            num_heads=2,
        ),
    ),
    Row(
        "RotaryEmbedding",
        lambda n: n.RotaryEmbedding(heads(n, 2, 3, 8), *angles(n, n.B, 3, 4)),
        "halves",
        since=23,
    ),
    Row(
        "RotaryEmbedding",
        lambda n: n.RotaryEmbedding(
            heads(n, 2, 3, 8), *angles(n, n.B, 3, 3), interleaved=1, rotary_embedding_dim=6
        ),
        "pairs, some",
        since=23,
    ),
    Row(
        "com.microsoft:RotaryEmbedding",
        lambda n: n.microsoft("RotaryEmbedding", heads(n, 2, 3, 8), np.asarray([0]), *angles(n, 8, 4)),
    ),
]


FINE = np.float32(1 / 128)
ROUGH = (1.0, 2.0)
"""Steps over many levels of quantisation: along them rounding counts as the identity, as rules have it."""


def within(n: Net, *shape: int) -> str:
    """Values that stay between -1 and 1, the range of 8 bits, however far a test steps."""
    return n.input(*shape, feed=n.random.uniform(-0.3, 0.3, shape).astype(np.float32))


def quantised(n: Net, x: str, domain: str = "") -> str:
    prefix = f"{domain}:" if domain else ""
    q = n.node(f"{prefix}QuantizeLinear", x, FINE, np.int8(0))
    return str(n.node(f"{prefix}DequantizeLinear", q, FINE, np.int8(0)))


def integers(n: Net, *shape: int) -> np.ndarray:
    return n.random.integers(-60, 60, shape).astype(np.int8)


def dynamic(n: Net, op: str, x: str, weight: np.ndarray, **attributes: Any) -> str:
    """A product of integers, of an input quantised as the graph runs, scaled back."""
    q, scale, zero = n.DynamicQuantizeLinear(x, outputs=3)
    product = n.Cast(n.node(op, q, weight, zero, np.asarray(3, np.int8), **attributes), to=TensorProto.FLOAT)
    return str(n.Mul(product, n.Mul(scale, np.float32(0.02))))


QUANT = [
    Row(
        "DequantizeLinear",
        lambda n: n.Mul(n.input(3, 4), n.DequantizeLinear(integers(n, 3, 4), n.positive(4), axis=1)),
    ),
    Row(
        "DequantizeLinear",
        lambda n: n.Mul(n.input(3, 4), n.DequantizeLinear(integers(n, 3, 4), n.positive(1), np.int8(9))),
        "one scale",
    ),
    Row(
        "DequantizeLinear",
        lambda n: n.Mul(
            n.input(8, 3), n.DequantizeLinear(integers(n, 8, 3), n.positive(2, 3), axis=0, block_size=4)
        ),
        "by block",
        since=21,
        blocked="by block",
    ),
    Row("QuantizeLinear", lambda n: quantised(n, within(n, 20, 30)), steps=ROUGH, tolerance=0.02),
    Row(
        "QuantizeLinear",
        lambda n: n.Reshape(quantised(n, within(n, 20, 30)), [30, 20]),
        "rearranged",
        until=20,  # from 21 on ONNX Runtime 1.32 breaks such a graph as it optimizes it, gradients or none
        steps=ROUGH,
        tolerance=0.02,
    ),
    *(
        Row(
            f"com.microsoft:{op}",
            lambda n: quantised(n, within(n, 20, 30), "com.microsoft"),
            steps=ROUGH,
            tolerance=0.02,
        )
        for op in ("QuantizeLinear", "DequantizeLinear")
    ),
    *(
        Row(
            op,
            lambda n: dynamic(n, "MatMulInteger", within(n, 2, 20, 30), integers(n, 30, 8)),
            "product",
            steps=ROUGH,
            tolerance=0.05,
        )
        for op in ("MatMulInteger", "DynamicQuantizeLinear")
    ),
    Row(
        "ConvInteger",
        lambda n: dynamic(
            n, "ConvInteger", within(n, 2, 4, 9, 9), integers(n, 5, 4, 3, 3), pads=[1, 1, 1, 1]
        ),
        steps=ROUGH,
        tolerance=0.05,
    ),
]

ROWS = [
    *ELEMENTWISE,
    *BROADCAST,
    *LINEAR,
    *CONV,
    *CONV_TRANSPOSE,
    *POOL,
    *NORM,
    *REDUCE,
    *LAYOUT,
    *INDEX,
    *RESIZE,
    *SAMPLE,
    *RECURRENT,
    *ATTENTION,
    *QUANT,
]


def cases() -> Iterator[Any]:
    for row in ROWS:
        for opset in row.opsets:
            words = "-".join([row.op.rpartition(":")[2], *row.variant.split(), str(opset)])
            yield pytest.param(row, opset, id=words)


def build(row: Row, opset: int, dims: Dims = PRIMES) -> Net:
    net = Net(f"{row.op} {row.variant}", dims, opset)
    results = row.build(net)
    for result in [results] if isinstance(results, str) else results:
        net.output(result)
    return net


@pytest.mark.parametrize(("row", "opset"), list(cases()))
def test_rule(row: Row, opset: int) -> None:
    net = build(row, opset)
    model = net.finished()
    graph = Graph(model)
    coverage = differentiable(graph, infer(graph, net.symbols), sources(graph))
    reasons = [o.reason for o in coverage.obstacles]
    if row.blocked:
        assert any(row.blocked in reason for reason in reasons), reasons
        return
    assert reasons == []
    for feeds in net.feeds():
        compare(model, feeds, net.symbols, tolerance=row.tolerance, steps=row.steps)


@pytest.mark.parametrize("opset", [11, 12])
def test_rules_of_old_operator_sets(opset: int) -> None:
    """Of all rows that are models there; what needs newer operators says so."""
    right, refused = 0, []
    for row in ROWS:
        if row.blocked or row.since > opset:
            continue
        try:
            net = build(row, opset)
            model = net.finished()
        except Exception:  # ONNX Runtime's errors have no base class but this
            continue
        try:
            for feeds in net.feeds():
                compare(model, feeds, net.symbols, tolerance=row.tolerance, steps=row.steps)
            right += 1
        except Infeasible as error:
            refused.append(error.reason)
    assert right > 250
    assert all("the opset is before" in reason for reason in refused), refused


def broken(rule: Rule) -> Rule:
    return lambda v: [c * 1.4 if isinstance(c, Tensor) else c for c in rule(v)]


@pytest.mark.parametrize("op", sorted(RULES))
def test_a_rule_that_is_wrong_is_caught(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(r for r in ROWS if r.op == op and not r.blocked)
    wrong = {**RULES, op: broken(RULES[op])}
    monkeypatch.setattr(gradient_graph, "walk_back", partial(gradient_graph.walk_back, rules=wrong))
    net = build(row, row.opsets[-1])
    with pytest.raises(AssertionError):
        compare(net.finished(), net.feeds()[0], net.symbols, tolerance=row.tolerance, steps=row.steps)


def test_every_rule_has_a_row() -> None:
    assert sorted(set(RULES) - {row.op for row in ROWS}) == []
