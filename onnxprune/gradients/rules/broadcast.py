"""Functions of several tensors that are broadcast together."""

from __future__ import annotations

from collections.abc import Sequence

from ..tape import Tensor
from ..vjp import Blocked, Cotangent, Rule, Vjp
from .elementwise import gelu

_TINY = 1e-30


def add(v: Vjp) -> Sequence[Cotangent]:
    """Add and Sum: the same for each operand."""
    return [v.collapsed(v.dy, i) if v.wants(i) else None for i in range(len(v.node.inputs))]


def mean(v: Vjp) -> Sequence[Cotangent]:
    """A share for each operand."""
    share = v.dy / float(len(v.node.inputs))
    return [v.collapsed(share, i) if v.wants(i) else None for i in range(len(v.node.inputs))]


def sub(v: Vjp) -> Sequence[Cotangent]:
    """Sub."""
    return [
        v.collapsed(v.dy, 0) if v.wants(0) else None,
        -v.collapsed(v.dy, 1) if v.wants(1) else None,
    ]


def mul(v: Vjp) -> Sequence[Cotangent]:
    """Mul: for each the other.

    Of y = x s with s = sigmoid(x) at once, dx = dy (s + y (1 - s)): x itself need not be kept for that.
    """
    for i, j in ((0, 1), (1, 0)):
        maker = v.maker(j)
        if maker is not None and maker.op == "Sigmoid" and maker.inputs[0] == v.node.inputs[i]:
            s = v.x(j)
            slope = v.dy * (s + v.y() * (1.0 - s))
            return [slope, None] if i == 0 else [None, slope]
    return [
        v.collapsed(v.dy * v.x(1), 0) if v.wants(0) else None,
        v.collapsed(v.dy * v.x(0), 1) if v.wants(1) else None,
    ]


def div(v: Vjp) -> Sequence[Cotangent]:
    """Div: 1 / b for a, and -y / b for b."""
    share = v.dy / v.x(1)
    return [
        v.collapsed(share, 0) if v.wants(0) else None,
        -v.collapsed(share * v.y(), 1) if v.wants(1) else None,
    ]


def power(v: Vjp) -> Sequence[Cotangent]:
    """Pow: b a^(b - 1) for the base; y log(a) for the exponent, where the base is positive."""
    base, exponent = v.x(0), v.x(1).cast(v.x(0).dtype)
    slope: Tensor | None = None
    if v.wants(0):
        known = v.value(1)
        if known is not None and known.size == 1:
            slope = v.dy * _power_slope(base, float(known.item()))
        else:
            slope = v.dy * exponent * base.power(exponent - 1.0)
        slope = v.collapsed(slope, 0)
    log = base.tape.emit("Max", base, base.like(_TINY)).map("Log") if v.wants(1) else None
    by_exponent = None if log is None else v.collapsed(v.dy * v.y() * log, 1).cast(v.x(1).dtype)
    return [slope, by_exponent]


def _power_slope(base: Tensor, exponent: float) -> Tensor:
    if exponent == 2:
        return base * 2.0
    if exponent == 3:
        return base * base * 3.0
    return base.power(exponent - 1) * exponent


def extremum(v: Vjp) -> Sequence[Cotangent]:
    """Max and Min: to those that are it, in equal parts."""
    count = len(v.node.inputs)
    masks = [v.x(i).equals(v.y()) for i in range(count)]
    share = v.dy
    if count > 1:
        total = masks[0]
        for mask in masks[1:]:
            total = total + mask
        share = share / total
    return [v.collapsed(share * masks[i], i) if v.wants(i) else None for i in range(count)]


def where(v: Vjp) -> Sequence[Cotangent]:
    """To the one that is chosen."""
    chosen = v.x(0).cast(v.dtype)
    return [
        None,
        v.collapsed(v.dy * chosen, 1) if v.wants(1) else None,
        v.collapsed(v.dy * (1.0 - chosen), 2) if v.wants(2) else None,
    ]


def prelu(v: Vjp) -> Sequence[Cotangent]:
    """PRelu: below zero, the slope for x, and x for the slope."""
    below = v.x(0).below(0.0)
    return [
        v.dy * (1.0 + below * (v.x(1) - 1.0)) if v.wants(0) else None,
        v.collapsed(v.dy * v.x(0) * below, 1) if v.wants(1) else None,
    ]


def modulo(v: Vjp) -> Sequence[Cotangent]:
    """The remainder moves as what is divided."""
    return [
        v.collapsed(v.dy, 0) if v.wants(0) else None,
        Blocked("the divisor of Mod has no gradient here") if v.wants(1) else None,
    ]


def biased_gelu(v: Vjp) -> Sequence[Cotangent]:
    """BiasGelu, and FastGelu with or without a bias."""
    x = v.x() + v.x(1) if v.has(1) else v.x()
    tanh = "tanh" if v.node.op.endswith("FastGelu") else "none"
    slope = v.dy * gelu(x, tanh)
    return [slope, v.collapsed(slope, 1) if v.wants(1) else None]


RULES: dict[str, Rule] = {
    "Add": add,
    "Div": div,
    "Max": extremum,
    "Mean": mean,
    "Min": extremum,
    "Mod": modulo,
    "Mul": mul,
    "PRelu": prelu,
    "Pow": power,
    "Sub": sub,
    "Sum": add,
    "Where": where,
    "com.microsoft:BiasGelu": biased_gelu,
    "com.microsoft:FastGelu": biased_gelu,
}
