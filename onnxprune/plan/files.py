"""Plans as JSON files.

Version 1 is still read: it held the groups of one removal of channels, and nothing else.
"""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

import msgspec

from ..contracts.plan import Plan, PlannedGroup, PlannedPhase, PlannedReduction
from ..errors import InputError
from ..graph import parsed
from ..graph import text as text_of

VERSION = 2

SCHEMA = f"urn:onnxprune:plan:{VERSION}"


class _First(msgspec.Struct, frozen=True):
    """A plan of version 1."""

    fingerprint: str
    groups: tuple[PlannedGroup, ...]
    options: dict[str, Any] = msgspec.field(default_factory=dict)

    def plan(self) -> Plan:
        """The same as a plan of today."""
        channels = PlannedReduction("channels", self.groups)
        return Plan(self.fingerprint, (PlannedPhase((channels,)),), (), self.options)


def dumps(plan: Plan) -> str:
    """The plan as JSON (see `schemas/plan.schema.json`).

    Example:
        >>> plan = Plan(fingerprint="0d3b", options={"ratio": 0.5})
        >>> loads(dumps(plan)) == plan
        True
    """
    data = {"$schema": SCHEMA, "version": VERSION, **msgspec.to_builtins(plan)}
    return json.dumps(data, indent=1) + "\n"


def loads(text: str | bytes, where: str = "plan") -> Plan:
    """Read a plan.

    Raises:
        InputError: it is not JSON, or not a plan of a known version.

    Example:
        >>> loads('{"version": 2, "fingerprint": "0d3b"}').phases
        ()
    """
    data = parsed(text, where)
    version = data.get("version", VERSION) if isinstance(data, dict) else VERSION
    if version not in (1, VERSION):
        raise InputError(f"is a plan of version {version}, not 1 to {VERSION}", where=where)
    try:
        if version == 1:
            return msgspec.convert(data, _First).plan()
        return msgspec.convert(data, Plan)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        raise InputError(f"is not a plan: {error}", where=where) from None


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
