"""Gated graphs: inputs that scale one unit of a group wherever it is read."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph

UNIT = "onnxprune.gate.unit"
"""The input that says which unit, int64 ()."""

GATES = {dtype: f"onnxprune.gate.{dtype}" for dtype in ("float16", "float32", "float64")}
"""The inputs with its factor, in each dtype."""


@dataclass(frozen=True, eq=False)
class Gated:
    """A graph in which a unit is multiplied by a factor wherever it is summed over together with others.

    Attributes:
        graph: the graph, with `UNIT` and `GATES` as further inputs.
        start: index of the first node that reads the group.
        coarse: name of a node that reads it as numbers too coarse for slopes, and their dtype, if one does.
    """

    graph: Graph
    start: int
    coarse: tuple[str, str] | None = None
