"""Repair in closed form: the weights that are left make up for what was removed. No shape changes.

In: a `Task` (a cut, and the network whose values are aimed at), and evidence: samples, statistics, or the
weights alone. Out: `Repaired`. A repair that was fitted to samples is judged on others, and kept only
where the outputs lose less with it than without.

- `attempts`: which repair is tried with which evidence, and which is kept;
- from samples: `sequential` fits layer by layer (`targets`, `regression`), through activations
  (`nonlinear`) and shortcuts (`response`); from statistics: `projection`; from weights: `merging`, with
  filters from `makers`;
- `compensation`: new weights in a cut network; `initial`: random weights, for `apply --weights random`.

Repair of a new kind of layer is a row of the table in `ops.layers`, nothing here. A new repair is a file
here and a case in `attempts` and in `pipeline.maker`.
"""

from __future__ import annotations

from .attempts import fitted, from_statistics, from_weights
from .projection import predicted
from .task import Task

__all__ = ["Task", "fitted", "from_statistics", "from_weights", "predicted"]
