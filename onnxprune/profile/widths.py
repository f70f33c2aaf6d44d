"""At which widths to measure, and which multiple the kernels prefer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Choice, Group
from ..contracts.selection import keep_best
from ..cost.rate import fitting

SHARES = (0.75, 0.5, 0.25)
"""Of the channels, for all groups alike."""

MIXED = 4
"""How many further variants give every group a share of its own, so that inputs and outputs come apart."""

MULTIPLES = (1, 2, 4, 8, 16)
"""Candidates for what widths should be a multiple of."""

_TOLERATED = 1.05  # what a step off a multiple may cost, per multiply-accumulate


def variants(groups: Sequence[Group], multiple: int) -> Iterator[Choice]:
    """Ways to narrow the whole graph, half of the channels first.

    Args:
        groups: of the graph.
        multiple: widths are a multiple of this where a group has enough channels.
    """
    random = np.random.default_rng(0)
    alike = [[share] * len(groups) for share in sorted(SHARES, key=lambda s: abs(s - 0.5))]
    mixed = [list(random.choice((1.0, *SHARES), len(groups))) for _ in range(MIXED)]
    for shares in alike + mixed:
        keep = [rounded(g.size * s, g.size, multiple) for g, s in zip(groups, shares, strict=True)]
        yield _kept(groups, keep)


def rounded(width: float, size: int, multiple: int) -> int:
    """The nearest multiple, of one small enough to leave a group of `size` some choice."""
    unit = fitting(multiple, size)
    return min(size, max(unit, round(width / unit) * unit))


def offsets(groups: Sequence[Group]) -> Iterator[tuple[int, Choice]]:
    """Variants to find the multiple with: (offset, units that stay); offset 0, on a high multiple, is first.

    Every group that is wide enough is put at a multiple of 32 (or 16) near its half, plus the offset.
    """
    for offset in (0, *MULTIPLES):
        keep = []
        for group in groups:
            base = max(32, group.size // 2 // 32 * 32) if group.size >= 48 else 16
            keep.append(min(base + offset, group.size))
        yield offset, _kept(groups, keep)


def _kept(groups: Sequence[Group], keep: Sequence[int]) -> Choice:
    return Choice({g.id: keep_best(g, np.zeros(g.size), n) for g, n in zip(groups, keep, strict=True)})


@dataclass(frozen=True)
class Offset:
    """A layer that is a few channels wider than a high multiple.

    Attributes:
        weight: of the layer, its seconds as it is.
        per_mac: seconds for each multiply-accumulate, by offset; offset 0 is the high multiple itself.
    """

    weight: float
    per_mac: Mapping[int, float]


def preferred_multiple(layers: Sequence[Offset]) -> int:
    """The smallest multiple from which on every step is as fast, per multiply-accumulate, as a high one.

    1 where nothing was measured.
    """
    best = MULTIPLES[-1]
    if not layers:
        return 1
    for multiple in reversed(MULTIPLES):
        known = [(x.weight, x.per_mac[multiple] / x.per_mac[0]) for x in layers if multiple in x.per_mac]
        if known and sum(w * p for w, p in known) > _TOLERATED * sum(w for w, _ in known):
            break
        best = multiple
    return best
