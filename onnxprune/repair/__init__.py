"""The weights that are left make up for what is gone, in closed form; no repair changes a shape.

In: a `Task` (a cut, and the network whose values are aimed at), and what is known: samples, statistics, or
nothing but the weights. Out: `Repaired`. Fitted to samples, a repair is judged on others, and kept only where
the network's outputs lose less with it.

- `attempts`: which repair is tried with what is known, and which is kept;
- `sequential`: layer by layer, by least squares (`regression`), behind a nonlinearity (`nonlinear`);
- `projection`: from statistics alone; `merging`: from weights alone; `initial`: weights drawn anew;
- a layer of a new kind: a row of `ops.layers`; a new repair: a file here, and a case in `attempts`.
"""

from __future__ import annotations

from .attempts import fitted, from_statistics, from_weights
from .projection import predicted
from .task import Task

__all__ = ["Task", "fitted", "from_statistics", "from_weights", "predicted"]
