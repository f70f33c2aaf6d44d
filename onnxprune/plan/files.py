"""Plans as JSON files."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..contracts.plan import Plan, PlannedGroup, PlannedTensor
from ..errors import InputError
from ..graph import parsed
from ..graph import text as text_of

VERSION = 1


SCHEMA = "urn:onnxprune:plan:1"


def dumps(plan: Plan) -> str:
    """The plan as JSON (see `schemas/plan.schema.json`)."""
    data = {"$schema": SCHEMA, "version": VERSION, **asdict(plan)}
    return json.dumps(data, indent=1, sort_keys=False) + "\n"


def loads(text: str, where: str = "plan") -> Plan:
    """Read a plan.

    Raises:
        InputError: it is not JSON, or not a plan of this version.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    data = parsed(text, where)
    version = data.get("version", VERSION) if isinstance(data, dict) else VERSION
    if version != VERSION:
        raise InputError(f"is a plan of version {version}, not {VERSION}", where=where)
    wrong = best_match(Draft202012Validator(schema()).iter_errors(data))
    if wrong is not None:
        raise InputError(f"is not a plan: at {wrong.json_path}: {wrong.message}", where=where)
    groups = tuple(
        PlannedGroup(
            g["name"],
            int(g["size"]),
            int(g["kept"]),
            tuple(
                PlannedTensor(
                    t["name"], _ints(t["view"]), _ints(t["axes"]), tuple(sorted(set(_ints(t["kept"]))))
                )
                for t in g["tensors"]
            ),
            g.get("approximate", False),
        )
        for g in data["groups"]
    )
    return Plan(data["fingerprint"], groups, data.get("options", {}))


def _ints(numbers: Iterable[float]) -> tuple[int, ...]:
    """Numbers that JSON may write as `3.0`."""
    return tuple(map(int, numbers))


def schema() -> dict[str, Any]:
    """The JSON schema of plans."""
    file = importlib.resources.files("onnxprune") / "schemas" / "plan.schema.json"
    return dict(json.loads(file.read_text("utf-8")))


def read(path: Path) -> Plan:
    """Read a plan from a file.

    Raises:
        InputError: there is no such file, or it is not a plan.
    """
    return loads(text_of(path), str(path))
