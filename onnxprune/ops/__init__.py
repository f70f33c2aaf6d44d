"""One small rule per operator: how channel ids flow through it, and what it costs.

A new operator is one function and one entry in its family's `RULES` (and `MACS`, if it multiplies).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import contrib, elementwise, index, layout, linear, norm, products, quant, recurrent, reduce, spatial
from .op import MacsRule, Rule

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **elementwise.RULES,
        **linear.RULES,
        **layout.RULES,
        **index.RULES,
        **norm.RULES,
        **reduce.RULES,
        **spatial.RULES,
        **recurrent.RULES,
        **contrib.RULES,
        **quant.RULES,
    }
)
"""Operator -> rule. What is not here is a barrier."""

MACS: Mapping[str, MacsRule] = MappingProxyType(
    {**linear.MACS, **recurrent.MACS, **contrib.MACS, **quant.MACS, **products.MACS}
)
"""Operator -> multiply-accumulates, from its attributes and the shapes of its inputs and outputs."""
