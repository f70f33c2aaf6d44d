"""One small rule per operator: the cotangents of its inputs, from those of its outputs.

A new operator is one function and one entry in its family's `RULES`, and a row in
tests/test_gradients_rules.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..vjp import Rule
from . import (
    attention,
    broadcast,
    conv,
    elementwise,
    index,
    layout,
    linear,
    norm,
    pool,
    quant,
    recurrent,
    reduce,
    resize,
    sample,
)

_FAMILIES = (
    attention,
    broadcast,
    conv,
    elementwise,
    index,
    layout,
    linear,
    norm,
    pool,
    quant,
    recurrent,
    reduce,
    resize,
    sample,
)

RULES: Mapping[str, Rule] = MappingProxyType({op: rule for f in _FAMILIES for op, rule in f.RULES.items()})
"""Operator -> rule."""

CONSTANT = frozenset(
    [
        "And",
        "ArgMax",
        "ArgMin",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "Ceil",
        "ConstantOfShape",
        "Equal",
        "EyeLike",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "Hardmax",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "NonMaxSuppression",
        "NonZero",
        "Not",
        "Or",
        "RandomNormalLike",
        "RandomUniformLike",
        "Round",
        "Shape",
        "Sign",
        "Size",
        "Xor",
    ]
)
"""Operators whose results don't move with small changes of their inputs: no gradient passes them."""

CARRIERS = frozenset(
    [
        "Concat",
        "ConvInteger",
        "DynamicQuantizeLinear",
        "Flatten",
        "Gather",
        "Identity",
        "MatMulInteger",
        "Pad",
        "QuantizeLinear",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
        "com.microsoft:QuantizeLinear",
    ]
)
"""Operators whose integers stand for real numbers and carry cotangents, if what they read does."""
