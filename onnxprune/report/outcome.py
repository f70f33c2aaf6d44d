"""The report of a run, as data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..contracts.groups import Choice, Group
from ..contracts.plan import Plan
from ..contracts.reduction import Space
from ..contracts.verdict import Verdict
from ..contracts.weights import Fate, Weight
from ..graph import Graph, Shape
from .entries import VERSION, cause_entry, name_of, nodes_of, weight_entry

_FATES: Sequence[Fate] = ("pruned", "coupled", "whole", "blocked")
"""Of a weight that several spaces know, the first of these is reported."""


@dataclass(frozen=True, eq=False)
class Reduced:
    """What a phase has removed.

    Attributes:
        spaces: its units.
        choice: which of them stayed.
    """

    spaces: tuple[Space, ...]
    choice: Choice

    def cut(self, space: Space) -> frozenset[str]:
        """Ids of the groups of a space that have lost something."""
        return frozenset(group.id for group in space.groups if self.choice.cuts(group))


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """A report of nothing but the verdict."""
    data = {
        "before": asdict(verdict.before),
        "after": asdict(verdict.after),
        "surgery_error": verdict.surgery_error,
        "exact": verdict.exact,
        "proofs": [
            {
                "tensors": proof.compared.tensors,
                "error": proof.compared.error,
                "excess": proof.compared.excess,
                "groups": len(proof.covered),
                "approximate": list(proof.approximate),
            }
            for proof in verdict.proofs
        ],
        "drift": _data(verdict.drift),
        "accuracy": None if verdict.accuracy is None else [asdict(one) for one in verdict.accuracy],
        "drop": _data(verdict.drop),
        "speed": _data(verdict.speed),
        "omitted": [asdict(one) for one in verdict.omitted],
        "warnings": list(verdict.warnings),
    }
    return {"version": VERSION, "verdict": data}


def _data(thing: Any) -> dict[str, Any] | None:
    return None if thing is None else asdict(thing)


def report(plan: Plan, verdict: Verdict, phases: Sequence[Reduced], pruned: Graph) -> dict[str, Any]:
    """All of a run, for JSON: the verdict, how it was made, groups, what is blocked, every weight.

    See `schemas/report.schema.json`.

    Args:
        plan: what was decided.
        verdict: what is known of the result.
        phases: what was taken out.
        pruned: the result.
    """
    known = [(space, phase) for phase in phases for space in phase.spaces]
    return {
        **verdict_data(verdict),
        "options": dict(plan.options),
        "groups": [
            {
                "name": g.name,
                "kind": g.kind,
                "size": g.size,
                "kept": int(phase.choice.of(g).sum()),
                "nodes": list(nodes_of(space.network.graph, g)),
                "approximate": g.approximate,
            }
            for space, phase in known
            for g in space.groups
        ],
        "blocked": [
            {
                "node": name_of(space.network.graph.nodes[b.node]),
                "channels": b.channels,
                **cause_entry(space.network.graph, b.cause),
            }
            for space, _ in known
            for b in space.blocked
        ],
        "weights": list(_weights(known, pruned)),
    }


def _weights(known: Sequence[tuple[Space, Reduced]], pruned: Graph) -> Iterable[dict[str, Any]]:
    fates: dict[str, Fate] = {}
    for space, phase in known:
        cut = phase.cut(space)
        for weight in space.weights:
            found = (weight.fate(cut), fates.get(weight.name, "blocked"))
            fates[weight.name] = min(found, key=_FATES.index)
    listed: set[str] = set()
    for space, _ in known:
        graph = space.network.graph
        groups: Mapping[str, Group] = {group.id: group for group in space.groups}
        for weight in space.weights:
            if weight.name not in listed:
                listed.add(weight.name)
                yield {
                    **asdict(weight_entry(graph, groups, weight)),
                    "state": fates[weight.name],
                    "pruned_shape": shape_after(graph, weight, pruned),
                }


def shape_after(graph: Graph, weight: Weight, pruned: Graph) -> Shape | None:
    """The shape of a weight in the pruned graph: of its narrowest copy, where readers have their own.

    It is found at the same nodes, or by its name; `None` where it is gone.
    """
    names, pruned = {weight.name}, pruned.flat
    for node, i in graph.readers[weight.name]:
        new = pruned.producer.get(node.outputs[0])
        names |= {new.inputs[i]} if new is not None and 0 <= i < len(new.inputs) else set()
    shapes = [pruned.shape_of_constant(name) for name in names if name in pruned.constants]
    return min(shapes, key=math.prod, default=None)
