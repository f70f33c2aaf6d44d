"""The widths a group may take: rungs, each with the units that stay and what is lost."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from ..contracts.groups import Group
from ..contracts.selection import keep_best, step
from ..types import Floats, Mask

_LEAST = 1e-9

_BROKEN = 1e3
"""The loss of a network that gives NaN; where nothing is left, losses are near 1."""

RUNGS = 64
"""At most this many for each group: finer steps change no decision and cost time."""


def relative_loss(scores: Floats) -> Floats:
    """The loss with each number of units gone: (n + 1,), what is gone against what is left.

    With sums of scores alone, emptying a group would cost no more than its last unit's score. The ratio of
    what is gone to what is left is a noise-to-signal ratio: equal to the sum while little is gone, and
    unbounded as nothing is left.

    Example:
        >>> relative_loss(np.array([0.5, 0.25, 0.25])).round(2).tolist()
        [0.0, 0.33, 1.0, 1000000.0]
    """
    gone = np.concatenate([[0.0], np.cumsum(np.sort(np.asarray(scores, np.float64)))])
    left = np.maximum(1 - gone / gone[-1], 1e-6) if gone[-1] > 0 else np.ones(len(gone))
    return gone / left


class Ladder:
    """Rungs of one group: 0 is whole, each further one keeps less.

    Args:
        group: the group.
        scores: (group.size,), the higher the later it goes.
        curve: (group.size + 1,), the loss with that many units gone; by default see `relative_loss`.
        round_to: keep multiples of this.
        min_channels: keep at least this many.
        rungs: at most this many.
    """

    def __init__(
        self,
        group: Group,
        scores: Floats,
        curve: Floats | None = None,
        *,
        round_to: int = 1,
        min_channels: int = 1,
        rungs: int = RUNGS,
    ) -> None:
        self.group = group
        self._scores = scores
        self._curve = relative_loss(scores) if curve is None else np.asarray(curve, np.float64)
        spacing = round_to
        if round_to == 1 and group.lanes:
            spacing = step(group)
        spacing *= max(1, math.ceil(group.size / spacing / rungs))
        least = math.ceil(max(min_channels, 1) / spacing) * spacing
        counts = range((group.size - 1) // spacing * spacing, least - 1, -spacing)
        self.counts: tuple[int, ...] = (group.size, *counts)
        """How many units each rung was asked to keep; lanes may make it fewer."""
        self._least = max(min_channels, 1)
        self._stays = lru_cache(maxsize=None)(self._choose)

    def __len__(self) -> int:
        return len(self.counts)

    def stays(self, rung: int) -> Mask:
        """(group.size,), which units stay."""
        return self._stays(rung)

    def _choose(self, rung: int) -> Mask:
        stays = keep_best(self.group, self._scores, self.counts[rung])
        stays.flags.writeable = False
        return stays

    @property
    def scores(self) -> Floats:
        """(group.size,), the higher the later a unit goes."""
        return self._scores

    @property
    def curve(self) -> Floats:
        """(group.size + 1,), the loss with that many units gone."""
        return self._curve

    def bent(self, curve: Floats) -> Ladder:
        """The same rungs with another curve; which units stay on each is not chosen again."""
        other = copy.copy(self)
        other._curve = np.asarray(curve, np.float64)
        return other

    def extended(self) -> Ladder:
        """The same with more rungs at its end, each of half the width of the one before."""
        least = max(self._least, step(self.group))
        counts = list(self.counts)
        while counts[-1] // 2 >= least:
            counts.append(counts[-1] // 2)
        other = copy.copy(self)
        other.counts = tuple(counts)
        other._stays = lru_cache(maxsize=None)(other._choose)
        return other

    def loss(self, rung: int) -> float:
        """What is lost."""
        return float(self._curve[self.group.size - self.counts[rung]])

    def prices(self) -> Floats:
        """(rungs - 1,), what each further rung loses, evened out so that it never falls.

        A cheap rung behind an expensive one can only be taken together with it, so both count at their mean:
        the lower convex hull of the losses.
        """
        counts = np.asarray(self.counts, np.float64)
        losses = np.asarray([self.loss(r) for r in range(len(self))])
        hull: list[int] = []
        for r in range(len(self)):
            while len(hull) > 1 and _turns_down(counts, losses, hull[-2], hull[-1], r):
                hull.pop()
            hull.append(r)
        even = np.interp(-counts, -counts[hull], losses[hull])
        return np.diff(even)


def _turns_down(counts: Floats, losses: Floats, a: int, b: int, c: int) -> bool:
    return bool(
        (losses[b] - losses[a]) * (counts[b] - counts[c]) > (losses[c] - losses[b]) * (counts[a] - counts[b])
    )


def corrected(ladder: Ladder, measured: Mapping[int, float]) -> Floats:
    """The curve of a ladder, bent to measured losses: (group.size + 1,), never falling.

    Between measured rungs the ratio of measured losses to losses by scores is interpolated, in
    logarithms over what is gone; beyond them it stays as it is.

    Args:
        ladder: with the curve that follows from its scores.
        measured: rung -> loss of the network's output, infinite where it is broken; at least one.
    """
    size = ladder.group.size
    at = sorted(measured, key=lambda r: -ladder.counts[r])
    gone = np.asarray([size - ladder.counts[r] for r in at], np.float64)
    lost = [measured[r] if np.isfinite(measured[r]) else _BROKEN for r in at]
    ratios = [max(loss, _LEAST) / max(ladder.loss(r), _LEAST) for r, loss in zip(at, lost, strict=True)]
    bend = np.exp(np.interp(np.arange(size + 1), gone, np.log(ratios)))
    return np.maximum.accumulate(ladder.curve * bend)
