"""What a pruned graph will cost, without rewriting it.

Every shape in a graph follows from how many units stay, so the cost of a node is its operator's own formula
on new shapes. When one group changes, only the nodes that see it are counted again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..contracts.effect import Effect, Member, Place
from ..contracts.groups import Choice, Group
from ..graph import Facts, Graph, Node
from ..ops import MACS
from ..ops.op import MacsRule
from ..types import Mask, Shape, Units
from .macs import products

Part = tuple[Callable[[Sequence[Shape]], int], Sequence[Shape], Sequence[Sequence[Place]]]
"""What adds to a cost: a formula of shapes, these shapes, and the places of units in each of them."""

_NOT_WEIGHTS = (np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.bool_))


@dataclass(frozen=True)
class _Width:
    """The length of an axis as units go: of a plain one, or of one side of a grid."""

    units: Units
    side: int

    def __call__(self, kept: Mask) -> int:
        stays = kept[self.units]
        for _ in range(self.side):  # a grid closes up: rows that are gone drop out, those that stay are alike
            if not stays.any():
                return 0
            stays = stays[int(stays.reshape(len(stays), -1).any(axis=1).argmax())]
        return int(stays.reshape(len(stays), -1).any(axis=1).sum())


@dataclass(frozen=True)
class _Term:
    """A number that depends on widths: `formula` of shapes, in which some lengths are replaced.

    Attributes:
        formula: cost from shapes.
        shapes: as they are.
        widths: (which shape, which axis, index of a width).
    """

    formula: Callable[[Sequence[Shape]], int]
    shapes: tuple[Shape, ...]
    widths: tuple[tuple[int, int, int], ...]

    def __call__(self, lengths: Sequence[int]) -> int:
        shapes = [list(s) for s in self.shapes]
        for k, axis, width in self.widths:
            shapes[k][axis] = lengths[width]
        return self.formula([tuple(s) for s in shapes])


class Cost:
    """A cost of the graph as a function of the units that stay.

    Args:
        effect: how shapes follow from units.
        terms: what adds up.
        constant: what doesn't change.
    """

    def __init__(self, effect: Effect, terms: Sequence[Part], constant: int = 0) -> None:
        self._effect = effect
        group_of = effect.group_of
        self._widths: list[_Width] = []
        self._terms: list[_Term] = []
        self._constant = constant
        known: dict[tuple[bytes, Shape, int], int] = {}
        touched: list[dict[str, list[int]]] = [{"widths": [], "terms": []} for _ in effect.groups]
        for formula, shapes, places in terms:
            replaced, groups = [], set()
            for k, some in enumerate(places):
                for place in some:
                    mine = {int(g) for g in np.unique(group_of[place.units]) if g >= 0}
                    if not mine:
                        continue
                    groups |= mine
                    for side, axis in enumerate(place.axes):
                        key = (place.units.tobytes(), place.units.shape, side)
                        if key not in known:
                            known[key] = len(self._widths)
                            self._widths.append(_Width(place.units, side))
                            for g in mine:
                                touched[g]["widths"].append(known[key])
                        replaced.append((k, axis, known[key]))
            if not replaced:
                self._constant += formula(shapes)
                continue
            for g in groups:
                touched[g]["terms"].append(len(self._terms))
            self._terms.append(_Term(formula, tuple(shapes), tuple(replaced)))
        self._touched = touched
        self.total = self(Choice())
        """Of the graph as it is."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups that it depends on."""
        return self._effect.groups

    def held(self, choice: Choice) -> list[int]:
        """For each group, how much would go with all that is left of it."""
        state = self.state(choice)
        return [-state.change(k, np.zeros(group.size, bool)) for k, group in enumerate(self.groups)]

    def __call__(self, choice: Choice) -> int:
        """The cost with these units."""
        return self.at(self.lengths(self._effect.kept(choice)))

    def at(self, lengths: Sequence[int]) -> int:
        """The cost with these widths."""
        return self._constant + sum(t(lengths) for t in self._terms)

    def state(self, choice: Choice) -> State:
        """The cost with these units, ready for changes of one group at a time."""
        return State(self, self._effect.kept(choice))

    def units(self, group: int) -> Units:
        """The numbers of a group's units."""
        return self._effect.units[group]

    def seen_by(self, group: int) -> tuple[Sequence[int], Sequence[int]]:
        """Which widths and which terms depend on a group."""
        return self._touched[group]["widths"], self._touched[group]["terms"]

    def neighbours(self, group: int) -> set[int]:
        """The groups whose savings depend on how wide this one is, itself among them."""
        mine = set(self.seen_by(group)[1])
        return {g for g, t in enumerate(self._touched) if g == group or mine & set(t["terms"])}

    def lengths(self, kept: Mask) -> list[int]:
        """Every width; `kept`: bool, of all units."""
        return [w(kept) for w in self._widths]

    def width(self, index: int, kept: Mask) -> int:
        """One width."""
        return self._widths[index](kept)

    def term(self, index: int, lengths: Sequence[int]) -> int:
        """One term."""
        return self._terms[index](lengths)


class State:
    """A cost while groups change one by one; `value` is the cost now."""

    def __init__(self, cost: Cost, kept: Mask) -> None:
        self._cost = cost
        self.kept = kept.copy()
        self._lengths = cost.lengths(kept)
        self.value = cost.at(self._lengths)

    def change(self, group: int, stays: Mask) -> int:
        """By how much the cost would change if of the units of a group `stays` stayed."""
        return self._evaluate(group, stays)[0]

    def apply(self, group: int, stays: Mask) -> None:
        """Make the change."""
        change, self._lengths = self._evaluate(group, stays)
        self.kept[self._cost.units(group)] = stays
        self.value += change

    def _evaluate(self, group: int, stays: Mask) -> tuple[int, list[int]]:
        widths, terms = self._cost.seen_by(group)
        units = self._cost.units(group)
        before = self.kept[units]
        self.kept[units] = stays
        lengths = self._lengths.copy()
        for index in widths:
            lengths[index] = self._cost.width(index, self.kept)
        self.kept[units] = before
        return sum(self._cost.term(t, lengths) - self._cost.term(t, self._lengths) for t in terms), lengths


@dataclass(frozen=True)
class _NodeMacs:
    """The multiply-accumulates of a node, from the views that its shapes are counted in."""

    rule: MacsRule
    node: Node
    shapes: tuple[Shape | None, ...]
    views: tuple[Shape, ...]

    def __call__(self, new: Sequence[Shape]) -> int:
        pairs = zip(self.shapes, self.views, new, strict=True)
        folded = [None if s is None else _folded(s, v, n) for s, v, n in pairs]
        inputs = len(self.node.inputs)
        return products(self.rule, self.node, folded[:inputs], folded[inputs:]) or 0


@dataclass(frozen=True)
class _Copies:
    """The values of a constant: a reader that needs a part of it gets a copy, those that need all share it.

    Attributes:
        views: the shape that each member is counted in.
        others: how many readers need all of it in any case.
    """

    views: tuple[Shape, ...]
    others: int

    def __call__(self, new: Sequence[Shape]) -> int:
        sizes = [math.prod(n) for n, view in zip(new, self.views, strict=True) if n != view]
        if len(sizes) < len(self.views) or self.others:
            sizes.append(math.prod(self.views[0]))
        return sum(s for s in sizes if s > 1)


def macs_model(graph: Graph, facts: Facts, effect: Effect) -> Cost:
    """Multiply-accumulates for the batch that `facts` assumes, as `cost.macs` counts them once it is cut."""
    return Cost(effect, list(macs_parts(graph, facts, effect).values()))


def macs_parts(graph: Graph, facts: Facts, effect: Effect) -> dict[int, Part]:
    """The multiply-accumulates of every node that has any, by node index."""
    finer = {m.constant: m for m in effect.members}
    parts: dict[int, Part] = {}
    for node in graph.nodes:
        rule = MACS.get(node.op)
        if rule is None:
            continue
        names = [*node.inputs, *node.outputs]
        shapes = tuple(facts.shapes.get(n) if n else () for n in names)
        members = [finer.get(n) for n in names]
        views = tuple(m.view if m else s or () for m, s in zip(members, shapes, strict=True))
        places = [
            m.places if m else effect.tensors.get(n, ()) if s is not None else ()
            for m, n, s in zip(members, names, shapes, strict=True)
        ]
        parts[node.index] = (_NodeMacs(rule, node, shapes, views), views, places)
    return parts


def parameters_model(graph: Graph, effect: Effect) -> Cost:
    """Values in weights, as `Graph.parameters` counts them in the cut graph."""
    members: dict[str, list[Member]] = {}
    for member in effect.members:
        if graph.dtype(member.constant) not in _NOT_WEIGHTS and math.prod(member.view) > 1:
            members.setdefault(member.constant, []).append(member)
    rest = graph.parameters()
    terms: list[Part] = []
    for name, uses in members.items():
        views = tuple(m.view for m in uses)
        own = [m for m in uses if m.use is not None or m.untied is not None]
        others = len(graph.readers[name]) - len(own) if own else 0
        terms.append((_Copies(views, others), views, [m.places for m in uses]))
        rest -= math.prod(views[0])
    return Cost(effect, terms, rest)


def _folded(shape: Shape, view: Shape, lengths: Shape) -> Shape:
    """The new shape of a tensor from new lengths of a view that splits one of its axes in two."""
    if len(view) == len(shape):
        return lengths
    split = next(a for a in range(len(shape)) if (*view[:a], view[a] * view[a + 1], *view[a + 2 :]) == shape)
    return (*lengths[:split], lengths[split] * lengths[split + 1], *lengths[split + 2 :])
