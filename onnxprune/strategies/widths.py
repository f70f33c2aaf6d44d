"""Which widths groups may have."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..contracts.groups import Group
from ..cost.rate import fitting

DEFAULT_MULTIPLE = 16
"""Widths are multiples of this unless latency is measured: the CPU kernels of ONNX Runtime
work on blocks of 8 channels, or 16 with AVX-512. `profile` measures the multiple on a machine."""


@dataclass(frozen=True)
class Widths:
    """Which widths groups may have.

    Attributes:
        multiple: of this.
        strict: also where it leaves a small group no choice; else the largest part of it that does, and
            channels count, of which a head has many.
        least: units that every group keeps.
    """

    multiple: int = 1
    strict: bool = True
    least: int = 1

    def of(self, group: Group) -> int:
        """Of how many units a group keeps a multiple."""
        if self.strict:
            return self.multiple
        return fitting(self.multiple // math.gcd(self.multiple, group.span), group.size)
