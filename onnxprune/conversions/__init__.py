"""How numbers are represented: a network that computes the same function, stored or computed in other types.

In: a network. Out: a network, and how to convert it back where that is needed.

- `packing`: weights stored as integers, as floats for as long as they are fitted, and as integers again;
- `stored`: constants behind DequantizeLinear; `integers`: layers that multiply integers (dynamic
  quantisation).

These serve repair; there is no conversion that a user can ask for yet. One (float16, say) is a file here,
from a network to a network, which `pipeline.run` applies to the result before the verdict, so that its
drift is measured.
"""

from __future__ import annotations

from .packing import Packing, dequantized, unpacked

__all__ = ["Packing", "dequantized", "unpacked"]
