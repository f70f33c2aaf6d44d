"""Sizes of symbolic dimensions: what weights and other nodes demand, before anything is guessed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .core import Graph, Shape
from .demands import Demand, unmet
from .propagation import Propagation

Places = Mapping[str, tuple[str, int, int]]
"""Symbol -> (input that it is of first, its rank, the axis)."""

_LARGEST = 1 << 17
"""No size is looked for beyond."""

_ROUNDS = 64
"""So often sizes change, or are given up."""

_ATTEMPTS = 12
"""So many demands that can't be met are looked into."""


@dataclass
class SizeFit:
    """Sizes that fit together as far as could be found.

    Attributes:
        dims: a size for each symbolic dimension.
        found: what follows from them.
        exact: symbols that can have no other size, as long as the others have theirs.
        loose: symbols for which 1 would do as well.
    """

    dims: dict[str, int]
    found: Propagation
    exact: set[str] = field(default_factory=set)
    loose: set[str] = field(default_factory=set)

    @property
    def solved(self) -> set[str]:
        """Symbols that are no guess."""
        return self.exact | self.loose


def fitted(graph: Graph, dims: Mapping[str, int], free: Collection[str], places: Places) -> SizeFit:
    """Change sizes that are guesses, one after the other, so that what nodes demand is so.

    Args:
        graph: the graph.
        dims: a size for each symbolic dimension.
        free: those that may change.
        places: of all symbolic dimensions.
    """
    fit = SizeFit(dict(dims), Propagation(graph, dims))
    given_up: set[Demand] = set()
    for _ in range(_ROUNDS):
        left = [symbol for symbol in free if symbol not in fit.solved]
        demands = _first(graph, fit.found, given_up) if left and len(given_up) < _ATTEMPTS else []
        if not demands:
            break
        solutions = [(d, s) for d in demands if (s := _solution(graph, fit, left, places, d)) is not None]
        if not solutions:
            given_up.update(demands)
            continue
        # Two inputs of another batch fit together if either changes: the batch stays.
        demand, chosen = min(solutions, key=lambda some: any(places[s][2] == 0 for s in some[1]))
        fit.dims |= chosen
        fit.found = Propagation(graph, fit.dims)
        if not demand.least:
            (fit.exact if demand.exact else fit.loose).update(chosen)
    return fit


def _first(graph: Graph, found: Propagation, given_up: Collection[Demand]) -> list[Demand]:
    """What the first node demands that demands what is not so."""
    for node in graph.nodes:
        demands = [d for d in unmet(node, found.shapes, found.values) if d not in given_up]
        if demands:
            return demands
    return []


def _unmet(graph: Graph, found: Propagation, end: int | None = None) -> Iterator[Demand]:
    """What the nodes before `end` demand, and is not so."""
    for node in graph.nodes[:end]:
        yield from unmet(node, found.shapes, found.values)


def _solution(
    graph: Graph, fit: SizeFit, free: Sequence[str], places: Places, demand: Demand
) -> dict[str, int] | None:
    """New sizes of some symbols with which a demand is met, and those before it are met as before."""
    only = _ancestors(graph, demand.tensor)

    def measured(sizes: Mapping[str, int]) -> int | None:
        shape = Propagation(graph, {**fit.dims, **sizes}, only).shapes.get(demand.tensor)
        return _measure(shape, demand.axis)

    now, end = measured({}), demand.node + 1
    before = set(_unmet(graph, fit.found, end)) - {demand}
    moving = [s for s in free if measured({s: 2 * fit.dims[s] + 1}) not in (now, None)]
    one = {s: 1 for s in moving if places[s][2] == 0}
    groups = _groups(moving, places)
    for group, rest in [*((g, {}) for g in groups), *((g, one) for g in groups if one)]:

        def together(size: int, group: Sequence[str] = group, rest: Mapping[str, int] = rest) -> int:
            return measured({**rest, **dict.fromkeys(group, size)}) or 0

        size = _enough(together, demand.size) if demand.least else None
        size = size or _solved(together, demand.size, fit.dims[group[0]])
        if size is None:
            continue
        chosen = {**rest, **dict.fromkeys(group, size)}
        again = Propagation(graph, {**fit.dims, **chosen}, range(demand.node))
        if set(_unmet(graph, again, end)) <= before:
            return chosen
    return None


def _groups(symbols: Sequence[str], places: Places) -> list[tuple[str, ...]]:
    """What may change together: height and width of an image alike, then each alone, the batch last."""
    spatial: dict[str, list[str]] = {}
    for symbol in symbols:
        name, rank, axis = places[symbol]
        if rank >= 4 and axis >= 2:
            spatial.setdefault(name, []).append(symbol)
    joint = [tuple(some) for some in spatial.values() if len(some) > 1]
    alone = sorted(symbols, key=lambda symbol: places[symbol][2] == 0)
    return [*joint, *((symbol,) for symbol in alone)]


def _measure(shape: Shape | None, axis: int | None) -> int | None:
    if shape is None or (axis is not None and axis >= len(shape)):
        return None
    return math.prod(shape) if axis is None else shape[axis]


def _solved(measured: Callable[[int], int], wanted: int, guess: int) -> int | None:
    """The size for which something that grows with it is as wanted: the roundest, if there are several."""
    low = _least(measured, wanted)
    if low is None or measured(low) != wanted:
        return None
    high = (_least(measured, wanted + 1, low) or _LARGEST) - 1
    return guess if low <= guess <= high else _roundest(low, high)


def _enough(measured: Callable[[int], int], least: int) -> int | None:
    """A power of two for which it is at least as large."""
    low = _least(measured, least)
    return None if low is None else 1 << (low - 1).bit_length()


def _least(measured: Callable[[int], int], wanted: int, low: int = 1) -> int | None:
    """The least size from `low` on for which it is at least as wanted."""
    high = low
    while measured(high) < wanted:
        low, high = high + 1, 2 * high
        if high > _LARGEST:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if measured(middle) >= wanted else (middle + 1, high)
    return low


def _roundest(low: int, high: int) -> int:
    """The number from `low` to `high` that the largest power of two divides."""
    step = 1 << (high.bit_length() - 1)
    while high // step * step < low:
        step //= 2
    return high // step * step


def _ancestors(graph: Graph, tensor: str) -> set[int]:
    """Indices of the nodes that a tensor is computed by."""
    found: set[int] = set()
    wanted = [tensor]
    while wanted:
        node = graph.producer.get(wanted.pop())
        if node is not None and node.index not in found:
            found.add(node.index)
            wanted += [*node.inputs, *node.captured]
    return found
