"""The profile of a network: every layer's time, now and at other widths, and what that time follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..contracts.effect import Effect
from ..contracts.groups import Choice
from ..cost.rate import Rate
from ..graph import Facts, Graph, infer
from .fit import Bound, Point, bound, fitted
from .layers import TimedLayer, layers
from .stopwatch import Stopwatch, Variant
from .widths import Offset, offsets, preferred_multiple, variants

VERSION = 1
"""Of the JSON that `profile --json` writes."""

_WORTHWHILE = 0.99  # of the time, in layers whose widths are measured; the rest is only measured as it is
_JUDGES = 8  # so many of the heaviest layers decide on the preferred multiple

Narrowed = Callable[[Choice], Graph]
"""The graph with only some units."""


@dataclass(frozen=True)
class LayerProfile:
    """One layer.

    Attributes:
        name: of its first node.
        ops: its operators.
        seconds: as it is.
        share: of the time of all layers.
        bound: what limits it.
        multiple: the kernels prefer multiples of this; `None` where it wasn't measured.
        points: as it is, then at other widths.
        rate: what its time follows.
    """

    name: str
    ops: str
    seconds: float
    share: float
    bound: Bound
    multiple: int | None
    points: tuple[Point, ...]
    rate: Rate


@dataclass(frozen=True)
class Profile:
    """A network on a machine.

    Attributes:
        layers: in the order of the graph.
        seconds: of all kernels.
        multiple: the kernels prefer multiples of this.
        setting: provider, threads, versions, machine, shapes.
        notes: what couldn't be measured.
    """

    layers: tuple[LayerProfile, ...]
    seconds: float
    multiple: int
    setting: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def rates(self) -> tuple[Rate, ...]:
        """What drives an allocation for latency."""
        return tuple(layer.rate for layer in self.layers)

    def share(self, kind: Bound) -> float:
        """The share of the time in layers bound by this."""
        return sum(layer.share for layer in self.layers if layer.bound == kind)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {"version": VERSION, **asdict(self)}


def profile(
    graph: Graph,
    effect: Effect,
    narrowed: Narrowed,
    stopwatch: Stopwatch,
    dims: Mapping[str, int],
    *,
    multiple: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Profile:
    """Measure a network's layers at several widths.

    Every layer that is timed is cut out of a network that was really narrowed, so that shapes, attributes
    and constants are those that a pruned network has.

    Args:
        graph: the network.
        effect: its groups, and where their units are.
        narrowed: how to narrow it.
        stopwatch: what measures, or knows.
        dims: sizes of the symbolic dimensions.
        multiple: of which all widths shall be multiples; found by measuring if not given.
        progress: called with what begins.

    Raises:
        InputError: the stopwatch's table is frozen and lacks a layer.
    """
    now = _variant(graph, dims)
    progress("Timing layers as they are")
    stopwatch.time([now])
    times = {layer.name: stopwatch.seconds(layer) for layer in now.layers}
    heavy = _heaviest(times, _WORTHWHILE)

    progress("Timing layers at unaligned widths")
    judges = set(sorted((x.name for x in now.layers if x.macs), key=lambda n: -times[n])[:_JUDGES])
    steps = _steps(effect, narrowed, dims, judges & heavy, stopwatch)
    by_layer = {name: Offset(times[name], per_mac) for name, per_mac in steps.items()}
    if multiple is None:
        multiple = preferred_multiple(list(by_layer.values()))

    progress("Timing layers at other widths")
    points: dict[str, list[Point]] = {x.name: [] for x in now.layers}
    narrow = [_variant(narrowed(choice), dims, heavy) for choice in variants(effect.groups, multiple)]
    stopwatch.time(narrow)
    for variant in (now, *narrow):
        for layer in variant.layers:
            if layer.name in points:
                width = _width(effect, variant, layer)
                points[layer.name].append(Point(layer.macs, layer.traffic, stopwatch.seconds(layer), width))
    total = sum(times.values()) or 1.0
    found = [
        LayerProfile(
            name=layer.title,
            ops=layer.ops,
            seconds=times[layer.name],
            share=times[layer.name] / total,
            bound=bound(own[0], own[1] if len(own) > 1 else own[0]),
            multiple=preferred_multiple([by_layer[layer.name]]) if layer.name in by_layer else None,
            points=tuple(own),
            rate=fitted(tuple(node.index for node in layer.nodes), own),
        )
        for layer, own in zip(now.layers, points.values(), strict=True)
    ]
    notes = tuple(
        dict.fromkeys(f"a layer doesn't run on its own: {why}" for why in stopwatch.failed.values())
    )
    setting = {**asdict(stopwatch.table.setting), "dims": dict(dims)}
    return Profile(tuple(found), total, multiple, setting, notes)


def _variant(graph: Graph, dims: Mapping[str, int], names: set[str] | None = None) -> Variant:
    facts: Facts = infer(graph, dims)
    found = layers(graph, facts)
    return Variant(graph, facts, tuple(x for x in found if names is None or x.name in names))


def _width(effect: Effect, variant: Variant, layer: TimedLayer) -> int | None:
    """The channels that a layer makes, where some can go."""
    shape, group_of = variant.facts.shapes.get(layer.name), effect.group_of
    for place in effect.tensors.get(layer.name, ()):
        if shape is not None and (group_of[place.units] >= 0).any():
            return math.prod(shape[axis] for axis in place.axes if axis < len(shape))
    return None


def _heaviest(times: Mapping[str, float], share: float) -> set[str]:
    """The fewest layers that take this share of the time."""
    left, chosen = share * sum(times.values()), set()
    for name in sorted(times, key=lambda n: -times[n]):
        if left <= 0:
            break
        chosen.add(name)
        left -= times[name]
    return chosen


def _steps(
    effect: Effect, narrowed: Narrowed, dims: Mapping[str, int], judges: set[str], stopwatch: Stopwatch
) -> dict[str, dict[int, float]]:
    """For every judge: seconds per multiply-accumulate at each offset from a high multiple."""
    tried = [(offset, _variant(narrowed(choice), dims, judges)) for offset, choice in offsets(effect.groups)]
    stopwatch.time([variant for _, variant in tried])
    found: dict[str, dict[int, float]] = {}
    work: dict[str, set[int]] = {}
    for offset, layer in _each(tried):
        if layer.macs in work.setdefault(layer.name, set()) or not stopwatch.seconds(layer):
            continue  # this layer couldn't be made that wide
        work[layer.name].add(layer.macs)
        found.setdefault(layer.name, {})[offset] = stopwatch.seconds(layer) / layer.macs
    return {name: per_mac for name, per_mac in found.items() if 0 in per_mac and len(per_mac) > 1}


def _each(tried: Sequence[tuple[int, Variant]]) -> Iterator[tuple[int, TimedLayer]]:
    return ((offset, layer) for offset, variant in tried for layer in variant.layers)
