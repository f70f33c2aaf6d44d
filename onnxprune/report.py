"""What a model holds and what was done to it: as data for JSON, and as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from rich.console import Group as Renderables
from rich.table import Table
from rich.text import Text

from .graph import Facts, Graph, Node, infer, one_sample
from .ops import MACS
from .ops.cost import macs as count_macs
from .types import Analysis, Cause, Mask, Plan, Size, Verdict
from .weights import Weight, narrowed, shape_after, weights

VERSION = 1
"""Of the JSON that `inspect --json`, `prune --report` and `validate --json` write."""


@dataclass(frozen=True)
class Layer:
    """A node that multiplies.

    Attributes:
        name: of the node.
        op: its operator.
        shape: of its weight, or of its output where it has none.
        macs: multiply-accumulates; `None` where shapes are not known.
        params: values in its constants.
        group: of its output channels, if they can be removed.
        coupled: other nodes whose channels go with its own.
        blocked: channels that can't go.
        by: the node in the way, if any channel is blocked.
        reason: why.
        unblock: what would let them go; "nothing", where nothing does.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int | None
    params: int
    group: str | None
    coupled: tuple[str, ...]
    blocked: int
    by: str | None
    reason: str | None
    unblock: str | None


@dataclass(frozen=True)
class GroupSummary:
    """A group, and how many parameters would go with all of it."""

    name: str
    units: int
    nodes: tuple[str, ...]
    params: int
    approximate: bool


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
        by: the node in the way of the rest, or of all of it.
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


@dataclass(frozen=True)
class Inspection:
    """A model as pruning sees it; MACs are counted for the sizes `dims` of symbolic dimensions."""

    path: str
    opset: int
    nodes: int
    dims: Mapping[str, int]
    size: Size
    layers: tuple[Layer, ...]
    groups: tuple[GroupSummary, ...]
    weights: tuple[WeightSummary, ...]

    def data(self) -> dict[str, Any]:
        """For JSON (see `schemas/inspect.schema.json`)."""
        return {"version": VERSION, **asdict(self)}


def inspection(
    graph: Graph, facts: Facts, analysis: Analysis, dims: Mapping[str, int] = MappingProxyType({})
) -> Inspection:
    """Describe every layer that multiplies, its group, and what blocks it.

    Args:
        graph: the graph.
        facts: its shapes.
        analysis: its groups.
        dims: sizes of symbolic dimensions to count MACs for; others get one sample and a guess.
    """
    counted = infer(graph, {**one_sample(graph), **dims})
    costs = count_macs(graph, counted)
    groups = {node: group for group in analysis.groups for node in group.nodes}
    blocked = {b.node: b for b in analysis.blocked}
    layers = []
    for node in graph.nodes:
        if node.op not in MACS and node.index not in groups and node.index not in blocked:
            continue
        group, stuck = groups.get(node.index), blocked.get(node.index)
        read = [i for i in node.inputs if i in graph.constants]
        shape = graph.shape_of_constant(read[0]) if read else (facts.shapes.get(node.outputs[0]) or ())
        layers.append(
            Layer(
                name=_name(node),
                op=node.op,
                shape=shape,
                macs=costs.get(node.index),
                params=sum(graph.count(i) for i in read),
                group=group.name if group else None,
                coupled=tuple(_name(graph.nodes[n]) for n in group.nodes if n != node.index) if group else (),
                blocked=stuck.channels if stuck else 0,
                **_cause(graph, stuck.cause if stuck else None),
            )
        )
    size = Size(graph.parameters(), sum(costs.values()), graph.size())
    summaries = tuple(
        GroupSummary(
            g.name,
            g.size,
            tuple(_name(graph.nodes[n]) for n in g.nodes),
            _params(analysis, g.units),
            g.approximate,
        )
        for g in analysis.groups
    )
    listed = tuple(_weight(graph, analysis, weight) for weight in weights(graph, analysis))
    return Inspection(
        graph.where, graph.opset(), len(graph.nodes), counted.dims, size, tuple(layers), summaries, listed
    )


def _name(node: Node) -> str:
    return node.name or node.outputs[0]


def _cause(graph: Graph, cause: Cause | None) -> dict[str, str | None]:
    if cause is None:
        return dict.fromkeys(("by", "reason", "unblock"))
    by = str(graph.nodes[cause.by]) if cause.by >= 0 else "output"
    return {"by": by, "reason": cause.reason, "unblock": cause.unblock}


def _weight(graph: Graph, analysis: Analysis, weight: Weight) -> WeightSummary:
    def names(groups: Sequence[int]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(analysis.groups[k].name for k in groups))

    return WeightSummary(
        name=weight.name,
        shape=weight.shape,
        state=weight.state,
        nodes=tuple(_name(graph.nodes[n]) for n in weight.readers),
        groups=names(weight.groups),
        coupled=names(weight.coupled),
        **_cause(graph, weight.cause),
    )


def _params(analysis: Analysis, units: np.ndarray[Any, np.dtype[np.int64]]) -> int:
    """Values in weights that go if all these units go."""
    total = 0
    for member in analysis.members:
        stays = np.ones(member.view, bool)
        for place in member.places:
            mask = ~np.isin(place.units, units)
            stays &= mask.reshape([n if a in place.axes else 1 for a, n in enumerate(member.view)])
        total += stays.size - int(stays.sum())
    return total


# ---------------------------------------------------------------- for people


def count(value: float | None) -> str:
    """A number with its unit prefix: 1.23 M."""
    if value is None:
        return "?"
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g}"


def inspection_tables(found: Inspection) -> Renderables:
    """Layers, totals and the largest win."""
    table = Table(title=f"{found.path}: {found.nodes} nodes, opset {found.opset}", title_justify="left")
    for heading, justify in (
        ("layer", "left"),
        ("op", "left"),
        ("shape", "left"),
        ("MACs", "right"),
        ("params", "right"),
        ("group, or what blocks it", "left"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for layer in found.layers:
        notes = []
        if layer.group is not None:
            notes.append(layer.group + (f" (with {len(layer.coupled)} more)" if layer.coupled else ""))
        if layer.blocked:
            notes.append(f"{layer.blocked} blocked by {layer.by}: {layer.reason}")
        elif layer.group is None:
            notes.append("has no channels to remove")
        shape = "x".join(map(str, layer.shape))
        table.add_row(layer.name, layer.op, shape, count(layer.macs), count(layer.params), "; ".join(notes))
    sizes = ", ".join(f"{name}={size}" for name, size in found.dims.items())
    lines = [
        f"total: {count(found.size.params)} parameters, {count(found.size.macs)} MACs"
        f"{f' with {sizes}' if sizes else ''}, {count(found.size.bytes)}B"
    ]
    if found.groups:
        best = max(found.groups, key=lambda g: g.params)
        share = best.params / max(1, found.size.params)
        lines.append(
            f"{len(found.groups)} group{'s' if len(found.groups) > 1 else ''}; "
            f"largest win: '{best.name}' ({best.units} units) "
            f"carries {share:.0%} of the parameters"
        )
    else:
        lines.append("nothing can be pruned")
    return Renderables(table, Text("\n".join(lines)))


def plan_table(plan: Plan) -> Table:
    """What stays of every group that loses something."""
    table = Table(title="Channels kept", title_justify="left")
    table.add_column("group", overflow="fold")
    table.add_column("kept", justify="right")
    table.add_column("of", justify="right")
    if any(group.approximate for group in plan.groups):
        table.add_column("")
    for group in plan.groups:
        marks = ["approximate"] if group.approximate else []
        table.add_row(group.name, str(group.kept), str(group.size), *marks)
    return table


def verdict_table(verdict: Verdict) -> Table:
    """Before and after."""
    table = Table(title="Verdict", title_justify="left")
    for heading in ("", "before", "after", "ratio"):
        table.add_column(heading, justify="left" if not heading else "right")
    before, after = verdict.before, verdict.after
    for name, a, b in (
        ("parameters", before.params, after.params),
        ("MACs", before.macs, after.macs),
        ("bytes", before.bytes, after.bytes),
    ):
        table.add_row(name, count(a), count(b), f"{b / a:.3f}" if a else "")
    if verdict.accuracy is not None:
        old, new = verdict.accuracy
        change = f"{100 * (new.value - old.value):+.2f} points"
        table.add_row(f"accuracy on {new.total}", f"{old.value:.2%}", f"{new.value:.2%}", change)
    if verdict.drop is not None:
        d = verdict.drop
        interval = "" if d.low is None or d.high is None else f" [{-100 * d.high:.2f}, {-100 * d.low:.2f}]"
        told = f"{d.metric} on {d.samples} held-out samples" if d.samples else f"{d.metric}, held out"
        table.add_row(
            told, f"{d.before:.2%}", f"{d.before - d.value:.2%}", f"{-100 * d.value:+.2f} points{interval}"
        )
    if verdict.speed is not None:
        s = verdict.speed
        table.add_row(
            "latency",
            f"{s.before * 1e3:.3g} ms",
            f"{s.after * 1e3:.3g} ms",
            f"{s.ratio:.3f} [{s.low:.3f}, {s.high:.3f}]",
        )
    if verdict.surgery_error is not None:
        table.add_row(
            "surgery error", "", f"{verdict.surgery_error:.1e}", "exact" if verdict.exact else "approximate"
        )
    if verdict.drift is not None:
        for name, value in verdict.drift.relative.items():
            agree = verdict.drift.top1.get(name)
            table.add_row(
                f"drift of '{name}' on {verdict.drift.samples}",
                "",
                f"{value:.4f}",
                f"top-1 agrees {agree:.2%}" if agree is not None else "",
            )
    return table


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """A report of nothing but the verdict."""
    return {"version": VERSION, "verdict": asdict(verdict)}


def report(
    plan: Plan, verdict: Verdict, graph: Graph, analysis: Analysis, kept: Mask, pruned: Graph
) -> dict[str, Any]:
    """All of a run, for JSON: the verdict, how it was made, groups, what is blocked, every weight.

    See `schemas/report.schema.json`.

    Args:
        plan: what was decided.
        verdict: what is known of the result.
        graph: what surgery started from.
        analysis: its groups.
        kept: (analysis.count,), whether each unit stayed.
        pruned: the result.
    """
    lost = narrowed(analysis, kept)
    return {
        **verdict_data(verdict),
        "options": dict(plan.options),
        "groups": [
            {
                "name": g.name,
                "size": g.size,
                "kept": int(kept[g.units].sum()),
                "nodes": [_name(graph.nodes[n]) for n in g.nodes],
                "approximate": g.approximate,
            }
            for g in analysis.groups
        ],
        "blocked": [
            {
                "node": _name(graph.nodes[b.node]),
                "channels": b.channels,
                **_cause(graph, b.cause),
            }
            for b in analysis.blocked
        ],
        "weights": [
            {
                **asdict(_weight(graph, analysis, weight)),
                "state": weight.fate(lost),
                "pruned_shape": shape_after(graph, weight, pruned),
            }
            for weight in weights(graph, analysis)
        ],
    }
