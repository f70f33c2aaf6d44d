"""The losses of what a network says: their derivatives by its outputs, in closed form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..contracts.lesson import Pair
from ..errors import InputError, UsageError
from ..execution.sessions import open_session
from ..gradients.heads import Head, entropy_slope, factor, heads, own_answer, taps
from ..graph import Array, Graph
from ..samples.core import batch_size
from ..types import Floats

EXACT = 10
"""With no more classes every direction of the outputs is looked at; of more, some are drawn."""

DRAWS = 8
"""Directions that are drawn for each sample."""

Said = Mapping[str, Floats]
"""What heads hold for a batch."""


class Aim:
    """What a network says on samples, and what a loss of that feels of it.

    Without labels the slope is that of the network's own answer: of the cross entropy against its own top
    class, if it gives class scores, else of half the squared norm of its outputs. A divergence from what it
    says has no slope there; its curvature is what it feels. With labels, slope and curvature are those of the
    cross entropy against them, or of half the squared error.

    Squared norms and errors are relative to the mean squared norm of the output over samples; what has many
    positions counts by their mean.

    Args:
        graph: the network.
        pairs: the samples, and labels.

    Attributes:
        tensors: where derivatives are taken.

    Raises:
        InputError: there are no samples.
    """

    def __init__(self, graph: Graph, pairs: Iterable[Pair]) -> None:
        self._session = open_session(graph.tapped(taps(graph)))
        self._answer: tuple[Head, ...] = ()
        self._heads: tuple[Head, ...] = ()
        self._norms: dict[str, float] = {}
        count = 0
        for feeds, _ in pairs:
            outputs, size = self._session.run(feeds), batch_size(feeds)
            if not count:
                self._answer, self._heads = own_answer(graph, outputs, size), heads(graph, outputs, size)
            count += size
            for name in {h.tensor for h in (*self._answer, *self._heads) if h.kind == "values"}:
                total = float(np.square(outputs[name], dtype=np.float64).sum())
                self._norms[name] = self._norms.get(name, 0.0) + total
        if not count:
            raise InputError("there are no samples")
        self._norms = {name: total / count for name, total in self._norms.items()}
        self.tensors = tuple(dict.fromkeys(h.tensor for h in (*self._answer, *self._heads)))

    def said(self, feeds: Mapping[str, Array]) -> Said:
        """What the network says on a batch."""
        outputs = self._session.run(feeds)
        return {name: outputs[name].astype(np.float64) for name in self.tensors}

    def slope(self, said: Said, labels: Array | None) -> dict[str, Floats]:
        """The gradient of the loss of each sample, by what the network says.

        Args:
            said: what it says.
            labels: of each sample.

        Raises:
            UsageError: labels don't fit.
        """
        found = self._nothing(said)
        if labels is None:
            for head in self._answer:
                z = said[head.tensor]
                known = z.argmax(head.axis) if head.kind == "softmax" else None
                found[head.tensor] = self._slope(head, z, known)
            return found
        head, z = self._answer[0], said[self._answer[0].tensor]
        found[head.tensor] = self._slope(head, z, _fitting(head, z, labels))
        return found

    def _slope(self, head: Head, z: Floats, target: Array | None) -> Floats:
        if head.kind == "softmax" and target is not None:
            return entropy_slope(z, target, head.axis)
        return self._scale(head, z) * (z if target is None else z - target)

    def ways(
        self, said: Said, digests: NDArray[np.uint64], *, labelled: bool
    ) -> Iterator[tuple[float, dict[str, Floats]]]:
        """Vectors F e by which the curvature of a loss is told: shares, and what each is of every head.

        Args:
            said: what the network says.
            digests: of the samples: directions are drawn from these.
            labelled: the loss is one of labels.
        """
        chosen = self._answer[:1] if labelled else self._heads
        classes = said[chosen[0].tensor].shape[1] if chosen[0].is_classes else 0
        if len(chosen) == 1 and 0 < classes <= EXACT:
            for k in range(classes):
                way = np.zeros_like(said[chosen[0].tensor])
                way[:, k] = 1
                yield 1.0, self._factors(chosen, said, {chosen[0].tensor: way})
            return
        for draw in range(DRAWS):
            ways = {h.tensor: _drawn(said[h.tensor], digests, draw, k) for k, h in enumerate(chosen)}
            yield 1 / DRAWS, self._factors(chosen, said, ways)

    def _factors(self, chosen: Sequence[Head], said: Said, ways: Mapping[str, Floats]) -> dict[str, Floats]:
        found = self._nothing(said)
        for head in chosen:
            z = said[head.tensor]
            found[head.tensor] = factor(head, z, self._scale(head, z), ways[head.tensor])
        return found

    def _nothing(self, said: Said) -> dict[str, Floats]:
        return {name: np.zeros_like(z) for name, z in said.items()}

    def _scale(self, head: Head, z: Floats) -> float:
        if head.kind == "values":
            norm = self._norms[head.tensor]
            return 1 / norm if norm > 0 else 0.0
        positions = z[0].size if z.ndim else 1
        return (z.shape[head.axis] if head.kind == "softmax" else 1) / max(positions, 1)


def _fitting(head: Head, z: Floats, labels: Array) -> Array:
    """Labels in the shape in which a loss takes them.

    Raises:
        UsageError: they can't be brought into it.
    """
    where = "--labels"
    if labels.dtype.kind in "iu":
        if not head.is_classes or labels.shape != z.shape[:1]:
            reason = f"are classes of shape {labels.shape}, and '{head.tensor}' gives no class scores"
            raise UsageError(reason, where=where, hint="give --loss, a graph from outputs and labels")
        if labels.size and int(labels.max()) >= z.shape[1]:
            raise UsageError(f"class {labels.max()} is none of {z.shape[1]}", where=where)
        return labels.astype(np.int64).reshape(-1, *[1] * (z.ndim - 2))
    if labels.dtype.kind != "f" or labels.shape != z.shape or head.kind != "values":
        reason = f"are {labels.dtype} of shape {labels.shape}, and '{head.tensor}' has shape {z.shape}"
        raise UsageError(reason, where=where, hint="give --loss, a graph from outputs and labels")
    return labels.astype(np.float64)


def _drawn(z: Floats, digests: NDArray[np.uint64], draw: int, head: int) -> Floats:
    """Signs of each sample, drawn by its content: neither batches nor the order of samples change them."""
    if not z.ndim or len(z) != len(digests):
        rng = np.random.default_rng([int(d) for d in digests] + [draw, head])
        return np.asarray(2.0 * rng.integers(0, 2, z.shape) - 1, np.float64)
    rows = [np.random.default_rng([int(d), draw, head]).integers(0, 2, z.shape[1:]) for d in digests]
    return np.asarray(2.0 * np.stack(rows) - 1, np.float64)
