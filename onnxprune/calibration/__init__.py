"""Calibration: samples run through a graph once, and sums over them are kept.

In: a network, requests (which sums of which tensors), batches of samples. Out: `Stats`, float64 sums that
add up over disjoint samples. The reductions are nodes of the graph itself, so memory grows with channels,
not with samples.

- `places`: which sums the needs of a criterion ask for, and at how many positions; `emitter`: the nodes
  that compute them; `meter`: adds them up over batches; `run`: one pass;
- `slopes`: what a loss loses with units, from gradients at gates; `aim`: the loss;
- `files`: statistics in files; `sound`: whether they can be what they claim to be.

A new kind of sum is a `Need` and a field of `Moments` in `contracts.stats`, its nodes in `emitter`, and a
row in `tests/test_moments.py`. To calibrate elsewhere, run `onnxprune calibrate` on parts of the samples
and merge the files.
"""

from __future__ import annotations

from .files import load, require_same, save
from .places import DEFAULT_NEEDS, requests
from .run import measure
from .slopes import sloped

__all__ = ["DEFAULT_NEEDS", "load", "measure", "requests", "require_same", "save", "sloped"]
