"""How far the outputs of a graph are from those of the original."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from ..graph import Array, Graph
from ..runtime import Session


def relative_error(original: Graph, other: Graph, batches: Iterable[Mapping[str, Array]]) -> float:
    """Squared error over the variance of the output, averaged over outputs of floating-point numbers.

    Infinite where an output's shape differs or a value isn't finite; 0 where there is nothing to compare.
    """
    before, after = Session(original.serialized()), Session(other.serialized())
    errors: defaultdict[str, float] = defaultdict(float)
    moments: defaultdict[str, Array] = defaultdict(lambda: np.zeros(3))
    for feeds in batches:
        now = after.run(feeds)
        for name, wanted in before.run(feeds).items():
            if wanted.dtype.kind == "f" or wanted.dtype.name == "bfloat16":
                y, z = wanted.astype(np.float64), now[name].astype(np.float64)
                finite = np.isfinite(y)
                if y.shape != z.shape or not np.isfinite(z[finite]).all():
                    return float("inf")
                errors[name] += float(np.square(y - z)[finite].sum())
                moments[name] += np.asarray([finite.sum(), y[finite].sum(), np.square(y[finite]).sum()])
    shares = []
    for name, error in errors.items():
        count, total, squares = moments[name]
        variance = squares - total * total / max(count, 1)
        shares.append(error / variance if variance > 0 else float(error > 0))
    return float(np.mean(shares)) if shares else 0.0
