"""Who says what a network loses on samples that it does not learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from ..execution.sessions import open_session
from ..gradients.heads import Head, probabilities
from ..graph import Array, Graph
from ..quality.loss import Judge
from ..samples.core import batch_size

_TINY = 1e-30


class Referee(Protocol):
    """Says what a network loses."""

    @property
    def digest(self) -> str:
        """The same for the same samples."""

    def loss(self, graph: Graph) -> float:
        """What a network loses; infinite where it can't be said."""


class OfOutputs:
    """What the outputs lose against the original's (see `quality.loss.Loss.distance`).

    Args:
        original: the original.
        batches: samples.
    """

    def __init__(self, original: Graph, batches: Iterable[Mapping[str, Array]]) -> None:
        held = list(batches)
        self._judge = Judge(original, held)
        self.digest = digest_of(held)

    def loss(self, graph: Graph) -> float:
        """See `Referee.loss`."""
        return float(self._judge.distance(graph))


class OfLabels:
    """The cross entropy against classes, or the squared error of values relative to their variance.

    Args:
        head: what is compared with labels.
        pairs: samples and labels.
    """

    def __init__(self, head: Head, pairs: Iterable[tuple[Mapping[str, Array], Array]]) -> None:
        self._head, self._pairs = head, list(pairs)
        self.digest = digest_of([{**feeds, "labels": labels} for feeds, labels in self._pairs])

    def loss(self, graph: Graph) -> float:
        """See `Referee.loss`."""
        session = open_session(graph.tapped((self._head.tensor,)))
        total, count = 0.0, 0
        for feeds, labels in self._pairs:
            z = session.run(feeds)[self._head.tensor].astype(np.float64)
            total += self._lost(z, labels)
            count += batch_size(feeds)
        return float(total / count) if np.isfinite(total) else float("inf")

    def _lost(self, z: Array, labels: Array) -> float:
        if labels.dtype.kind not in "iu":
            spread = max(float(np.var(labels)) * z[0].size, _TINY)
            return float(np.square(z - labels).sum() / spread)
        p = probabilities(z, 1).reshape(len(z), -1)
        own = np.take_along_axis(p, np.maximum(labels, 0)[:, None], 1)[:, 0]
        return float(-np.log(np.maximum(own, _TINY))[labels >= 0].sum())


class Both:
    """A sum of what others say.

    Args:
        referees: the others.
    """

    def __init__(self, referees: Sequence[Referee]) -> None:
        self._referees = referees
        self.digest = hashlib.sha256("".join(r.digest for r in referees).encode()).hexdigest()

    def loss(self, graph: Graph) -> float:
        """See `Referee.loss`."""
        return float(sum(r.loss(graph) for r in self._referees))


def digest_of(batches: Iterable[Mapping[str, Array]]) -> str:
    """SHA-256 over all arrays, by name."""
    found = hashlib.sha256()
    for feeds in batches:
        for name in sorted(feeds):
            array = feeds[name]
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            found.update(
                repr(array.tolist()).encode()
                if array.dtype == object
                else np.ascontiguousarray(array).tobytes()
            )
    return found.hexdigest()
