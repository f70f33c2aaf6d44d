"""One rule for each operator: how channel ids flow through a node, and how many products it computes.

In: an `Op`, a node as the walk sees it, with labels (ids on axes) of its inputs. Out: labels of its
outputs; joins, barriers and sums are recorded on the way.

- `walk` visits the nodes; `label` and `record` hold ids and what rules have said; `op` is what a rule
  works with;
- rules by family: `elementwise`, `linear`, `layout`, `index`, `norm`, `reduce`, `spatial`, `recurrent`,
  `contrib`, `quant`; `products` has counts of multiply-accumulates that several families share;
- `layers`: the one table of linear layers, for everything that scores, fits, masks or draws weights.

A new operator is a function and an entry in its family's `RULES` (and `MACS`, if it multiplies), and a
row in `tests/test_ops.py`: docs/adding-an-operator.md. An operator without a rule is a barrier.
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
