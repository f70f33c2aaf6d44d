"""Samples with what shall be said of them, in an order that depends on nothing but a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from ..contracts.finetuning import Augment
from ..graph import Array
from ..samples import Samples
from .augment import augmented
from .referee import digest_of

Feeds = Mapping[str, Array]
Targets = Callable[[Feeds], Mapping[str, Array]]
"""What the loss is fed for a batch of inputs."""


class Deck:
    """Samples to learn from.

    Args:
        samples: the samples.
        targets: what a network shall say of a batch; `None`: only labels count.
        labels: one for each sample, and the name under which the loss is fed them.
        augment: how samples are changed.
        memory: bytes to hold.
        seed: of the order, and of changes.
    """

    def __init__(
        self,
        samples: Samples,
        targets: Targets | None,
        labels: tuple[str, Array] | None,
        *,
        augment: Sequence[Augment] = (),
        memory: float = 2e9,
        seed: int = 0,
    ) -> None:
        self._samples, self._targets, self._labels = samples, targets, labels
        self._augment, self._seed = tuple(augment), seed
        first = next(iter(samples))
        held = sum(a.nbytes for a in first.values()) * samples.count <= memory / 2
        self._held = list(samples) if held else None
        self._left = memory / 2
        self._known: dict[int, Mapping[str, Array]] = {}

    @cached_property
    def digest(self) -> str:
        """The same for the same samples and labels; of samples that are not held, for the same source."""
        labels = {} if self._labels is None else {"labels": self._labels[1]}
        if self._held is not None:
            return digest_of([*self._held, labels])
        about = f"{self._samples.source} {self._samples.indices.tolist()}"
        return digest_of([next(iter(self._samples)), labels]) + hashlib.sha256(about.encode()).hexdigest()

    @property
    def count(self) -> int:
        """How many samples there are."""
        return self._samples.count

    def batches(self, update: int, size: int) -> Iterator[tuple[dict[str, Array], int]]:
        """What an update learns from: feeds of the loss, and how many samples they are.

        Samples that can't run together come one by one. The order is drawn anew each time that all were seen.
        """
        numbers = self._numbers(update, size)
        for chunk, read in self._read(numbers):
            feeds = read
            if self._augment:
                rng = np.random.default_rng([self._seed, 1, update, chunk[0]])
                feeds = augmented(read, self._augment, rng)
            given = dict(feeds)
            if self._targets is not None:
                given |= self._said(chunk, feeds)
            if self._labels is not None:
                name, values = self._labels
                given[name] = values[chunk]
            yield given, len(chunk)

    def _numbers(self, update: int, size: int) -> list[int]:
        found: list[int] = []
        at = update * size
        while len(found) < size:
            turn, start = divmod(at + len(found), self.count)
            order = np.random.default_rng([self._seed, 0, turn]).permutation(self.count)
            found += order[start : start + size - len(found)].tolist()
        return sorted(found)

    def _read(self, numbers: Sequence[int]) -> Iterator[tuple[list[int], Feeds]]:
        """Samples, together as far as they can be."""
        if self._held is not None:
            single = [self._held[k] for k in numbers]
        else:
            unique = sorted(set(numbers))
            some = replace(self._samples, indices=self._samples.indices[unique])
            by_number = dict(zip(unique, some, strict=True))
            single = [by_number[k] for k in numbers]
        chunk: list[int] = []
        parts: list[Feeds] = []
        for number, feeds in zip(numbers, single, strict=True):
            if parts and not (self._samples.joinable and _alike(feeds, parts[-1])):
                yield chunk, _joined(parts)
                chunk, parts = [], []
            chunk.append(number)
            parts.append(feeds)
        yield chunk, _joined(parts)

    def _said(self, chunk: Sequence[int], feeds: Feeds) -> Mapping[str, Array]:
        """Targets, remembered where samples don't change and outputs can be told apart."""
        if self._targets is None:
            return {}
        if all(k in self._known for k in chunk):
            return _joined([self._known[k] for k in chunk])
        found = self._targets(feeds)
        if not self._augment and all(len(a) == len(chunk) for a in found.values() if a.ndim):
            for row, k in enumerate(chunk):
                own = {name: a[row : row + 1] for name, a in found.items()}
                size = sum(a.nbytes for a in own.values())
                if k not in self._known and size <= self._left and all(a.ndim for a in found.values()):
                    self._left -= size
                    self._known[k] = {name: a.copy() for name, a in own.items()}
        return found


def _alike(one: Feeds, other: Feeds) -> bool:
    return all(a.ndim > 0 and a.shape[1:] == other[n].shape[1:] for n, a in one.items())


def _joined(parts: Sequence[Feeds]) -> dict[str, Array]:
    if len(parts) == 1:
        return dict(parts[0])
    return {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
