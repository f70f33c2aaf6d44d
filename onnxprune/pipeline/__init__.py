"""The composition of all stages: from a model and a budget to a pruned model and its verdict.

In: a model, `Options`, samples. Out: a `Result` (graph, plan, verdict), or an error that says why not.
Only this subpackage knows the order of the stages: docs/data-flow.md.

- `prune`: the public functions `prune`, `pareto`, `apply`; `options`: every option, declared once;
- `begin`: model and samples; `load`: rewrites; `evidence`: samples by their use; `recipe`: options to
  phases;
- `run`: phases, proof, verdict; `search` and `phase`: one phase; `costs` and `uniform`: with and without
  a cost;
- `maker`: cuts and repairs a choice; `evaluators`: metrics on samples; `latency`: profiles; `blocking`:
  `--keep`;
- `deliver`: masks, grouped convolutions, random weights; `judge`: the verdict; `curve`: `--pareto`;
  `calibrate`.

A new option is a field in `options` and its use. A new reduction or criterion of a phase is an entry in
`recipe`.
"""

from __future__ import annotations

from .calibrate import calibrated
from .curve import Pareto
from .evidence import Calibration, Evidence, Labelled, Source, labelled, opened, sample_sizes
from .judge import compare, size
from .load import Loaded, Prepared, loaded, prepare
from .options import Options
from .prune import apply, pareto, prune
from .run import Result, Weights

__all__ = [
    "Calibration",
    "Evidence",
    "Labelled",
    "Loaded",
    "Options",
    "Pareto",
    "Prepared",
    "Result",
    "Source",
    "Weights",
    "apply",
    "calibrated",
    "compare",
    "labelled",
    "loaded",
    "opened",
    "pareto",
    "prepare",
    "prune",
    "sample_sizes",
    "size",
]
