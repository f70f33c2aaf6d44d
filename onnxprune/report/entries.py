"""What inspections and reports have in common: names, causes, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..contracts.groups import Group
from ..contracts.weights import Weight
from ..graph import Graph, Node
from ..types import Cause

VERSION = 1
"""Of the JSON that `inspect --json`, `prune --report` and `validate --json` write."""


@dataclass(frozen=True)
class WeightSummary:
    """A weight, the groups it belongs to, and what blocks the rest of it.

    Attributes:
        name: of the constant.
        shape: its shape.
        state: prunable, coupled (with channels that other nodes make), or blocked.
        nodes: that compute with it.
        groups: of channels that these nodes make.
        coupled: groups whose channels go from it, too.
        by: the node that blocks the rest, or all of it.
        reason: why.
        unblock: what would let it go.
    """

    name: str
    shape: tuple[int, ...]
    state: str
    nodes: tuple[str, ...]
    groups: tuple[str, ...]
    coupled: tuple[str, ...]
    by: str | None
    reason: str | None
    unblock: str | None


def name_of(node: Node) -> str:
    """Its name, or that of its first output where it has none."""
    return node.name or node.outputs[0]


def cause_entry(graph: Graph, cause: Cause | None) -> dict[str, str | None]:
    """A cause, with its node by name."""
    if cause is None:
        return dict.fromkeys(("by", "reason", "unblock"))
    by = str(graph.nodes[cause.by]) if cause.by >= 0 else "output"
    return {"by": by, "reason": cause.reason, "unblock": cause.unblock}


def weight_entry(graph: Graph, groups: Mapping[str, Group], weight: Weight) -> WeightSummary:
    """A weight, with its nodes and groups by name; `groups`: by id."""

    def names(ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(groups[key].name for key in ids))

    return WeightSummary(
        name=weight.name,
        shape=weight.shape,
        state=weight.state,
        nodes=tuple(name_of(graph.nodes[n]) for n in weight.readers),
        groups=names(weight.groups),
        coupled=names(weight.coupled),
        **cause_entry(graph, weight.cause),
    )


def nodes_of(graph: Graph, group: Group) -> tuple[str, ...]:
    """Names of the nodes that make the units of a group."""
    return tuple(name_of(graph.producer[output]) for output in group.layers)
