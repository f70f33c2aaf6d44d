"""Groups that must stay after all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..types import Analysis, Blocked, Cause, Group, Mask


def blocked(analysis: Analysis, units: Mask, why: Callable[[int], Cause]) -> Analysis:
    """The analysis without the groups that hold any of these units.

    Args:
        analysis: what could go.
        units: bool (analysis.count,).
        why: for the index of a node that makes them, why its channels stay.
    """
    groups: list[Group] = []
    stuck, causes = list(analysis.blocked), dict(analysis.causes)
    for group in analysis.groups:
        if not units[group.units].any():
            groups.append(group)
            continue
        for node in group.nodes:
            stuck.append(Blocked(node, group.size, why(node)))
            causes.update(dict.fromkeys(group.units.tolist(), why(node)))
    return replace(analysis, groups=tuple(groups), blocked=tuple(stuck), causes=causes)
