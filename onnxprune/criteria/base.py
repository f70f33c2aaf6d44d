"""What a criterion is, and what all share: one score for each unit, out of parts that many nodes play."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ..contracts.groups import Group, Scores
from ..contracts.reduction import ChannelUnits, Filters, Key, Reading, Space, ValueUnits
from ..contracts.stats import Moments, Need, Slopes, Stats
from ..errors import UsageError
from ..graph import Graph
from ..samples import Samples
from ..types import Floats, Units


@dataclass(frozen=True, eq=False)
class Context:
    """What a criterion may look at; it changes nothing of it.

    Attributes:
        space: the units.
        stats: statistics of the network over samples; `None` without samples.
        seed: of anything random.
        samples: what `stats` was gathered on, for criteria that run the network; `None` where only statistics
            were given.
    """

    space: Space
    stats: Stats | None = None
    seed: int = 0
    samples: Samples | None = None

    @property
    def graph(self) -> Graph:
        """The graph that the units are in."""
        return self.space.network.graph

    @property
    def groups(self) -> Sequence[Group]:
        """The groups of units that compete."""
        return self.space.groups

    @property
    def channels(self) -> ChannelUnits:
        """The units, which are channels or heads.

        Raises:
            UsageError: they are others.
        """
        if not isinstance(self.space, ChannelUnits):
            hint = f"choose one that rates {self.space.reduction}: see docs/criteria.md"
            raise UsageError("this criterion rates channels", where="--criterion", hint=hint)
        return self.space


@runtime_checkable
class Criterion(Protocol):
    """Says what each unit is worth. Any object with these three can be used.

    Attributes:
        name: as the command line spells it.
        needs: the statistics that `scores` looks up; empty if weights are enough.
    """

    @property
    def name(self) -> str:
        """As the command line spells it."""

    @property
    def needs(self) -> frozenset[Need]:
        """The statistics that `scores` looks up."""

    def scores(self, context: Context) -> Scores:
        """For each group float64 (group.size,), finite: the larger, the later the unit goes.

        Layers can be compared: scores are relative to the mean of the layer, or to the energy of what its
        consumers compute.
        """


def combined(group: Group, parts: Iterable[tuple[Units, Floats]]) -> Floats:
    """One score for each unit of a group: its mean over the nodes that have a part in it.

    Every node's values are first divided by their mean, so that a layer of large weights doesn't outvote one
    of small weights, and scores of different groups can be compared.

    Args:
        group: the group.
        parts: for each node: the units it has (distinct) and their values, not negative.

    Returns:
        float64 (group.size,).
    """
    total, votes = np.zeros(group.size), np.zeros(group.size)
    for units, values in parts:
        level = float(values.mean()) if values.size else 0.0
        total[units] += values / level if level > 0 else values
        votes[units] += 1
    return total / np.maximum(votes, 1)


def by_filter(context: Context, value: Callable[[Floats], Floats]) -> Scores:
    """Score units by the weights that make them.

    Args:
        context: where to find them.
        value: from float64 (units, d), the weights of one node with all that makes one unit in a row, to
            float64 (units,), not negative.
    """
    makers = context.channels.makers
    return tuple(
        combined(group, [(units, value(rows)) for units, rows in map(unit_rows, makers(group))])
        for group in context.groups
    )


def by_value(context: Context, space: ValueUnits, value: Callable[[Group, Floats], Floats]) -> Scores:
    """Score units that are made of single weights: the sum over those of each unit.

    Args:
        context: where to find them.
        space: the units.
        value: from a group, and the weight of its layer (outputs, inputs of each, taps), to a number for
            each weight, not negative.
    """
    return tuple(space.summed(group, value(group, space.weight(group))) for group in context.groups)


def unit_rows(made: Filters) -> tuple[Units, Floats]:
    """Distinct units, and float64 (units, d): all weights of one unit in a row, filled up with zeros."""
    units, first = np.unique(made.units, return_inverse=True)
    order = np.argsort(first, kind="stable")
    counts = np.bincount(first)
    nth = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.zeros((len(units), int(counts.max()), made.rows.shape[1]))
    rows[first[order], nth] = made.rows[order]
    return units, rows.reshape(len(units), -1)


def by_key(
    context: Context, places: Sequence[Sequence[tuple[Key, Units]]], value: Callable[[Moments], Floats]
) -> Scores:
    """Score units by statistics of tensors.

    Args:
        context: with the statistics.
        places: for each group: tensors, and its units along their channel axis; -1 for others.
        value: from the moments of a tensor to float64 (C,), not negative. Several channels of one unit add.
    """
    result = []
    for group, tensors in zip(context.groups, places, strict=True):
        parts = []
        for key, units in tensors:
            mine = units >= 0
            distinct, index = np.unique(units[mine], return_inverse=True)
            parts.append(
                (distinct, np.bincount(index, value(moments(context, key))[mine]).astype(np.float64))
            )
        result.append(combined(group, parts))
    return tuple(result)


def moments(context: Context, key: Key) -> Moments:
    """The moments of a tensor.

    Raises:
        UsageError: there are no statistics, or they were gathered for another criterion.
    """
    if context.stats is None:
        raise UsageError("this criterion needs samples", where="--criterion", hint="give --calib, or use l1")
    return context.stats.of(key)


def felt(context: Context, group: Group) -> Slopes:
    """What a loss feels of the units of a group.

    Raises:
        UsageError: there are no samples, statistics were gathered for another criterion, or units are no
            channels.
    """
    _ = context.channels
    if context.stats is None:
        raise UsageError("this criterion needs samples", where="--criterion", hint="give --calib, or use l1")
    found = context.stats.slopes.get(group.id)
    wrong = found is not None and any(
        a is not None and len(a) != group.size for a in (found.sum, found.curvature)
    )
    if found is None or wrong:
        hint = "run 'onnxprune calibrate' with --for and this criterion"
        reason = f"the statistics have nothing on what a loss feels of '{group.name}'"
        raise UsageError(reason, where="--stats", hint=hint)
    return found


def require_samples(context: Context, count: int) -> None:
    """Refuse statistics of fewer samples than a formula makes sense for.

    Raises:
        UsageError: they are.
    """
    if context.stats is None:
        raise UsageError("this criterion needs samples", where="--criterion", hint="give --calib, or use l1")
    have = context.stats.samples
    if have < count:
        reason = f"this criterion needs {count} samples or more, there are {have}"
        raise UsageError(reason, where="--criterion", hint="give more with --calib, or use l1")


# ---------------------------------------------------------------- what consumers lose


def by_reading(context: Context, score: Callable[[int, list[Reading]], Floats]) -> Scores:
    """Score units by what their consumers lose.

    Units that no consumer reads with constant weights (width of queries and keys, say) are worth their filter
    norms, at the level of the other scores.

    Args:
        context: with the statistics.
        score: from the number of units of a group, and what is read of it, to float64 (units,).
    """
    stats = context.stats
    if stats is None:
        raise UsageError("this criterion needs samples", where="--criterion", hint="give --calib, or use l1")
    found: list[Floats | None] = []
    for group in context.groups:
        read = list(context.channels.readings(group, stats))
        found.append(score(group.size, read) if read else None)
    known = [s.mean() for s in found if s is not None]
    level = float(np.mean(known)) if known else 1.0
    norms = by_filter(context, lambda rows: np.asarray(np.linalg.norm(rows, axis=1)))
    return tuple(level * n if s is None else s for s, n in zip(found, norms, strict=True))


def by_order(order: Units, added: Floats) -> Floats:
    """Scores of units that go in this order, from what each adds to the loss; made to rise.

    Args:
        order: int64 (n,), the first to go first.
        added: float64 (n,).

    Returns:
        float64 (n,), by unit.
    """
    rising = np.maximum.accumulate(np.maximum(added, 0))
    level = float(rising[-1]) if rising.size and rising[-1] > 0 else 1.0
    scores = np.empty(len(rising))
    scores[order] = rising + np.arange(len(rising)) * (1e-12 * level)
    return scores


def interaction(units: int, read: Sequence[Reading]) -> Floats:
    """float64 (units, units), what removing two units does together to the outputs of all consumers.

    Q_ij = sum over consumers of (W_i . W_j) G_ij / energy: then the relative error of removing the set T,
    with the other weights as they are, is tᵀ Q t for its indicator t.
    """
    total = np.zeros((units, units))
    for r in read:
        inside = r.units >= 0
        energy = r.energy
        if energy > 0:
            products = (r.weight @ r.weight.T * r.second)[np.ix_(inside, inside)] / energy
            np.add.at(total, (r.units[inside][:, None], r.units[inside][None, :]), products)
    return total
