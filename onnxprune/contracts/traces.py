"""Traces that are made of others."""

from __future__ import annotations

from ..graph import Array
from ..types import Mask, Units
from .reduction import Trace


class Unchanged:
    """The trace of a cut that takes nothing out."""

    changed: frozenset[str] = frozenset()
    compared: frozenset[str] = frozenset()

    def part(self, tensor: str, value: Array) -> Array:
        """See `Trace.part`."""
        del tensor
        return value

    def entries(self, tensor: str) -> tuple[int, Units] | None:
        """See `Trace.entries`."""
        del tensor
        return None

    def weight(self, output: str, index: int, value: Array) -> Array:
        """See `Trace.weight`."""
        del output, index
        return value

    def support(self, output: str, index: int) -> Mask | None:
        """See `Trace.support`."""
        del output, index
        return None


class Chained:
    """One cut, then another.

    Args:
        first: of the first cut.
        then: of the second, from what the first has left.
    """

    def __init__(self, first: Trace, then: Trace) -> None:
        self._first, self._then = first, then

    @property
    def changed(self) -> frozenset[str]:
        """See `Trace.changed`."""
        return self._first.changed | self._then.changed

    @property
    def compared(self) -> frozenset[str]:
        """See `Trace.compared`."""
        return self._first.compared | self._then.compared

    def part(self, tensor: str, value: Array) -> Array:
        """See `Trace.part`."""
        return self._then.part(tensor, self._first.part(tensor, value))

    def entries(self, tensor: str) -> tuple[int, Units] | None:
        """See `Trace.entries`."""
        first, then = self._first.entries(tensor), self._then.entries(tensor)
        if first is None or then is None:
            return first or then
        return (first[0], first[1][then[1]]) if first[0] == then[0] else None

    def weight(self, output: str, index: int, value: Array) -> Array:
        """See `Trace.weight`."""
        return self._then.weight(output, index, self._first.weight(output, index, value))

    def support(self, output: str, index: int) -> Mask | None:
        """See `Trace.support`."""
        first, then = self._first.support(output, index), self._then.support(output, index)
        if first is None:
            return then
        left = self._then.weight(output, index, first)
        return left if then is None else left & then


def chained(traces: list[Trace]) -> Trace:
    """All of these, one after the other."""
    found: Trace = Unchanged()
    for k, trace in enumerate(traces):
        found = trace if k == 0 else Chained(found, trace)
    return found
