"""How far the outputs of graphs are from those of the original."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ..graph import Array, Graph
from ..runtime import Session


class Judge:
    """Compares graphs with the original on samples, which this runs only once.

    Args:
        original: the graph.
        batches: its inputs.

    Raises:
        InputError: the graph can't be run.
    """

    def __init__(self, original: Graph, batches: Sequence[Mapping[str, Array]]) -> None:
        self._batches = batches
        session = Session(original.serialized())
        self._wanted = [{k: v for k, v in session.run(b).items() if _is_real(v)} for b in batches]

    def error(self, other: Graph) -> float:
        """Squared error over the variance of the output, averaged over outputs of floating-point numbers.

        Infinite where an output's shape differs or a value isn't finite; 0 where there is nothing to compare.

        Raises:
            InputError: the graph can't be run.
        """
        session = Session(other.serialized())
        errors: defaultdict[str, float] = defaultdict(float)
        moments: defaultdict[str, Array] = defaultdict(lambda: np.zeros(3))
        for feeds, wanted in zip(self._batches, self._wanted, strict=True):
            now = session.run(feeds)
            for name, value in wanted.items():
                y, z = value.astype(np.float64), now[name].astype(np.float64)
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


def _is_real(value: Array) -> bool:
    return value.dtype.kind == "f" or value.dtype.name == "bfloat16"
