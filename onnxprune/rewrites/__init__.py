"""Passes that change a graph, and nothing that it computes: a file each.

In: a network. Out: one whose outputs are equal, which whoever applies a rewrite checks in ONNX Runtime.

- before units are looked for: `clean` (onnxslim), `constants` (weights that the graph computes), `branches`
  (an If whose condition is known, or whose branches hold weights), `states` (of recurrent layers, that the
  caller keeps);
- for a choice of units: `reuse` (a layer behind a narrow one that restores its channels), `grouped`
  (a grouped convolution in place of zeroed kernels);
- a new one: a class here that is called with a network (see `contracts.rewrite`).
"""

from __future__ import annotations

from .branches import BranchesAside, KnownBranches
from .clean import Cleaning
from .constants import ComputedWeights
from .grouped import grouped
from .reuse import Widened, widened
from .states import StatesInside, inside, narrowed

__all__ = [
    "BranchesAside",
    "Cleaning",
    "ComputedWeights",
    "KnownBranches",
    "StatesInside",
    "Widened",
    "grouped",
    "inside",
    "narrowed",
    "widened",
]
