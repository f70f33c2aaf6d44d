"""Channels and heads as a reduction: its space, on one network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ...contracts.choices import Granularity
from ...contracts.effect import Effect
from ...contracts.gates import ORDERS, Order, WantedGates
from ...contracts.groups import Blocked, Choice, Group
from ...contracts.plan import PlannedReduction
from ...contracts.reduction import (
    CannotCut,
    ChannelUnits,
    Consumer,
    Filters,
    Key,
    Lost,
    Reading,
    Sparse,
    Trace,
    Wanted,
)
from ...contracts.request import Kernel, SumKind
from ...contracts.stats import Need, Stats
from ...contracts.weights import Weight
from ...graph import Graph, Network
from ...ops.layers.storage import weights
from ...ops.record import Inconsistent
from ...types import Cause, Mask, Units
from . import plan, sites
from .analysis import Analysis, ChannelGroup
from .cut import recorded
from .find import analyze
from .gates import gated
from .mask import masked
from .readings import reading
from .trace import ChannelTrace
from .weights import weights as weights_of

NAME = "channels"


@dataclass(frozen=True)
class Channels:
    """Whole channels and heads, wherever they are.

    Attributes:
        granularity: what may go of attention: whole heads, or width within every head.
        approximate: channels may go that a normalisation runs over; their groups are marked.
    """

    granularity: Granularity = "auto"
    approximate: bool = False
    name: str = NAME

    def find(self, network: Network) -> ChannelSpace:
        """The channels of a network that may go, and what blocks the others.

        Raises:
            Infeasible: no consistent set of channels was found (a rule is broken).

        Example:
            >>> from onnxprune.graph import Network, load
            >>> space = Channels().find(Network(load("models/digits-residual.onnx")))
            >>> group = space.groups[0]
            >>> group.name, group.size, group.kind
            ('/stem/conv/Conv', 32, 'channel')
            >>> len(group.layers)  # a residual stream: several layers make its channels
            3
        """
        return ChannelSpace(
            network,
            network.cached(
                self,
                lambda found: analyze(
                    found.graph, found.facts, granularity=self.granularity, approximate=self.approximate
                ),
            ),
        )


class ChannelSpace:
    """The channels of a network.

    Args:
        network: the network.
        analysis: what was found in it.

    Attributes:
        network: the network.
        analysis: its units, numbered through the whole graph.
    """

    reduction = NAME

    def __init__(self, network: Network, analysis: Analysis) -> None:
        self.network = network
        self.analysis = analysis

    @property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """See `Space.groups`."""
        return self.analysis.groups

    @property
    def blocked(self) -> tuple[Blocked, ...]:
        """See `Space.blocked`."""
        return self.analysis.blocked

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        """See `Space.weights`."""
        return weights_of(self._graph, self.analysis)

    @cached_property
    def effect(self) -> Effect:
        """See `Space.effect`."""
        found = self.analysis
        return Effect(
            found.count, found.groups, tuple(g.units for g in found.groups), found.tensors, found.members
        )

    @property
    def _graph(self) -> Graph:
        return self.network.graph

    @cached_property
    def _by_id(self) -> Mapping[str, ChannelGroup]:
        return {group.id: group for group in self.groups}

    def _own(self, group: Group) -> ChannelGroup:
        return self._by_id[group.id]

    # ------------------------------------------------------------ choices

    def choice(self, kept: Mask) -> Choice:
        """Which units of each group stay. `kept`: (analysis.count,), of all units."""
        return Choice({g.id: kept[g.units] for g in self.groups if not kept[g.units].all()})

    def without(self, ids: Collection[str], cause: Cause) -> ChannelSpace:
        """See `Space.without`."""
        left = self.analysis
        groups, blocked, causes, cause_of = [], list(left.blocked), list(left.causes), left.cause_of.copy()
        for group in left.groups:
            if group.id not in ids:
                groups.append(group)
                continue
            # Without a node of its own, the cause is at the node whose channels stay.
            by = [cause if cause.by >= 0 else replace(cause, by=node) for node in group.nodes]
            blocked += [Blocked(node, group.size, one) for node, one in zip(group.nodes, by, strict=True)]
            cause_of[group.units] = len(causes)
            causes.append(by[0])
        return ChannelSpace(
            self.network,
            replace(
                left, groups=tuple(groups), blocked=tuple(blocked), causes=tuple(causes), cause_of=cause_of
            ),
        )

    def at(self, tensors: Collection[str]) -> frozenset[str]:
        """See `Space.at`."""
        named = np.zeros(self.analysis.count, bool)
        for name in tensors:
            for place in self.analysis.tensors.get(name, ()):
                named[place.units] = True
        return frozenset(group.id for group in self.groups if named[group.units].any())

    # ------------------------------------------------------------ scoring

    def makers(self, group: Group) -> Iterator[Filters]:
        """The weights that make the units of a group, for each node that makes any."""
        return sites.filters(self._graph, self.analysis, self._own(group))

    @cached_property
    def consumers(self) -> tuple[Consumer, ...]:
        """The layers with constant weights that sum over units."""
        return sites.consumers(self._graph, self.analysis)

    def readings(self, group: Group, stats: Stats) -> Iterator[Reading]:
        """What each consumer reads of a group."""
        own = self._own(group)
        for consumer in self.consumers:
            local = sites.local(own, consumer.units)
            if (local >= 0).any():
                yield reading(self._graph, consumer, local, stats)

    def outputs(self, group: Group) -> tuple[tuple[Key, Units], ...]:
        """What the nodes of a group make, folded as far as it could be, and which unit is where; -1: none."""
        return sites.outputs(self._graph, self.analysis, self._own(group))

    def activations(self, group: Group) -> tuple[tuple[Key, Units], ...]:
        """The outputs of each ReLU behind a group, and which of its units is where; -1: none."""
        return sites.activations(self._graph, self.analysis, self._own(group))

    def along(self, tensor: str, group: Group) -> tuple[int, Units] | None:
        """The one axis of a tensor with units of a group, and which of them is where; -1: none."""
        return sites.along(self.analysis, tensor, self._own(group))

    def local(self, group: Group, consumer: Consumer) -> Units:
        """Which unit of a group each channel of a consumer is; -1: none."""
        return sites.local(self._own(group), consumer.units)

    def summing(self, group: Group) -> frozenset[str]:
        """See `ChannelUnits.summing`."""
        units = self._own(group).units
        nodes = self._graph.nodes
        return frozenset(
            nodes[r.node].outputs[0]
            for r in self.analysis.readers
            if not sites.hands_on(r) and np.isin(r.place.units, units).any()
        )

    def wanted(self, needs: frozenset[Need]) -> Wanted:
        """See `Space.wanted`."""
        kinds: defaultdict[Key, set[SumKind]] = defaultdict(set)
        for consumer in self.consumers:
            if "consumers" in needs:
                kinds[consumer.activation].add("gram")
            elif "inputs" in needs:
                kinds[consumer.activation].update(("sum", "squares"))
        for group in self.groups:
            made, active = self.outputs(group), self.activations(group)
            if "norms" in needs:
                for key, _ in made:
                    kinds[key].add("norms")
            if "pooled" in needs:
                for key, _ in active or made:
                    kinds[key].add("pooled")
            if "zeros" in needs:
                for key, _ in active:
                    kinds[key].add("zeros")
        kernels = {}
        if "kernels" in needs:
            for consumer in self.consumers:
                found = _kernel(self._graph, consumer)
                if found is not None:
                    kernels[consumer.kernels] = (consumer.activation, found)
        gates = WantedGates()
        if orders := frozenset[Order](o for o in ORDERS if o in needs):
            gates = WantedGates({g.id: gated(self.network, self.analysis, g) for g in self.groups}, orders)
        return Wanted({key: frozenset(found) for key, found in kinds.items()}, kernels, gates)

    # ------------------------------------------------------------ mask and cut

    def start(self, group: Group) -> int:
        """See `Space.start`."""
        if group.approximate:
            return 0
        units = self._own(group).units
        readers = self.analysis.readers
        return min((r.node for r in readers if np.isin(r.place.units, units).any()), default=0)

    def lost(self, choice: Choice) -> Iterator[Lost | Sparse]:
        """See `Space.lost`."""
        kept = self.effect.kept(choice)
        for consumer in self.consumers:
            left = kept[consumer.units]
            if not left.all():
                yield Lost(consumer, left)

    def mask(self, reference: Network, choice: Choice) -> Network:
        """See `Space.mask`."""
        kept = self.effect.kept(choice)
        return reference.of(masked(self.network, self.analysis, kept, reference.graph))

    def cut(self, network: Network, choice: Choice) -> tuple[Network, Trace]:
        """See `Space.cut`."""
        kept = self.effect.kept(choice)
        graph = network.graph
        facts = self.network.facts
        try:
            left, record = recorded(graph, facts, self.analysis, kept)
        except Inconsistent as trouble:
            touched = np.zeros(self.analysis.count, bool)
            touched[self.analysis.unit[trouble.ids]] = True
            ids = [group.id for group in self.groups if touched[group.units].any()]
            cause = Cause(trouble.node.index, trouble.reason, "removing fewer of them")
            raise CannotCut(ids, cause) from trouble
        return network.of(left), ChannelTrace(graph, self.analysis, kept, record)

    # ------------------------------------------------------------ plans

    def write(self, choice: Choice) -> PlannedReduction:
        """See `Space.write`."""
        return PlannedReduction(NAME, plan.written(self.analysis, self.effect.kept(choice)))

    def read(self, planned: PlannedReduction) -> Choice:
        """See `Space.read`."""
        return self.choice(plan.fit(planned.groups, self._graph, self.analysis))


def _kernel(graph: Graph, consumer: Consumer) -> Kernel | None:
    """The kernels of a consumer; `None` where it has groups, or is no convolution or matrix product."""
    node = graph.nodes[consumer.node]
    weight = weights(graph, consumer.weight).astype(np.float64)
    if node.op == "Conv" and node.attrs.get("group", 1) == 1:
        placing = ("auto_pad", "dilations", "pads", "strides")
        return Kernel(weight, {k: v for k, v in node.attrs.items() if k in placing})
    if node.op in ("Gemm", "MatMul") and weight.ndim == 2:
        return Kernel(np.moveaxis(weight, consumer.axes[0], 1), {})
    return None


_: type[ChannelUnits] = ChannelSpace
