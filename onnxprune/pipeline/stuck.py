"""Groups that must stay after all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..contracts.analysis import Analysis, ChannelGroup
from ..contracts.groups import Blocked
from ..types import Cause, Mask


def blocked(analysis: Analysis, units: Mask, why: Callable[[int], Cause]) -> Analysis:
    """The analysis without the groups that hold any of these units.

    Args:
        analysis: what could go.
        units: bool (analysis.count,).
        why: for the index of a node that makes them, why its channels stay.
    """
    groups: list[ChannelGroup] = []
    stuck, causes, cause_of = list(analysis.blocked), list(analysis.causes), analysis.cause_of.copy()
    for group in analysis.groups:
        if not units[group.units].any():
            groups.append(group)
            continue
        stuck += [Blocked(node, group.size, why(node)) for node in group.nodes]
        cause_of[group.units] = len(causes)
        causes.append(why(group.nodes[0]))
    return replace(
        analysis, groups=tuple(groups), blocked=tuple(stuck), causes=tuple(causes), cause_of=cause_of
    )
