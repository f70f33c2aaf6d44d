"""Functions of one tensor, element by element: the cotangent times the derivative.

Derivatives are computed from the output where possible: what follows reads it anyway, so it is held in
memory already, and the input can be written over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..tape import FLOAT32, Tensor
from ..vjp import Blocked, Cotangent, Rule, Undifferentiable, Vjp

_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875


def _relu(v: Vjp) -> Tensor:
    return v.y().above(0.0)


def _leaky_relu(v: Vjp) -> Tensor:
    slope = float(v.attr("alpha", 0.01))
    told_by = v.y() if slope > 0 else v.x()
    return told_by.above(0.0) * (1.0 - slope) + slope


def _elu(v: Vjp) -> Tensor:
    alpha = v.attr("alpha", 1.0)
    return _either(v.y().above(0.0), 1.0, v.y() + alpha)


def _selu(v: Vjp) -> Tensor:
    alpha, gamma = v.attr("alpha", _SELU_ALPHA), v.attr("gamma", _SELU_GAMMA)
    return _either(v.y().above(0.0), gamma, v.y() + alpha * gamma)


def _celu(v: Vjp) -> Tensor:
    return _either(v.y().above(0.0), 1.0, v.y() / v.attr("alpha", 1.0) + 1.0)


def _either(mask: Tensor, one: float, other: Tensor) -> Tensor:
    """A number where the mask is 1, a tensor where it is 0."""
    return other + mask * (one - other)


def _softsign(v: Vjp) -> Tensor:
    root = 1.0 + v.x().map("Abs")
    return 1.0 / (root * root)


def _hard_sigmoid(v: Vjp) -> Tensor:
    return v.y().between(0.0, 1.0) * float(v.attr("alpha", 0.2))


def _hard_swish(v: Vjp) -> Tensor:
    x = v.x()
    return x.between(-3.0, 3.0) * (x / 3.0 + 0.5) + x.above(3.0)


def _mish(v: Vjp) -> Tensor:
    t = v.x().map("Softplus").map("Tanh")
    return t + v.x() * (1.0 - t * t) * v.x().map("Sigmoid")


def _swish(v: Vjp) -> Tensor:
    alpha = float(v.attr("alpha", 1.0))
    s = (v.x() * alpha).map("Sigmoid")
    return s + v.y() * (1.0 - s) * alpha


def gelu(x: Tensor, approximate: str) -> Tensor:
    """The derivative of Gelu, exact or by its approximation with tanh."""
    if approximate == "tanh":
        c = math.sqrt(2 / math.pi)
        square = x * x
        t = (x * (square * (c * 0.044715) + c)).map("Tanh")
        inner = square * (3 * c * 0.044715) + c
        return (1.0 + t) * 0.5 + x * (1.0 - t * t) * inner * 0.5
    below = ((x * math.sqrt(0.5)).map("Erf") + 1.0) * 0.5
    density = (x * x * -0.5).map("Exp") * (1 / math.sqrt(2 * math.pi))
    return below + x * density


def _quick_gelu(v: Vjp) -> Tensor:
    alpha = float(v.attr("alpha", 1.702))
    s = (v.x() * alpha).map("Sigmoid")
    return s + v.y() * (1.0 - s) * alpha


def _inverse_root(square: Tensor) -> Tensor:
    return 1.0 / square.map("Sqrt")


DERIVATIVES: dict[str, Callable[[Vjp], Tensor]] = {
    "Abs": lambda v: v.x().sign(),
    "Acos": lambda v: -_inverse_root(1.0 - v.x() * v.x()),
    "Acosh": lambda v: _inverse_root(v.x() * v.x() - 1.0),
    "Asin": lambda v: _inverse_root(1.0 - v.x() * v.x()),
    "Asinh": lambda v: _inverse_root(v.x() * v.x() + 1.0),
    "Atan": lambda v: 1.0 / (v.x() * v.x() + 1.0),
    "Atanh": lambda v: 1.0 / (1.0 - v.x() * v.x()),
    "Celu": _celu,
    "Cos": lambda v: -v.x().map("Sin"),
    "Cosh": lambda v: v.x().map("Sinh"),
    "Elu": _elu,
    "Erf": lambda v: (-(v.x() * v.x())).map("Exp") * (2 / math.sqrt(math.pi)),
    "Exp": lambda v: v.y(),
    "Gelu": lambda v: gelu(v.x(), v.attr("approximate", "none")),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "Log": lambda v: 1.0 / v.x(),
    "Mish": _mish,
    "Reciprocal": lambda v: -(v.y() * v.y()),
    "Relu": _relu,
    "Selu": _selu,
    "Shrink": lambda v: v.x().map("Abs").above(v.attr("lambd", 0.5)),
    "Sigmoid": lambda v: v.y() * (1.0 - v.y()),
    "Sin": lambda v: v.x().map("Cos"),
    "Sinh": lambda v: v.x().map("Cosh"),
    "Softplus": lambda v: v.x().map("Sigmoid"),
    "Softsign": _softsign,
    "Sqrt": lambda v: 0.5 / v.y(),
    "Swish": _swish,
    "Tan": lambda v: v.y() * v.y() + 1.0,
    "Tanh": lambda v: 1.0 - v.y() * v.y(),
    "ThresholdedRelu": lambda v: v.x().above(v.attr("alpha", 1.0)),
    "com.microsoft:Gelu": lambda v: gelu(v.x(), "none"),
    "com.microsoft:QuickGelu": _quick_gelu,
}
"""Operator -> the derivative of its output by its input."""


def elementwise(v: Vjp) -> Sequence[Cotangent]:
    """The cotangent times the derivative."""
    return [v.dy * DERIVATIVES[v.node.op](v)]


def negated(v: Vjp) -> Sequence[Cotangent]:
    """Neg."""
    return [-v.dy]


def passed(v: Vjp) -> Sequence[Cotangent]:
    """What passes its first input as it is."""
    return [v.dy]


def dropout(v: Vjp) -> Sequence[Cotangent]:
    """Dropout at inference is the identity.

    Raises:
        Undifferentiable: it is in training mode.
    """
    if v.has(2) and (v.value(2) is None or bool(v.known(2, "mode").item())):
        raise Undifferentiable("Dropout is in training mode")
    return [v.dy]


def cast(v: Vjp) -> Sequence[Cotangent]:
    """Between floating-point types; a cast to integers has no gradient and never gets here."""
    source = v.x().dtype
    return [v.dy.cast(source if source.kind == "f" else FLOAT32)]


def clip(v: Vjp) -> Sequence[Cotangent]:
    """What lies within the limits passes; what lies outside belongs to the limit."""
    if v.opset < 11:
        raise Undifferentiable("Clip of so old an operator set has its limits as attributes")
    y, low, high = v.y(), v.has(1), v.has(2)
    if low and high:
        inside = y.between(v.x(1), v.x(2))
    elif low or high:
        inside = y.above(v.x(1)) if low else y.below(v.x(2))
    else:
        return [v.dy]
    limits: list[Cotangent] = [v.dy * inside]
    for i, is_given in ((1, low), (2, high)):
        limits.append(Blocked("the limits of Clip are no weights") if is_given and v.wants(i) else None)
    return limits


RULES: dict[str, Rule] = {
    **dict.fromkeys(DERIVATIVES, elementwise),
    "Cast": cast,
    "CastLike": cast,
    "Clip": clip,
    "Dropout": dropout,
    "Identity": passed,
    "Neg": negated,
}
