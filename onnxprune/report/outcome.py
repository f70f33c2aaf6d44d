"""What was done to a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..contracts.analysis import Analysis
from ..contracts.plan import Plan
from ..contracts.verdict import Verdict
from ..graph import Graph
from ..reductions.channels.weights import narrowed, shape_after, weights
from ..types import Mask
from .entries import VERSION, cause_entry, name_of, weight_entry


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
                "nodes": [name_of(graph.nodes[n]) for n in g.nodes],
                "approximate": g.approximate,
            }
            for g in analysis.groups
        ],
        "blocked": [
            {
                "node": name_of(graph.nodes[b.node]),
                "channels": b.channels,
                **cause_entry(graph, b.cause),
            }
            for b in analysis.blocked
        ],
        "weights": [
            {
                **asdict(weight_entry(graph, analysis, weight)),
                "state": weight.fate(lost),
                "pruned_shape": shape_after(graph, weight, pruned),
            }
            for weight in weights(graph, analysis)
        ],
    }
