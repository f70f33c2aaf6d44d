"""Samples run through a graph once; what is left of them is sums.

In: a graph, requests (which sums of which tensors), samples. Out: `Stats`, which add up over shards.
The reductions are appended to the graph itself (`emitter`), so memory grows with channels, not with samples.

- a new kind of sum: `emitter`, a field of `contracts.stats.Moments` and a `Need` in `places`;
- what a loss feels of units: `slopes`, from gradients at gates; `aim`: the loss;
- another way to know sums: as `expectation` does from BatchNormalization;
- statistics in files: `files`.
"""

from __future__ import annotations

from .files import load, require_same, save
from .places import DEFAULT_NEEDS, requests
from .run import measure
from .slopes import sloped

__all__ = ["DEFAULT_NEEDS", "load", "measure", "requests", "require_same", "save", "sloped"]
