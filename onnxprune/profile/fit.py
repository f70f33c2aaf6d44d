"""From times at several widths to what a time follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..cost.rate import Rate

Bound = Literal["compute", "memory", "fixed"]

_FOLLOWS = 0.85
"""A layer is bound by computing if its time falls with at least this power of its MACs: with half of them it
then runs at 0.9 or more of the ideal 2x."""


@dataclass(frozen=True)
class Point:
    """A layer at one width.

    Attributes:
        macs: multiply-accumulates.
        traffic: bytes that pass in and out.
        seconds: what it takes.
        width: channels that it makes; `None` where none of them can go.
    """

    macs: int
    traffic: int
    seconds: float
    width: int | None = None


def fitted(nodes: tuple[int, ...], points: Sequence[Point]) -> Rate:
    """The line through some points that never falls and is closest in relative terms.

    Args:
        nodes: of the layer.
        points: the layer as it is first, then at other widths, if it has any.
    """
    from scipy.optimize import nnls

    used = [p for p in points if p.seconds > 0]
    if not used:
        return Rate(nodes, 0.0, 0.0, 0.0)
    now = used[0]
    scale = np.array([1.0, max(now.macs, 1), max(now.traffic, 1)])
    if len({(p.macs, p.traffic) for p in used}) < 3:
        # Too few points for a fit: all of it is put down to the larger part of the work.
        whole = (0.0, 1.0, 0.0) if now.macs else (0.0, 0.0, 1.0)
        return Rate(nodes, *(now.seconds * w / s for w, s in zip(whole, scale, strict=True)))
    rows = np.array([[1.0, p.macs, p.traffic] for p in used]) / scale
    seconds = np.array([p.seconds for p in used])
    parts, _ = nnls(rows / seconds[:, None], np.ones(len(used)))
    fixed, per_mac, per_byte = (float(part) for part in parts / scale)
    return Rate(nodes, fixed, per_mac, per_byte)


def follows(now: Point, narrow: Point) -> float | None:
    """The power of its MACs that the time falls with: 1 where half of the MACs take half of the time.

    `None` where the MACs don't change.
    """
    if not 0 < narrow.macs < now.macs or not now.seconds or not narrow.seconds:
        return None
    return math.log(narrow.seconds / now.seconds) / math.log(narrow.macs / now.macs)


def bound(now: Point, narrow: Point) -> Bound:
    """What limits a layer: computing, moving data (time doesn't follow MACs), or nothing that goes."""
    if narrow.macs == now.macs and narrow.traffic == now.traffic:
        return "fixed"
    power = follows(now, narrow)
    return "memory" if power is None or power < _FOLLOWS else "compute"
