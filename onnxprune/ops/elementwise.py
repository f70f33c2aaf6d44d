"""Operators that work on each position by itself: channels pass, and channels that meet are one."""

from __future__ import annotations

from .label import Label
from .op import Op, Rule


def elementwise(op: Op) -> list[Label]:
    """All inputs are broadcast together, aligned at the last axis."""
    inputs = [i for i in range(len(op.node.inputs)) if op.has(i)]
    shapes = [op.shape(i) for i in inputs]
    if any(s is None for s in shapes):
        return op.unknown(f"the shapes that {op.node.op} reads are not known")
    rank = max(len(s or ()) for s in shapes)
    letters = [(i, range(rank - len(s or ()), rank)) for i, s in zip(inputs, shapes, strict=True)]
    return [op.combine(letters, range(rank))] * len(op.node.outputs)


def passing(op: Op) -> list[Label]:
    """The first input passes; the others are numbers that hold for the whole tensor."""
    for i in range(1, len(op.node.inputs)):
        if op.has(i) and not op.is_constant(i):
            op.freeze(op.label(i), f"sets a parameter of {op.node.op}")
    return [op.label(0)] * len(op.node.outputs)


def cast_like(op: Op) -> list[Label]:
    """Only the dtype of the second input matters."""
    return [op.label(0)]


_UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor"
    " Gelu HardSigmoid HardSwish IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink"
    " Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Bernoulli"
    " com.microsoft:Gelu com.microsoft:QuickGelu"
)
_NARY = (
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max"
    " Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor com.microsoft:BiasGelu com.microsoft:FastGelu"
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY.split(), passing),
    **dict.fromkeys(_NARY.split(), elementwise),
    "CastLike": cast_like,
}
