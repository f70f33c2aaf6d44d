"""Latency as a cost that allocation can drive down: the time of every layer follows from its new shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..contracts.effect import Effect
from ..graph import Facts, Graph
from ..types import Shape
from .model import Cost, Part, macs_parts
from .rate import Rate, boundary, traffic

TICK = 1e-9
"""Seconds in one unit of the cost, which is a whole number so that sums don't depend on their order."""


def latency_model(graph: Graph, facts: Facts, effect: Effect, rates: Sequence[Rate]) -> Cost:
    """The time of all layers, in nanoseconds, as measured rates predict it.

    Args:
        graph: the graph.
        facts: its shapes, for the batch and sizes that the rates were measured with.
        effect: how shapes follow from units.
        rates: of all layers, by the graph's own node indices.
    """
    work = macs_parts(graph, facts, effect)
    finer = {m.constant: m for m in effect.members}
    parts: list[Part] = []
    for rate in rates:
        for index in rate.nodes:
            if rate.per_mac and index in work:
                formula, shapes, places = work[index]
                parts.append((_Scaled(formula, rate.per_mac / TICK), shapes, places))
        for name in boundary(graph, [graph.nodes[index] for index in rate.nodes]):
            values = math.prod(facts.shapes.get(name) or (0,))
            if not rate.per_byte or not values:
                continue
            member = finer.get(name)
            view = member.view if member else facts.shapes[name] or ()
            own = member.places if member else effect.tensors.get(name, ())
            per_value = rate.per_byte * traffic(graph, facts, name) / values
            parts.append((_Scaled(_values, per_value / TICK), [view], [own]))
    return Cost(effect, parts, round(sum(rate.fixed for rate in rates) / TICK))


@dataclass(frozen=True)
class _Scaled:
    """A cost times a factor."""

    formula: Callable[[Sequence[Shape]], int]
    factor: float

    def __call__(self, shapes: Sequence[Shape]) -> int:
        return round(self.formula(shapes) * self.factor)


def _values(shapes: Sequence[Shape]) -> int:
    return math.prod(shapes[0])
