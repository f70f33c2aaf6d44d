"""From a model and a budget to a pruned model and its verdict: the only place that composes the stages.

In: a model, options, samples. Out: a `Result` (model, plan, verdict), or a refusal.

- `prune`: what Python and the command line call; `begin`: loads the model and reads samples;
- `recipe`: from options to phases; `run`: phases, proof, verdict, form of delivery; `curve`: many of them;
- `phase`: the units of one phase, and how they are chosen; `maker`: cuts and repairs;
- `options`: every option, declared once; `deliver`: masks, grouped convolutions, random weights.
"""

from __future__ import annotations

from .calibrate import calibrated
from .curve import Pareto
from .evidence import Calibration, Evidence, Labelled, Source, labelled, opened, sample_sizes
from .finetune import Tuned, finetune
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
    "Tuned",
    "Weights",
    "apply",
    "calibrated",
    "compare",
    "finetune",
    "labelled",
    "loaded",
    "opened",
    "pareto",
    "prepare",
    "prune",
    "sample_sizes",
    "size",
]
