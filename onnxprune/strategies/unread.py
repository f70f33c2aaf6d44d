"""Channels that no kernel reads any more: removing them loses nothing."""

from __future__ import annotations

import numpy as np

from ..contracts.groups import Choice, Group
from ..contracts.reduction import ChannelUnits, Space
from ..contracts.selection import keep_best
from ..types import Mask


def without_unread(kernels: Space, choice: Choice, space: ChannelUnits) -> Choice:
    """A choice of kernels, and with it the channels that are left to be read.

    Args:
        kernels: the units that the choice is about.
        choice: which kernels stay.
        space: the channels of the same network.
    """
    for group in space.groups:
        stays = _read(kernels, choice, space, group)
        if stays is not None:
            choice = choice.with_group(group, stays)
    return choice


def _read(kernels: Space, choice: Choice, space: ChannelUnits, group: Group) -> Mask | None:
    """Which units of a group some kernel still reads; `None` where others read them, or rows get uneven."""
    by_output = {one.layers[0]: one for one in kernels.groups}
    left = space.summing(group)
    read = np.zeros(group.size, bool)
    for consumer in space.consumers:
        own = by_output.get(consumer.output)
        units = space.local(group, consumer)
        if own is None or not (units >= 0).any():
            continue
        kept = choice.of(own).reshape(own.runs, -1).any(axis=0)
        read[units[(units >= 0) & kept]] = True
        left -= {consumer.output}
    if left or read.all() or not read.any():
        return None
    stays = keep_best(group, read.astype(np.float64), int(read.sum()))
    return stays | read if (stays >= read).all() else None
