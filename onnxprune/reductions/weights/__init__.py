"""Values of weights: single ones, or kernels. They become zero, and every shape stays as it is.

In: a network. Out: a `ValueSpace` (see `contracts.reduction.Space`).

- `single`: each weight of a convolution or matrix product; `kernels`: what one filter reads of one channel;
- `values`: what both share: mask, cut, trace and plan;
- another pattern of values (blocks, N:M): a space here with the values of each unit.
"""

from __future__ import annotations

from .kernels import Kernels, KernelSpace
from .single import Weights, WeightSpace
from .values import ValueSpace

__all__ = ["KernelSpace", "Kernels", "ValueSpace", "WeightSpace", "Weights"]
