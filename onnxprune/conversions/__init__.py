"""How numbers are represented: what a network computes stays, what it is stored as changes.

In: a network. Out: a network that stores, or computes with, other kinds of numbers.

- `packing`: weights that are stored as integers, as floats for as long as they are fitted; `stored` knows
  DequantizeLinear, `integers` layers that multiply integers;
- a new conversion: a file of its own.
"""

from __future__ import annotations

from .packing import Packing, dequantized, unpacked

__all__ = ["Packing", "dequantized", "unpacked"]
