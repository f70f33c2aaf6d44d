"""The composition of all stages: from a model and a budget to a pruned model and its verdict.

In: a model, `Options`, samples. Out: a `Result` (graph, plan, verdict), or an error that says why not.
Only this subpackage knows the order of the stages: docs/data-flow.md.

- `api`: the public functions `prune`, `pareto`, `apply`; `options`: every option, declared once;
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

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..contracts.sampling import Calibration, Source
    from .api import apply, pareto, prune
    from .calibrate import calibrated, with_samples
    from .curve import Pareto
    from .evidence import Evidence, Labelled, labelled, opened, sample_sizes
    from .finetuning import Tuned, finetune
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
    ".finetuning": ("Tuned", "finetune"),
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
    "Tuned",
    "apply",
    "calibrated",
    "check_outputs",
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
    "with_samples",
]


def __getattr__(name: str) -> Any:
    """What another module has, imported when somebody asks for it."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module, __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
