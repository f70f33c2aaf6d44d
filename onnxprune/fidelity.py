"""How much of what a network says is lost: one number for all its outputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from .graph import Array, Graph
from .runtime import Session
from .types import Floats

_SUM_TOLERANCE = 1e-3
_TINY = 1e-12

SQUASHED = 1.0
"""What a Sigmoid gives is as precise as a number near 1, however small: what it is taken of says more."""

_SQUASHING = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh"})
_REARRANGING = frozenset(
    {
        "Concat",
        "Identity",
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Slice",
        "Split",
        "Cast",
    }
)


def telling(graph: Graph) -> tuple[str, ...]:
    """The outputs of a graph, and what their Softmax or Sigmoid is taken of.

    Saturated probabilities change only when it is too late; what they come from tells long before.
    """
    found = dict.fromkeys(graph.outputs)
    for output in graph.outputs:
        found.update(dict.fromkeys(squashed(graph, output)))
    return tuple(found)


def squashed(graph: Graph, output: str) -> tuple[str, ...]:
    """What the Softmax or Sigmoid is taken of that an output is, or is put together from."""
    found: dict[str, None] = {}
    wanted, seen = [output], {output}
    while wanted:
        node = graph.producer.get(wanted.pop())
        if node is None:
            continue
        if node.op in _SQUASHING:
            found.setdefault(node.inputs[0])
        elif node.op in _REARRANGING:
            new = [i for i in node.inputs if i not in seen and i not in graph.constants]
            seen.update(new)
            wanted += new
    return tuple(found)


class Loss:
    """Adds up what is lost, over batches.

    Outputs that are probabilities (not negative, a sum of 1 along the last axis) count by their
    Kullback-Leibler divergence, relative to that from their mean. Others count by their squared error
    relative to their variance, for each index of the shortest axis but the first on its own, and no more
    than 1 for each: boxes in pixels don't hide scores between 0 and 1, and what is lost can't be lost twice.
    """

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, Floats]] = {}

    def add(self, expected: Mapping[str, Array], actual: Mapping[str, Array]) -> None:
        """Add the outputs of a batch, of the original and of another network."""
        for name, a in expected.items():
            if a.dtype.kind != "f" and a.dtype.name != "bfloat16":
                continue
            sums = self._sums.setdefault(name, defaultdict(lambda: np.zeros(1)))
            b = actual[name]
            if a.shape != b.shape:
                sums["broken"] = np.ones(1)
                continue
            kind = np.float64 if a.dtype == np.float64 else np.float32  # sums are double in any case
            x, y = a.astype(kind, copy=False), b.astype(kind, copy=False)
            finite = np.isfinite(x)
            if not np.isfinite(y[finite]).all():
                sums["broken"] = np.ones(1)
                continue
            if not finite.all():
                x, y = np.where(finite, x, 0), np.where(finite, y, 0)
            for key, value in (_divergence(x, y) if _are_probabilities(x) else _squares(x, y)).items():
                sums[key] = sums[key] + value

    @property
    def value(self) -> float:
        """The mean over outputs, 0 where there are none; infinite where an output is broken."""
        found = [_share(sums) for sums in self._sums.values()]
        return float(np.mean(found)) if found else 0.0


class Judge:
    """Compares graphs with the original on samples, which this runs only once.

    Args:
        original: the graph.
        batches: its inputs; they and the outputs stay in memory.

    Raises:
        InputError: the graph can't be run.
    """

    def __init__(self, original: Graph, batches: Iterable[Mapping[str, Array]]) -> None:
        self._taps = telling(original)
        self._batches = list(batches)
        session = Session(original.tapped(self._taps).serialized())
        self._expected = [session.run(feeds) for feeds in self._batches]

    def loss(self, other: Graph) -> float:
        """What another graph loses: see `Loss`.

        Raises:
            InputError: the graph can't be run.
        """
        session = Session(other.tapped(self._taps).serialized())
        loss = Loss()
        for feeds, expected in zip(self._batches, self._expected, strict=True):
            loss.add(expected, session.run(feeds))
        return loss.value


def _are_probabilities(x: Array) -> bool:
    return bool(
        x.ndim > 1
        and x.shape[-1] > 1
        and (x >= 0).all()
        and np.allclose(x.sum(-1), 1, atol=_SUM_TOLERANCE, rtol=0)
    )


def _divergence(p: Array, q: Array) -> dict[str, Floats]:
    """Sums over rows; those of the original alone say how much there is to lose."""
    p, q = (np.maximum(x.reshape(-1, x.shape[-1]), _TINY) for x in (p, q))
    p, q = (x / x.sum(-1, keepdims=True) for x in (p, q))
    logs = np.log(p)
    return {
        "divergence": np.asarray([(p * (logs - np.log(q))).sum(dtype=np.float64)]),
        "mean": p.sum(0, dtype=np.float64),
        "information": np.asarray([(p * logs).sum(dtype=np.float64)]),
        "rows": np.asarray([float(len(p))]),
    }


def _squares(x: Array, y: Array) -> dict[str, Floats]:
    """Sums for each index of the shortest axis but the first."""
    lengths = {n: axis for axis, n in reversed(list(enumerate(x.shape))) if axis and n > 1}
    axis = lengths[min(lengths)] if lengths else 0
    rest = tuple(a for a in range(x.ndim) if a != axis or not lengths)
    return {
        "error": np.atleast_1d(np.square(x - y).sum(rest, dtype=np.float64)),
        "total": np.atleast_1d(x.sum(rest, dtype=np.float64)),
        "squares": np.atleast_1d(np.square(x).sum(rest, dtype=np.float64)),
        "count": np.atleast_1d(np.asarray(float(x.size // (x.shape[axis] if lengths else 1)))),
    }


def _share(sums: Mapping[str, Floats]) -> float:
    if "broken" in sums:
        return float("inf")
    if "divergence" in sums:
        mean = np.maximum(sums["mean"] / sums["rows"], _TINY)
        most = float((sums["information"] - sums["rows"] * (mean * np.log(mean)).sum())[0])
        return float(sums["divergence"][0]) / max(most, _TINY * float(sums["rows"][0]))
    if "error" not in sums or not sums["count"][0]:
        return 0.0
    variance = sums["squares"] - np.square(sums["total"]) / sums["count"]
    known = variance > _TINY * (1 + sums["squares"])
    error = sums["error"]
    shares = np.where(known, error / np.where(known, variance, 1), (error > _TINY).astype(float))
    return float(np.minimum(shares, 1).mean())
