"""The CI gate: what models measure, against limits and baselines; and how two models differ.

In: files and a configuration. Out: a `Report` or a `Diff`; `formats` makes text of them. Nothing here
prunes.

- `settings`, `selection`, `limits`: what is checked, by which limits; `baseline`, `git`: what it is
  compared with;
- `measure`, `metrics`, `dead`, `speed`, `files`: the numbers; `gate`, `verdict`: the judgement;
- `diff`, `layers`, `same`: what changed between two models.

A new metric is a row in `metrics.METRICS`, its number in `measure`, and its limit in
`schemas/check.schema.json`. A new output format is a module in `formats` with an entry in `FORMATS` (and
in `ERRORS`).
"""

from .gate import Options, check, require_outputs_apart
from .measure import Measurement, Subject, measure, open_model
from .settings import Settings, find, read
from .verdict import Finding, Outcome, Report

__all__ = [
    "Finding",
    "Measurement",
    "Options",
    "Outcome",
    "Report",
    "Settings",
    "Subject",
    "check",
    "find",
    "measure",
    "open_model",
    "read",
    "require_outputs_apart",
]
