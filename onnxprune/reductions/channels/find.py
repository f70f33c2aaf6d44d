"""Which channels can be removed together: from the record of a walk to groups of units.

After the walk, edges make units (connected components). What is left to decide is what becomes of a
grid of which an operator needs whole rows, such as attention heads: either each row is one unit, or rows
stay and each is made equally narrower.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from ...contracts.choices import Granularity
from ...contracts.effect import Member, Place
from ...contracts.groups import Blocked, Lanes
from ...contracts.selection import keep_best
from ...errors import Infeasible
from ...graph import Facts, Graph
from ...ops import RULES
from ...ops.causes import NOTHING, causes, jointly
from ...ops.label import Ids, distinct
from ...ops.op import Rule
from ...ops.record import Cover, Frozen, Inconsistent, Record, Selection
from ...ops.walk import Walk
from ...types import Cause, Mask, Units
from .analysis import Analysis, ChannelGroup, Reader
from .components import components

SHARES = (0.5, 0.25, 0.75)
"""What rehearsals keep of every group; one does where no shuffle can change the order of what stays."""
_ROWS = "its rows must stay equally wide"
_ALONE = "all its channels go together, and none would be left"
MIN_HEADS = 4
"""With fewer heads than this, half of them is too coarse a choice: heads become narrower instead."""


def analyze(
    graph: Graph,
    facts: Facts,
    *,
    granularity: Granularity = "auto",
    approximate: bool = False,
    states: Mapping[str, str] = MappingProxyType({}),
    rules: Mapping[str, Rule] = RULES,
) -> Analysis:
    """Find all removable units, by a walk and a rehearsal.

    The rehearsal removes units at random and walks again: a place where what is left would not fit
    together is frozen, with the reason. So a gap in a rule costs channels, never a wrong result.

    Args:
        graph: the graph.
        facts: its shapes and values.
        granularity: what may go of attention: whole heads, or width within every head.
        approximate: channels may go that a normalisation runs over; their groups are marked.
        states: inputs of the graph -> outputs that the caller feeds back into them: both may become narrower.
        rules: operator -> rule.

    Raises:
        Infeasible: no consistent set of units was found (a rule is broken).
    """
    record = Walk(graph, facts, rules, approximate=approximate, states=states).run()
    refused: list[Frozen] = []
    for _ in range(200):
        resolution = _Resolution(graph, record, granularity, refused)
        analysis = replace(resolution.analysis(), approximate=approximate, states=states)
        trouble = _rehearse(graph, facts, rules, analysis, SHARES if record.cut else SHARES[:1])
        if trouble is None:
            return analysis
        ids = trouble.ids
        units = np.unique(analysis.unit[ids])
        group_of = analysis.group_of
        if not (group_of[units] >= 0).any():
            units = np.concatenate([g.units for g in analysis.groups])
        together = np.flatnonzero(np.isin(analysis.unit, units))
        refused.append(Frozen(together, trouble.node.index, trouble.reason))
    raise Infeasible("no consistent set of channels was found", where=graph.where)


def _rehearse(
    graph: Graph, facts: Facts, rules: Mapping[str, Rule], analysis: Analysis, shares: Sequence[float]
) -> Inconsistent | None:
    """What goes wrong when random units go, if anything does."""
    if not analysis.groups:
        return None
    random = np.random.default_rng(0)
    for share in shares:
        kept = np.ones(analysis.count, bool)
        for group in analysis.groups:
            kept[group.units] = keep_best(group, random.random(group.size), int(share * group.size))
        try:
            chosen = selection(analysis, kept)
            Walk(graph, facts, rules, chosen, approximate=analysis.approximate, states=analysis.states).run()
        except Inconsistent as trouble:
            return trouble
    return None


def selection(analysis: Analysis, kept: Mask) -> Selection:
    """What a rewriting walk needs to know. `kept`: (units,), whether each stays."""
    return Selection(kept[analysis.unit], analysis.unit)


class _Resolution:
    """One pass from a record to an analysis."""

    def __init__(
        self, graph: Graph, record: Record, granularity: Granularity, refused: Sequence[Frozen]
    ) -> None:
        self.graph = graph
        self.record = record
        self.granularity = granularity
        self.reasons = [*record.frozen, *refused]
        edges = record.edges
        hard = self._components(edges)
        frozen = self._frozen(hard, [f.ids for f in self.reasons])
        rows, narrow = self._decide(hard, frozen)
        self.unit = self._components([*edges, *rows])
        self.count = int(self.unit.max(initial=-1)) + 1
        self.frozen = self._frozen(self.unit, [f.ids for f in self.reasons] + narrow)
        self.causes, self.cause_of = causes(self.unit, self.reasons)
        self._narrow = narrow
        self.grids = self._grids()

    def _components(self, edges: Sequence[tuple[Ids, Ids]]) -> Units:
        if not edges:
            return np.arange(self.record.size, dtype=np.int64)
        a, b = (np.concatenate(side) for side in zip(*edges, strict=True))
        return components(self.record.size, a, b)

    def _frozen(self, unit: Units, ids: Sequence[Ids]) -> Mask:
        frozen = np.zeros(int(unit.max(initial=-1)) + 1, bool)
        for some in ids:
            frozen[unit[some]] = True
        return frozen

    # ------------------------------------------------------------ rows of grids

    def _decide(self, unit: Units, frozen: Mask) -> tuple[list[tuple[Ids, Ids]], list[Ids]]:
        """For each family of linked grids: rows as units (edges), or rows that stay (frozen ids)."""
        covers = self.record.covers
        if not covers:
            return [], []
        family = self._families(unit, frozen)
        whole, width = [_options(c, True, unit) for c in covers], [_options(c, False, unit) for c in covers]
        outcomes = [self._outcome(option) for option in (whole, width)]
        edges: list[tuple[Ids, Ids]] = []
        narrow: list[Ids] = []
        made = distinct(np.concatenate([np.zeros(0, np.int64), *(p.ids for p in self.record.produced)]))
        for index in np.unique(family):
            mine = np.flatnonzero(family == index)
            touched = np.concatenate([unit[np.r_[covers[k].ids, covers[k].members.ravel()]] for k in mine])
            channels = made[np.isin(unit[made], touched)]
            chosen = whole if self._prefers_rows([covers[k] for k in mine], channels, outcomes) else width
            for k in mine:
                joined, stays = chosen[k]
                edges += joined
                narrow += stays
        return edges, narrow

    def _families(self, unit: Units, frozen: Mask) -> Units:
        covers = self.record.covers
        touched = [distinct(unit[np.r_[c.ids, c.members.ravel()]]) for c in covers]
        touched = [t[~frozen[t]] for t in touched]
        rows = np.repeat(np.arange(len(covers)), [len(t) for t in touched])
        columns = np.concatenate(touched) if touched else rows
        size = len(covers) + len(frozen)
        return components(size, rows, columns + len(covers))[: len(covers)]

    def _outcome(self, options: Sequence[tuple[list[tuple[Ids, Ids]], list[Ids]]]) -> tuple[Units, Mask]:
        unit = self._components([*self.record.edges, *(e for joined, _ in options for e in joined)])
        ids = [f.ids for f in self.reasons] + [s for _, stays in options for s in stays]
        return unit, self._frozen(unit, ids)

    def _prefers_rows(
        self, covers: Sequence[Cover], made: Ids, outcomes: Sequence[tuple[Units, Mask]]
    ) -> bool:
        """`made`: the channels that depend on the choice."""
        members = distinct(np.concatenate([c.members.ravel() for c in covers]))
        counts = [len(distinct(unit[members][~frozen[unit[members]]])) for unit, frozen in outcomes]
        if {self.graph.nodes[c.node].op for c in covers} <= {"Conv", "ConvTranspose"}:
            free = [int((~frozen[unit[made]]).sum()) for unit, frozen in outcomes]
            return free[0] > free[1]
        if self.granularity == "head":
            return counts[0] >= 2
        if self.granularity == "width":
            return counts[1] < 2
        return counts[0] >= MIN_HEADS or counts[1] < 2

    def _grids(self) -> list[Lanes]:
        """The grids whose rows must stay equally wide; blocked units must be as many in each row."""
        lanes: list[tuple[int, Units, Lanes | None]] = []
        for node, ids in [*self.record.grids, *self.record.cut]:
            lanes += [(node, *found) for found in _lanes(self.unit[ids])]
        changed = True
        while changed:
            changed = False
            for node, units, found in lanes:
                blocked = self.frozen[units]
                if blocked.any() and not blocked.all() and found is not None and self._free(found) is None:
                    self._uneven(node, units[blocked], units[~blocked])
                    changed = True
        free = [self._free(found) for _, _, found in lanes if found is not None]
        return [found for found in free if found is not None and found.rows[0].size]

    def _uneven(self, node: int, blocked: Units, others: Units) -> None:
        """Rows of a grid hold different numbers of blocked units: the others stay as long as these do."""
        self.frozen[others] = True
        hints = [self.causes[k].unblock for k in distinct(self.cause_of[blocked]) if k >= 0] or [NOTHING]
        self._stay(others, Cause(node, _ROWS, jointly(hints)))

    def _stay(self, units: Units, cause: Cause) -> None:
        self.cause_of[units] = len(self.causes)
        self.causes.append(cause)

    def _free(self, lanes: Lanes) -> Lanes | None:
        """Without blocked units; `None` where rows hold different numbers of them."""
        rows = tuple(row[~self.frozen[row]] for row in lanes.rows)
        blocked = [
            (len(row) - len(free)) * times
            for row, free, times in zip(lanes.rows, rows, lanes.multiplicity, strict=True)
        ]
        return Lanes(rows, lanes.multiplicity) if len(set(blocked)) == 1 else None

    # ------------------------------------------------------------ results

    def analysis(self) -> Analysis:
        """Groups and places in terms of units."""
        groups = self._groups()
        blocked = self._blocked(groups)
        return Analysis(
            unit=self.unit,
            count=self.count,
            groups=groups,
            members=tuple(
                Member(
                    c.name, c.use, c.untied, c.view, tuple(Place(b.axes, self.unit[b.old]) for b in c.label)
                )
                for c in self.record.constants.values()
            ),
            readers=tuple(
                Reader(m.node, m.input, m.shape, Place(m.axes, self.unit[m.ids]), m.zero)
                for m in self.record.masks
            ),
            tensors={
                name: tuple(Place(b.axes, self.unit[b.old]) for b in label)
                for name, label in self.record.labels.items()
            },
            blocked=blocked,
            causes=tuple(self.causes),
            cause_of=self.cause_of,
        )

    def _groups(self) -> tuple[ChannelGroup, ...]:
        produced = [(p.node, distinct(self.unit[p.ids])) for p in self.record.produced]
        produced = [(node, units[~self.frozen[units]]) for node, units in produced]
        produced = [(node, units) for node, units in produced if units.size]
        if not produced:
            return ()
        sets = [units for _, units in produced]
        sets += [distinct(np.concatenate(g.rows)) for g in self.grids]
        first = np.concatenate([np.full(len(s), s[0]) for s in sets])
        group = components(self.count, first, np.concatenate(sets))
        nodes: dict[int, list[int]] = {}
        units: dict[int, list[Units]] = {}
        for index, some in produced:
            nodes.setdefault(int(group[some[0]]), []).append(index)
            units.setdefault(int(group[some[0]]), []).append(some)
        lanes: dict[int, list[Lanes]] = {}
        for grid in self.grids:
            lanes.setdefault(int(group[grid.rows[0][0]]), []).append(grid)
        floors = self._floors(group)
        normalised = np.zeros(self.count, bool)
        for ids in self.record.normalised:
            normalised[self.unit[ids]] = True
        result = []
        for key, made in nodes.items():
            members = distinct(
                np.concatenate([*units[key], *(r for g in lanes.get(key, []) for r in g.rows)])
            )
            if members.size > 1:
                node = self.graph.nodes[min(made)]
                name = node.name or node.outputs[0]
                own = tuple(
                    f for f in floors.get(key, []) if np.isin(f, members).all() and f.size < members.size
                )
                free = _independent(lanes.get(key, []))
                loose = bool(normalised[members].any())
                nodes_of = tuple(sorted(set(made)))
                span = self._span(nodes_of, members)
                result.append(
                    ChannelGroup(
                        id=self._address(nodes_of[0], members),
                        name=name,
                        kind="head" if span > 1 else "channel",
                        size=members.size,
                        layers=tuple(self.graph.nodes[k].outputs[0] for k in nodes_of),
                        lanes=tuple(_within(members, lanes) for lanes in free),
                        floors=tuple(np.searchsorted(members, f) for f in own),
                        approximate=loose,
                        span=span,
                        units=members,
                        nodes=nodes_of,
                    )
                )
        return _numbered(sorted(result, key=lambda g: g.nodes))

    def _address(self, node: int, members: Units) -> str:
        """The tensor and the axis of it that a node makes some units on."""
        outputs = [name for name in self.graph.nodes[node].outputs if name]
        for name in outputs:
            for block in self.record.labels.get(name, ()):
                if np.isin(self.unit[block.old], members).any():
                    return f"{name}[{','.join(map(str, block.axes))}]"
        return outputs[0]

    def _span(self, nodes: Sequence[int], members: Units) -> int:
        """How many channels each unit stands for, on all axes of some nodes' outputs that have any."""
        found = 0
        for name in (o for n in nodes for o in self.graph.nodes[n].outputs):
            for block in self.record.labels.get(name, ()):
                units = self.unit[block.old]
                times = np.unique(units[np.isin(units, members)], return_counts=True)[1]
                found = math.gcd(found, *times.tolist())
        return max(found, 1)

    def _floors(self, group: Units) -> dict[int, list[Units]]:
        """Sets of units that make up a whole axis somewhere."""
        labels = [*self.record.labels.values(), *(c.label for c in self.record.constants.values())]
        axes = {id(block.old): block.old for label in labels for block in label}
        seen: dict[bytes, tuple[int, Units]] = {}
        for ids in axes.values():
            units = distinct(self.unit[ids])
            if units.size and not self.frozen[units].any() and (group[units] == group[units[0]]).all():
                seen.setdefault(units.tobytes(), (int(group[units[0]]), units))
        result: dict[int, list[Units]] = {}
        for key, units in seen.values():
            result.setdefault(key, []).append(units)
        return result

    def _blocked(self, groups: Sequence[ChannelGroup]) -> tuple[Blocked, ...]:
        """What stays of the channels that each node makes; a lone one is no loss."""
        free = np.zeros(self.count, bool)
        for group in groups:
            free[group.units] = True
        result = []
        for made in self.record.produced:
            units = self.unit[made.ids]
            blocked = units[~free[units]]
            if blocked.size and (units.size > 1 or self.frozen[units].any()):
                silent = blocked[self.cause_of[blocked] < 0]
                if silent.size:
                    reason = _ROWS if self.frozen[silent].any() else _ALONE
                    self._stay(silent, Cause(made.node, reason, NOTHING))
                found, times = np.unique(self.cause_of[blocked], return_counts=True)
                cause = self.causes[found[times.argmax()]]
                result.append(Blocked(made.node, int(blocked.size), cause))
        return tuple(result)


def _numbered(groups: Sequence[ChannelGroup]) -> tuple[ChannelGroup, ...]:
    """The same groups, with ids that differ: those of one axis are counted."""
    seen: Counter[str] = Counter()
    result = []
    for group in groups:
        seen[group.id] += 1
        number = seen[group.id]
        result.append(group if number == 1 else replace(group, id=f"{group.id}#{number}"))
    return tuple(result)


def _within(members: Units, lanes: Lanes) -> Lanes:
    """The same lanes in terms of a group's own units."""
    return Lanes(tuple(np.searchsorted(members, row) for row in lanes.rows), lanes.multiplicity)


def _independent(grids: Sequence[Lanes]) -> tuple[Lanes, ...]:
    """Without those whose rows are made up of equally many rows of another one."""
    distinct = list({tuple(r.tobytes() for r in g.rows): g for g in grids}.values())
    return tuple(g for g in distinct if not any(_implied(g, other) for other in distinct if other is not g))


def _implied(coarse: Lanes, fine: Lanes) -> bool:
    if len(fine.rows) <= len(coarse.rows) or len({*coarse.multiplicity, *fine.multiplicity}) > 1:
        return False
    home = {int(u): k for k, row in enumerate(fine.rows) for u in row}
    parts = []
    for row in coarse.rows:
        found = {home.get(int(u), -1) for u in row}
        if -1 in found or sum(len(fine.rows[k]) for k in found) != len(row):
            return False
        parts.append(len(found))
    return len(set(parts)) == 1


def _options(cover: Cover, rows: bool, unit: Units) -> tuple[list[tuple[Ids, Ids]], list[Ids]]:
    """A cover either makes its rows one unit each (edges), or keeps them all (frozen ids)."""
    if cover.leading != rows:
        members = unit[cover.members]
        whole = (members == members[:, :1]).all(axis=1)
        return [], [cover.ids, cover.members[whole].ravel()]
    ids = np.broadcast_to(cover.ids[:, None], cover.members.shape)
    return [(ids.ravel(), cover.members.ravel())], []


def _lanes(units: Units) -> list[tuple[Units, Lanes | None]]:
    """The constraint that a grid of units stay rectangular, if it does not follow by itself."""
    rows = units.reshape(-1, units.shape[-1])
    if (rows == rows[:1]).all():
        return []
    if (rows == rows[:, :1]).all():
        inner = rows[:, 0].reshape(units.shape[:-1])
        return _lanes(inner) if inner.ndim > 1 else []
    counted: dict[bytes, tuple[Units, int]] = {}
    for row in {row.tobytes(): row for row in rows}.values():
        members, times = np.unique(row, return_counts=True)
        if (times != times[0]).any():
            return [(distinct(units), None)]
        counted.setdefault(members.tobytes(), (members, int(times[0])))
    found = Lanes(tuple(m for m, _ in counted.values()), tuple(t for _, t in counted.values()))
    return [(distinct(units), found)]
