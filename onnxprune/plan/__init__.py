"""Plans: what was decided, as a file to read, edit and replay.

In: a `Plan` (see `contracts.plan`). Out: JSON by `schemas/plan.schema.json`, and back; older versions are
still read.

What a reduction writes into a plan, and how it finds that on another graph, is `Space.write` and
`Space.read` in its own subpackage. A new field is an attribute in `contracts.plan` with a default, and an
entry in the schema; the version changes if old readers would misread the file.
"""

from __future__ import annotations

from .files import SCHEMA, VERSION, dumps, loads, read, schema

__all__ = ["SCHEMA", "VERSION", "dumps", "loads", "read", "schema"]
