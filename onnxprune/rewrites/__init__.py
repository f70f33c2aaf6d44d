"""Rewrites: passes that change a graph and not what it computes, one file each.

In: a network. Out: a network with equal outputs; `pipeline.load` compares both in ONNX Runtime
(`proof.same`) and drops a rewrite that differs.

- before units are looked for: `clean` (onnxslim), `constants` (weights that the graph computes),
  `branches` (an If whose condition is known, or whose branches hold weights);
- for a choice of units: `reuse` (a layer behind a narrow one that restores its channels), `grouped` (a
  grouped convolution in place of zeroed kernels);
- a new one: a class that is called with a network (see `contracts.rewrite`), and an entry in
  `pipeline.load`; one that depends on a choice goes into the plan (`contracts.plan.PlannedRewrite`), as
  `grouped` does.
"""

from __future__ import annotations

from .branches import FlattenedBranches, KnownBranches
from .clean import Cleaning
from .constants import ComputedWeights
from .grouped import grouped
from .reuse import Widened, widened

__all__ = [
    "Cleaning",
    "ComputedWeights",
    "FlattenedBranches",
    "KnownBranches",
    "Widened",
    "grouped",
    "widened",
]
