"""Linear layers, said once: y = W p + b for every row, p being what a position of the output reads.

- `table`: which operators are such layers, and where they have their data, weight and bias;
- `layout`, `convolution`, `product`: how patches, outputs and weights lie, as matrices;
- `storage`: what stored constants stand for, floats or integers;
- `bias`: where a bias is, or can be.

A layer of a new kind is one row of the table, and a row in `tests/test_linear_layers.py`.
"""

from __future__ import annotations

from .layout import Entries, Layout, Rows
from .table import LINEAR, LinearLayer, LinearRow, float_layers, is_depthwise, layer_at, weight_inputs

__all__ = [
    "LINEAR",
    "Entries",
    "Layout",
    "LinearLayer",
    "LinearRow",
    "Rows",
    "float_layers",
    "is_depthwise",
    "layer_at",
    "weight_inputs",
]
