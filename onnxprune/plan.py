"""Plans: a selection of units, written in terms of weights, so that it can be read, edited and replayed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .graph import Graph
from .types import Analysis, Mask, Member, Place, Plan, PlannedGroup, PlannedTensor

VERSION = 1
SCHEMA = "https://onnxprune.dev/schemas/plan-1.json"


def make_plan(graph: Graph, analysis: Analysis, kept: Mask, options: Mapping[str, Any]) -> Plan:
    """Write down which indices of which weights stay.

    Args:
        graph: the graph that was analysed.
        analysis: its analysis.
        kept: (analysis.count,), whether each unit stays.
        options: how the choice was made; kept as it is.
    """
    groups = []
    for group in analysis.groups:
        stays = kept[group.units]
        if stays.all():
            continue
        tensors = [
            PlannedTensor(m.constant, m.view, p.axes, tuple(np.flatnonzero(kept[p.units.ravel()]).tolist()))
            for m in analysis.members
            for p in m.places
            if np.isin(p.units, group.units).any()
        ]
        unique = tuple(sorted(set(tensors), key=lambda t: (t.name, t.axes)))
        groups.append(PlannedGroup(group.name, group.size, int(stays.sum()), unique, group.approximate))
    return Plan(graph.fingerprint(), tuple(groups), dict(options))


def fit(plan: Plan, graph: Graph, analysis: Analysis) -> Mask:
    """The units that a plan keeps, on its graph or on one with the same weights' names and shapes.

    Raises:
        InputError: it does not fit; the message names the first difference.
    """
    places = _places(analysis)
    kept = np.ones(analysis.count, bool)
    seen = np.zeros(analysis.count, bool)
    free = analysis.group_of >= 0
    for group in plan.groups:
        for tensor in group.tensors:
            where = f"plan, tensor '{tensor.name}'"
            if tensor.name not in graph.constants:
                raise InputError("the model has no such weight", where=where)
            found = places.get((tensor.name, tensor.view, tensor.axes))
            if found is None:
                shape = graph.shape_of_constant(tensor.name)
                axes = f"{list(tensor.axes)} of {list(tensor.view)}"
                reason = f"its axes {axes} hold no channels here (shape {list(shape)})"
                raise InputError(reason, where=where)
            units = found.units.ravel()
            if any(not 0 <= i < units.size for i in tensor.kept):
                raise InputError(f"keeps an index outside 0..{units.size - 1}", where=where)
            stays = np.zeros(units.size, bool)
            stays[list(tensor.kept)] = True
            gone = units[~stays]
            if not free[gone].all():
                index = int(np.flatnonzero(~stays)[np.flatnonzero(~free[gone])[0]])
                raise InputError(
                    f"index {index} can't be removed", where=where, hint="see 'onnxprune inspect'"
                )
            if (seen[units] & (kept[units] != stays)).any():
                index = int(np.flatnonzero(seen[units] & (kept[units] != stays))[0])
                raise InputError(
                    f"index {index} is coupled with one that another tensor of the plan treats otherwise",
                    where=where,
                )
            kept[units], seen[units] = stays, True
    return kept


def _places(analysis: Analysis) -> dict[tuple[str, tuple[int, ...], tuple[int, ...]], Place]:
    def key(m: Member, p: Place) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        return m.constant, m.view, p.axes

    return {key(m, p): p for m in reversed(analysis.members) for p in m.places}


def dumps(plan: Plan) -> str:
    """The plan as JSON (see `schemas/plan.schema.json`)."""
    data = {"$schema": SCHEMA, "version": VERSION, **asdict(plan)}
    return json.dumps(data, indent=1, sort_keys=False) + "\n"


def loads(text: str, where: str = "plan") -> Plan:
    """Read a plan.

    Raises:
        InputError: it is not JSON, or not a plan of this version.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InputError(f"is not JSON ({error})", where=where) from None
    try:
        if data["version"] != VERSION:
            raise InputError(f"is a plan of version {data['version']}, not {VERSION}", where=where)
        groups = tuple(
            PlannedGroup(
                str(g["name"]),
                int(g["size"]),
                int(g["kept"]),
                tuple(
                    PlannedTensor(
                        str(t["name"]),
                        tuple(int(n) for n in t["view"]),
                        tuple(int(a) for a in t["axes"]),
                        tuple(sorted({int(i) for i in t["kept"]})),
                    )
                    for t in g["tensors"]
                ),
                bool(g.get("approximate", False)),
            )
            for g in data["groups"]
        )
        return Plan(str(data["fingerprint"]), groups, dict(data.get("options", {})))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"is not a plan: {type(error).__name__} at {error}", where=where) from None


def read(path: Path) -> Plan:
    """Read a plan from a file.

    Raises:
        InputError: there is no such file, or it is not a plan.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise InputError(f"can't be read ({reason})", where=str(path)) from None
    return loads(text, str(path))
