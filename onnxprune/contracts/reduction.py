"""The interface of a reduction: its units, the masked reference, the cut and the trace.

A `Reduction` finds its units in a network; they are a `Space`. For any `Choice` among them the space gives
the *masked reference*, the original in which removed units read zero, and the *cut*, the network without
them. They share no code, so that the proof compares two things. A `Trace` says how tensors before and after
correspond.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from ..errors import UsageError
from ..graph import Array, Network, Shape
from ..ops.layers import LinearLayer
from ..types import Cause, Floats, Mask, Units
from .effect import Effect
from .gates import WantedGates
from .groups import Blocked, Choice, Group
from .plan import PlannedReduction
from .request import Kernel, SumKind
from .stats import Need, Stats
from .weights import Weight

Key = tuple[str, int]
"""A tensor and its channel axis: what statistics are known by."""


@dataclass(frozen=True, eq=False)
class Filters:
    """Weights of one node that make units of a group.

    Attributes:
        node: index of the node.
        rows: float64 (n, d), the weights that make each output channel.
        units: int64 (n,), the unit of each, within the group.
    """

    node: int
    rows: Floats
    units: Units


@dataclass(frozen=True, eq=False)
class Consumer:
    """A node with constant weights that sums over units.

    Attributes:
        output: its first output, by which it is found again after a cut.
        node: its index.
        op: its operator.
        input: which input holds the weight.
        weight: name of what it multiplies by; `ops.layers.storage.weights` gives the values.
        activation: the tensor it reads, in floats if it was quantised for it, and the axis it sums over.
        units: int64 (C,), along that axis, numbered through the space (see `Effect`).
        view: the shape of the weight, or a finer one of the same size.
        axes: of the view, where these units are; several for a grouped convolution.
        lanes: how many groups of channels are summed apart.
    """

    output: str
    node: int
    op: str
    input: int
    weight: str
    activation: Key
    units: Units
    view: Shape
    axes: tuple[int, ...]
    lanes: int = 1

    @property
    def kernels(self) -> Key:
        """Where the statistics of its single kernels are kept: many consumers may read one tensor."""
        return self.weight, -1

    def rows(self, weight: Array) -> Floats:
        """float64 (C, ...), what each channel is multiplied by, taps of a kernel last."""
        view = weight.astype(np.float64).reshape(self.view)
        moved = np.moveaxis(view, self.axes, range(len(self.axes)))
        return moved.reshape(-1, *moved.shape[len(self.axes) :])

    def array(self, rows: Floats, shape: Shape) -> Floats:
        """The inverse of `rows`: a weight of this shape."""
        moved = rows.reshape(*(self.view[a] for a in self.axes), *rows.shape[1:])
        return np.moveaxis(moved, range(len(self.axes)), self.axes).reshape(shape)


@dataclass(frozen=True, eq=False)
class Reading:
    """What one consumer reads of a group and computes from it.

    Attributes:
        weight: float64 (C, m), what it multiplies each channel by: all its outputs and kernel taps.
        second: float64 (C, C), E[x xᵀ] of what it reads; zero between channels of different groups of a
            grouped convolution.
        centred: the same without the means' part.
        units: int64 (C,), index of each channel within the group; -1 for channels of other groups.
        rows: how many rows are behind the moments.
    """

    weight: Floats
    second: Floats
    centred: Floats
    units: Units
    rows: int

    @property
    def energy(self) -> float:
        """E|W x|², of what the consumer computes (its kernel's taps taken as independent)."""
        return float(np.vdot(self.weight @ self.weight.T, self.second))


@dataclass(frozen=True, eq=False)
class Lost:
    """A consumer that can no longer read some of its channels.

    Attributes:
        consumer: the consumer.
        kept: bool (C,), whether each channel is left.
    """

    consumer: Consumer
    kept: Mask


@dataclass(frozen=True, eq=False)
class Sparse:
    """A linear layer of which some single weights are gone.

    Attributes:
        layer: the layer.
        activation: the tensor that it reads, and the axis that it sums over; `None` where the rank of that is
            not known.
        support: bool, in the shape of the weight: which values may be other than zero.
    """

    layer: LinearLayer
    activation: Key | None
    support: Mask


@dataclass(frozen=True, eq=False)
class Wanted:
    """Statistics that a space asks for.

    Attributes:
        kinds: tensor and channel axis -> what to gather there.
        kernels: key to keep them under -> what is read, and the kernels whose outputs' norms are wanted.
        gates: what is asked of the loss.
    """

    kinds: Mapping[Key, frozenset[SumKind]]
    kernels: Mapping[Key, tuple[Key, Kernel]] = field(default_factory=dict)
    gates: WantedGates = field(default_factory=WantedGates)

    def __bool__(self) -> bool:
        return bool(self.kinds or self.kernels or self.gates)

    def __or__(self, other: Wanted) -> Wanted:
        """What either asks for."""
        keys = [*self.kinds, *(key for key in other.kinds if key not in self.kinds)]
        nothing: frozenset[SumKind] = frozenset()
        kinds = {key: self.kinds.get(key, nothing) | other.kinds.get(key, nothing) for key in keys}
        return Wanted(kinds, {**self.kernels, **other.kernels}, self.gates | other.gates)


class Trace(Protocol):
    """How tensors and weights of a cut correspond to those before."""

    @property
    def changed(self) -> frozenset[str]:
        """Tensors whose values differ, apart from units that are gone."""

    @property
    def compared(self) -> frozenset[str]:
        """First outputs of the nodes where something is lost: what the proof looks at, besides outputs."""

    def part(self, tensor: str, value: Array) -> Array:
        """What is left of a value, in its new order."""

    def entries(self, tensor: str) -> tuple[int, Units] | None:
        """(axis, which of its entries stay, in their order) if a tensor loses some along this axis alone."""

    def weight(self, output: str, index: int, value: Array) -> Array:
        """What is left of what input `index` of the node with this first output reads, a weight."""

    def support(self, output: str, index: int) -> Mask | None:
        """Which values of a weight may be other than zero, in the shape that is left of it; `None`: all."""


class Space(Protocol):
    """The units of one reduction in one network."""

    @property
    def reduction(self) -> str:
        """The name of the reduction."""

    @property
    def network(self) -> Network:
        """Where the units are."""

    @property
    def groups(self) -> Sequence[Group]:
        """The groups of units that may be removed."""

    @property
    def blocked(self) -> Sequence[Blocked]:
        """What may not be removed, and why."""

    @property
    def weights(self) -> Sequence[Weight]:
        """The state of every weight that a node reads, in the order of the nodes."""

    @property
    def effect(self) -> Effect:
        """Where the units are, for costs."""

    def without(self, ids: Collection[str], cause: Cause) -> Space:
        """The same without these groups, which stay whole."""

    def wanted(self, needs: frozenset[Need]) -> Wanted:
        """The statistics that these needs require."""

    def at(self, tensors: Collection[str]) -> frozenset[str]:
        """Ids of the groups with units in any of these tensors."""

    def lost(self, choice: Choice) -> Iterable[Lost | Sparse]:
        """What layers can no longer use."""

    def start(self, group: Group) -> int:
        """The index of the first node that gives another value where units of a group read zero."""

    def mask(self, reference: Network, choice: Choice) -> Network:
        """The masked reference: removed units read zero. `reference` may be masked for others already."""

    def cut(self, network: Network, choice: Choice) -> tuple[Network, Trace]:
        """The network without removed units; it may have been cut for another reduction already.

        Raises:
            CannotCut: what is left would not fit together.
        """

    def write(self, choice: Choice) -> PlannedReduction:
        """For a plan, in terms of weights."""

    def read(self, planned: PlannedReduction) -> Choice:
        """From a plan.

        Raises:
            InputError: it does not fit; the message names the first difference.
        """


@runtime_checkable
class ChannelUnits(Space, Protocol):
    """A space of channels or heads: what criteria may ask of it.

    Units are numbered within their group, in the order of an axis; -1 stands for what is not of the group.
    """

    def makers(self, group: Group) -> Iterator[Filters]:
        """The weights that make the units of a group, for each node that makes any."""

    def readings(self, group: Group, stats: Stats) -> Iterator[Reading]:
        """What each consumer reads of a group.

        Raises:
            UsageError: the statistics were gathered for something else.
        """

    @property
    def consumers(self) -> Sequence[Consumer]:
        """The layers with constant weights that sum over units."""

    def local(self, group: Group, consumer: Consumer) -> Units:
        """int64 (C,), which unit of a group each channel of a consumer is."""

    def outputs(self, group: Group) -> Sequence[tuple[Key, Units]]:
        """What the nodes of a group make, folded as far as it could be, and which unit is where."""

    def activations(self, group: Group) -> Sequence[tuple[Key, Units]]:
        """The outputs of each ReLU behind a group, and which of its units is where."""

    def along(self, tensor: str, group: Group) -> tuple[int, Units] | None:
        """The one axis of a tensor with units of a group, and which of them is where."""

    def summing(self, group: Group) -> frozenset[str]:
        """First outputs of the nodes that sum over units of a group together with one another."""


@runtime_checkable
class ValueUnits(Space, Protocol):
    """A space of single values, or of runs of them such as kernels: what criteria may ask of it."""

    def weight(self, group: Group) -> Floats:
        """float64 (outputs, inputs of each, taps), the weight of a group's layer."""

    def activation(self, group: Group) -> Key | None:
        """What a group's layer reads, and the axis of it that it sums over; `None` where that isn't known."""

    def kernels(self, group: Group) -> Key:
        """Where the statistics of the single kernels of a group's layer are kept."""

    def lanes(self, group: Group) -> int:
        """How many groups of outputs read inputs of their own; of a convolution."""

    def summed(self, group: Group, values: Floats) -> Floats:
        """float64 (group.size,), from values (outputs, inputs of each, taps): the sum over each unit."""


class Reduction(Protocol):
    """A kind of unit, and how units of it are removed."""

    @property
    def name(self) -> str:
        """The kind of its units: `channels`, `kernels`, `weights`."""

    def find(self, network: Network) -> Space:
        """The units of a network."""


class CannotCut(Exception):
    """What a choice leaves does not fit together.

    Args:
        groups: ids of the groups that it is about.
        cause: why.
    """

    def __init__(self, groups: Collection[str], cause: Cause) -> None:
        super().__init__(cause.reason)
        self.groups = frozenset(groups)
        self.cause = cause


class CannotRate(UsageError):
    """A criterion says nothing of some groups: they are left whole, if it says something of others.

    Args:
        reason: why, in words.
        groups: ids of these groups.
        where: the criterion, as it was asked for.
        hint: what to do where it says nothing of any.
    """

    def __init__(self, reason: str, groups: Collection[str], *, where: str, hint: str) -> None:
        super().__init__(reason, where=where, hint=hint)
        self.groups = frozenset(groups)


@dataclass(frozen=True, eq=False)
class Cut:
    """A network without the units that a choice removes.

    Attributes:
        base: the network that was cut.
        spaces: its units, in the order in which they were cut.
        choice: which of them stay.
        network: what is left.
        trace: how the tensors of both correspond.
    """

    base: Network
    spaces: tuple[Space, ...]
    choice: Choice
    network: Network
    trace: Trace

    @property
    def lost(self) -> Iterator[Lost | Sparse]:
        """What layers can no longer use."""
        for space in self.spaces:
            yield from space.lost(self.choice)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups that lose something."""
        return tuple(g for space in self.spaces for g in space.groups if self.choice.cuts(g))
