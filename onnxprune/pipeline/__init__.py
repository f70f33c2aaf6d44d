"""From a model and a budget to a pruned model and its verdict: the only place that composes the stages.

In: a model, options, samples. Out: a `Result` (model, plan, verdict), or a refusal.

- `api`: what Python and the command line call; `begin`: loads the model and reads samples;
- `recipe`: from options to phases; `run`: phases, proof, verdict, form of delivery; `curve`: many of them;
- `phase`: the units of one phase, and how they are chosen; `maker`: cuts and repairs;
- `options`: every option, declared once; `deliver`: masks, grouped convolutions, random weights.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..contracts.sampling import Calibration, Source
    from .api import apply, pareto, prune
    from .calibrate import calibrated, with_samples
    from .curve import Pareto
    from .evidence import Evidence, Labelled, labelled, opened, sample_sizes
    from .judge import compare, size
    from .load import Loaded, Prepared, loaded, prepare
    from .options import Options
    from .outputs import check_outputs
    from .run import Result

_MODULES = {
    "..contracts.sampling": ("Calibration", "Source"),
    ".calibrate": ("calibrated", "with_samples"),
    ".curve": ("Pareto",),
    ".evidence": ("Evidence", "Labelled", "labelled", "opened", "sample_sizes"),
    ".judge": ("compare", "size"),
    ".load": ("Loaded", "Prepared", "loaded", "prepare"),
    ".options": ("Options",),
    ".outputs": ("check_outputs",),
    ".api": ("apply", "pareto", "prune"),
    ".run": ("Result",),
}

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
    "apply",
    "calibrated",
    "check_outputs",
    "compare",
    "labelled",
    "loaded",
    "opened",
    "pareto",
    "prepare",
    "prune",
    "sample_sizes",
    "size",
    "with_samples",
]


def __getattr__(name: str) -> Any:
    """What another module has, imported when somebody asks for it."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module, __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
