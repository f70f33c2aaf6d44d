"""The loss of a changed network against the original: one number for all its outputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from ..execution.sessions import open_session
from ..graph import Array, Graph, is_floating
from ..types import Floats

_SUM_TOLERANCE = 1e-3
_TINY = 1e-12

SQUASHED = 1.0
"""Errors of a Softmax or Sigmoid are relative to at least this: they are rounded as numbers near 1."""

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


def compared_outputs(graph: Graph) -> tuple[str, ...]:
    """The tensors to compare: outputs, and the logits behind their Softmax or Sigmoid.

    Saturated probabilities hide an error that logits show.
    """
    found = dict.fromkeys(graph.outputs)
    for output in graph.outputs:
        found.update(dict.fromkeys(squashed(graph, output)))
    return tuple(found)


def squashed(graph: Graph, output: str) -> tuple[str, ...]:
    """The inputs of each Softmax, Sigmoid and the like that an output is rearranged from."""
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


def are_scores(output: Array, count: int) -> bool:
    """Whether an output holds class scores of so many samples: (samples, classes), axes of 1 may follow."""
    return (
        is_floating(output.dtype)
        and output.ndim >= 2
        and len(output) == count > 0
        and 1 < output.shape[1] == output.size // count
    )


class Expected:
    """What the original gives for a batch, prepared to be compared with often."""

    def __init__(self, outputs: Mapping[str, Array]) -> None:
        self.of: dict[str, _Probabilities | _Values] = {}
        for name, a in outputs.items():
            if is_floating(a.dtype):
                x = a.astype(_kind(a), copy=False)  # sums are double in any case
                self.of[name] = _Probabilities(x) if are_probabilities(x) else _Values(x)


class Loss:
    """Adds up what is lost, over batches.

    Outputs that are probabilities (not negative, a sum of 1 along the last axis) count by their
    Kullback-Leibler divergence, relative to that from their mean. Others count by their squared error
    relative to their variance, for each index of the shortest axis but the first on its own, and no more
    than 1 for each: boxes in pixels don't hide scores between 0 and 1, and what is lost can't be lost twice.
    """

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, Floats]] = {}

    def add(self, expected: Expected, actual: Mapping[str, Array]) -> None:
        """Add the outputs of a batch, of the original and of another network; absent ones are as expected."""
        for name, known in expected.of.items():
            sums = self._sums.setdefault(name, defaultdict(lambda: np.zeros(1)))
            b = actual.get(name)
            y = known.x if b is None else b.astype(known.x.dtype, copy=False)
            if y.shape != known.x.shape or not known.comparable(y):
                sums["broken"] = np.ones(1)
                continue
            for key, value in (known.totals | known.lost(y)).items():
                sums[key] = sums[key] + value

    @property
    def value(self) -> float:
        """The mean over outputs, 0 where there are none; infinite where an output is broken."""
        return _mean([_capped(sums) for sums in self._sums.values()])

    @property
    def distance(self) -> float:
        """The same, but what an error loses is never quite all: worse is told from still worse."""
        return _mean([_bent(sums) for sums in self._sums.values()])


class Judge:
    """Compares graphs with the original on samples, which this runs only once.

    Args:
        original: the graph.
        batches: its inputs; they and the outputs stay in memory.

    Attributes:
        taps: the tensors that are compared.

    Raises:
        InputError: the graph can't be run.
    """

    def __init__(self, original: Graph, batches: Iterable[Mapping[str, Array]]) -> None:
        self.taps = compared_outputs(original)
        self._batches = list(batches)
        session = open_session(original.tapped(self.taps))
        self._expected = [Expected(session.run(feeds)) for feeds in self._batches]

    def loss(self, other: Graph) -> float:
        """What another graph loses: see `Loss`.

        Raises:
            InputError: the graph can't be run.
        """
        session = open_session(other.tapped(self.taps))
        return self.loss_of(session.run(feeds) for feeds in self._batches)

    def distance(self, other: Graph) -> float:
        """How far another graph is away: see `Loss.distance`.

        Raises:
            InputError: the graph can't be run.
        """
        session = open_session(other.tapped(self.taps))
        return self._added(session.run(feeds) for feeds in self._batches).distance

    def loss_of(self, outputs: Iterable[Mapping[str, Array]]) -> float:
        """What is lost with these values of `taps`, batch by batch; absent ones have not changed."""
        return self._added(outputs).value

    def _added(self, outputs: Iterable[Mapping[str, Array]]) -> Loss:
        loss = Loss()
        for expected, actual in zip(self._expected, outputs, strict=True):
            loss.add(expected, actual)
        return loss


class _Probabilities:
    """Rows that sum to 1; their divergence is relative to how much there is to lose."""

    def __init__(self, x: Array) -> None:
        self.x = x
        self._p = _rows(x)
        self._logs = np.log(self._p)
        self.totals: dict[str, Floats] = {
            "mean": self._p.sum(0, dtype=np.float64),
            "information": np.asarray([(self._p * self._logs).sum(dtype=np.float64)]),
            "rows": np.asarray([float(len(self._p))]),
        }

    def comparable(self, y: Array) -> bool:
        return bool(np.isfinite(y).all())

    def lost(self, y: Array) -> dict[str, Floats]:
        q = _rows(y)
        np.log(q, out=q)
        np.subtract(self._logs, q, out=q)
        q *= self._p
        return {"divergence": np.asarray([q.sum(dtype=np.float64)])}


class _Values:
    """Any numbers; their error is relative to their variance, for each index of one axis."""

    def __init__(self, x: Array) -> None:
        finite = np.isfinite(x)
        self._finite = None if finite.all() else finite
        self.x = x if self._finite is None else np.where(finite, x, 0)
        lengths = {n: axis for axis, n in reversed(list(enumerate(x.shape))) if axis and n > 1}
        axis = lengths[min(lengths)] if lengths else 0
        self._rest = tuple(a for a in range(x.ndim) if a != axis or not lengths)
        self.totals: dict[str, Floats] = {
            "total": np.atleast_1d(self.x.sum(self._rest, dtype=np.float64)),
            "squares": np.atleast_1d(np.square(self.x).sum(self._rest, dtype=np.float64)),
            "count": np.atleast_1d(np.asarray(float(x.size // (x.shape[axis] if lengths else 1)))),
        }

    def comparable(self, y: Array) -> bool:
        finite = np.isfinite(y)
        return bool(finite.all() if self._finite is None else finite[self._finite].all())

    def lost(self, y: Array) -> dict[str, Floats]:
        difference = self.x - y
        if self._finite is not None:
            difference[~self._finite] = 0
        np.square(difference, out=difference)
        return {"error": np.atleast_1d(difference.sum(self._rest, dtype=np.float64))}


def _kind(a: Array) -> type[np.floating]:
    return np.float64 if a.dtype == np.float64 else np.float32


def are_probabilities(x: Array) -> bool:
    """Whether numbers along the last axis are probabilities: not negative, and of sum 1."""
    return bool(
        x.ndim > 1
        and x.size > 0
        and x.shape[-1] > 1
        and (x >= 0).all()
        and np.allclose(x.sum(-1), 1, atol=_SUM_TOLERANCE, rtol=0)
    )


def _rows(x: Array) -> Array:
    """(rows, classes), positive and of sum 1."""
    p = np.maximum(x.reshape(-1, x.shape[-1]), _TINY)
    p /= p.sum(-1, keepdims=True)
    return p


def _mean(found: list[float]) -> float:
    return float(np.mean(found)) if found else 0.0


def _capped(sums: Mapping[str, Floats]) -> float:
    shares = _shares(sums)
    plain = "divergence" in sums or "broken" in sums
    return float((shares if plain else np.minimum(shares, 1)).mean())


def _bent(sums: Mapping[str, Floats]) -> float:
    shares = _shares(sums)
    return float(shares.mean() if "divergence" in sums or "broken" in sums else -np.expm1(-shares).mean())


def _shares(sums: Mapping[str, Floats]) -> Floats:
    """What is lost of all there is: one number, or one for each index of the shortest axis."""
    if "broken" in sums:
        return np.asarray([np.inf])
    if "divergence" in sums:
        mean = np.maximum(sums["mean"] / sums["rows"], _TINY)
        most = float((sums["information"] - sums["rows"] * (mean * np.log(mean)).sum())[0])
        return np.asarray(
            [max(0.0, float(sums["divergence"][0])) / max(most, _TINY * float(sums["rows"][0]))]
        )
    if "error" not in sums or not sums["count"][0]:
        return np.zeros(1)
    variance = sums["squares"] - np.square(sums["total"]) / sums["count"]
    known = variance > _TINY * (1 + sums["squares"])
    error = sums["error"]
    return np.where(known, error / np.where(known, variance, 1), (error > _TINY).astype(float))
