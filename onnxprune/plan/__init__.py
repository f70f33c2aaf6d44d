"""Plans: what was decided, as a file to read, edit and replay.

In: a `Plan` (see `contracts.plan`). Out: JSON, and back. What a reduction writes into a plan, and how it
reads that on another graph, is said in its own room.
"""

from __future__ import annotations

from .files import SCHEMA, VERSION, dumps, loads, read, schema

__all__ = ["SCHEMA", "VERSION", "dumps", "loads", "read", "schema"]
