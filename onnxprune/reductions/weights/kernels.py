"""Inbound pruning: every filter, or every group of filters, reads only some of the input channels.

Which kernels stay is decided from the variance of what each says over samples. An input channel that no
filter keeps is removed like any other unit. The kernels that are left over are zeroed, which saves nothing in
a dense runtime, or become a Gather and a grouped convolution where that is faster.

Source: Polyak and Wolf 2015, Channel-Level Acceleration of Deep Face Representations, Inbound Pruning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...contracts.analysis import Analysis
from ...contracts.selection import keep_best
from ...contracts.stats import Moments
from ...graph import Edits, Graph, Node, make_node
from ...types import Floats, Mask, Units
from ..channels.sites import Consumer

RIDGE = 1e-3
"""Of the mean variance, added to the variances of what is regressed on."""

Masks = Mapping[str, Mask]
"""Name of a convolution's weight -> (filters, input channels), whether each kernel stays."""

Faster = Callable[[Graph, Graph], bool]
"""Whether the second graph is faster than the first."""


@dataclass(frozen=True)
class Layer:
    """What became of a convolution.

    Attributes:
        node: its name.
        kernels: how many it had.
        kept: how many of them stay.
        groups: how many groups it has now; 1: its kernels are zeroed.
        reason: why it has no groups; "" where it has, or none were asked for.
    """

    node: str
    kernels: int
    kept: int
    groups: int = 1
    reason: str = ""


def keep_kernels(variances: Floats, share: float, groups: int = 0) -> Mask:
    """The kernels that stay: of each filter the share of highest variance, at least one.

    Args:
        variances: (filters, input channels), not negative.
        share: of the input channels.
        groups: so many runs of consecutive filters read the same channels, those of highest mean share in
            their filters' variance; 0: every filter has its own.

    Returns:
        bool (filters, input channels).
    """
    filters, width = variances.shape
    level = variances.mean(axis=1, keepdims=True)
    shares = variances / np.where(level > 0, level, 1)
    if groups:
        shares = shares.reshape(groups, -1, width).mean(axis=1)
    order = np.argsort(-shares, axis=1, kind="stable")
    kept = np.zeros(shares.shape, bool)
    np.put_along_axis(kept, order[:, : max(1, round(share * width))], True, axis=1)
    return kept.repeat(filters // len(kept), axis=0)


def masks(
    graph: Graph, found: Sequence[Consumer], variances: Mapping[int, Floats], share: float, groups: int = 0
) -> dict[str, Mask]:
    """The kernels that stay of every convolution whose filters can be told apart.

    Args:
        graph: the graph.
        found: its consumers.
        variances: index of the consumer's node -> (filters, input channels).
        share: of the input channels that filters keep.
        groups: as for `keep_kernels`; convolutions whose filters don't divide into as many have none.
    """
    result = {}
    for consumer in found:
        node = graph.nodes[consumer.node]
        variance = variances.get(consumer.node)
        alone = consumer.weight in graph.constants and len(graph.readers[consumer.weight]) == 1
        if node.op == "Conv" and variance is not None and alone:
            fitting = groups if groups and len(variance) % groups == 0 else 0
            result[consumer.weight] = keep_kernels(variance, share, fitting)
    return result


def read_units(analysis: Analysis, found: Sequence[Consumer], kept: Masks) -> Mask:
    """Which units stay: those go that only masked convolutions read, and none of them keeps.

    Groups whose rows would become uneven stay whole.

    Returns:
        bool (analysis.count,).
    """
    read = np.zeros(analysis.count, bool)
    masked = {c.reader.node: c for c in found if c.weight in kept}
    for reader in analysis.readers:
        consumer = masked.get(reader.node)
        if consumer is None:
            read[reader.place.units.ravel()] = True
        else:
            read[consumer.units[kept[consumer.weight].any(axis=0)]] = True
    stay = np.ones(analysis.count, bool)
    for group in analysis.groups:
        wanted = read[group.units]
        if wanted.any() and not wanted.all():
            chosen = keep_best(group, wanted.astype(np.float64), int(wanted.sum()))
            stay[group.units] = chosen | wanted if (chosen >= wanted).all() else True
    return stay


def narrowed(graph: Graph, analysis: Analysis, found: Sequence[Consumer], kept: Masks, stay: Mask) -> Masks:
    """The masks of what is left once units have gone."""
    result = {}
    for consumer in found:
        mask = kept.get(consumer.weight)
        if mask is not None:
            filters = _made(graph, analysis, consumer.node, len(mask))
            rows = np.ones(len(mask), bool) if filters is None else stay[filters]
            result[consumer.weight] = mask[rows][:, stay[consumer.units]]
    return result


def _made(graph: Graph, analysis: Analysis, node: int, count: int) -> Units | None:
    """The units that a convolution makes, `None` where they can't go."""
    for place in analysis.tensors.get(graph.nodes[node].outputs[0], ()):
        if place.axes == (1,) and len(place.units) == count:
            return place.units
    return None


def rewritten(
    graph: Graph, kept: Masks, groups: int = 0, faster: Faster = lambda _before, _after: False
) -> tuple[Graph, tuple[Layer, ...]]:
    """The graph without the kernels that don't stay.

    Args:
        graph: the graph.
        kept: its masks.
        groups: try so many groups for every convolution; 0: only zero kernels.
        faster: says whether groups pay.

    Returns:
        The graph, which computes the same with groups as with zeroed kernels, and what became of each
        convolution.
    """
    current = zeroed(graph, kept)
    layers = []
    for weight, mask in kept.items():
        node = graph.readers[weight][0][0].name
        made, reason = 1, ""
        if groups:
            candidate, reason = _grouped(current, weight, mask, groups)
            if candidate is not None and faster(current, candidate):
                current, made = candidate, groups
            elif candidate is not None:
                reason = "groups are not faster"
        layers.append(Layer(node, mask.size, int(mask.sum()), made, reason))
    return current, tuple(layers)


def zeroed(graph: Graph, kept: Masks) -> Graph:
    """The graph with zeros for the kernels that don't stay."""
    edits = Edits()
    for weight, mask in kept.items():
        array = graph.array(weight)
        spread = mask.reshape(mask.shape + (1,) * (array.ndim - 2))
        edits.constants[weight] = np.where(spread, array, array.dtype.type(0))
    return graph.edited(edits)


def compensated(graph: Graph, kept: Masks, found: Mapping[str, Moments]) -> Graph:
    """The graph with kernels that make up for those that go, which are zero.

    For every filter, what the channels it loses said is regressed on the ones it keeps, with the second
    moments of what the convolution reads, as if taps of a kernel were independent; means go into the bias.

    Args:
        graph: the graph.
        kept: its masks.
        found: name of a weight -> moments, with Gram matrices, of what its convolution reads.
    """
    edits = Edits()
    for weight, mask in kept.items():
        array, moments = graph.array(weight), found[weight]
        new = _regressed(array.reshape(*mask.shape, -1).astype(np.float64), mask, moments)
        shift = (array.reshape(*mask.shape, -1) - new).sum(axis=2) @ moments.mean
        edits.constants[weight] = new.reshape(array.shape).astype(array.dtype)
        node: Node = graph.readers[weight][0][0]
        bias = node.inputs[2] if len(node.inputs) > 2 else ""
        if not bias or bias in graph.constants:
            old = graph.array(bias) if bias else np.zeros(len(mask), array.dtype)
            edits.literals[node.index, 2] = (old + shift).astype(array.dtype)
    return graph.edited(edits)


def _regressed(array: Floats, mask: Mask, moments: Moments) -> Floats:
    """(filters, channels, taps), zero where the mask is."""
    covariance = moments.covariance
    ridge = (RIDGE + len(covariance) / moments.rows) * np.trace(covariance) / len(covariance)
    new = np.where(mask[:, :, None], array, 0.0)
    rows, which = np.unique(mask, axis=0, return_inverse=True)
    for k, row in enumerate(rows):
        if row.all():
            continue
        inner = covariance[np.ix_(row, row)] + ridge * np.eye(int(row.sum()))
        spread = np.linalg.solve(inner, covariance[np.ix_(row, ~row)])
        filters = np.flatnonzero(which == k)
        new[np.ix_(filters, row)] += np.einsum("kd,tdp->tkp", spread, array[np.ix_(filters, ~row)])
    return new


def _grouped(graph: Graph, weight: str, mask: Mask, groups: int) -> tuple[Graph | None, str]:
    """A Gather and a grouped convolution in place of a dense one, or why not."""
    if len(mask) % groups:
        return None, f"filters don't divide into {groups} groups"
    blocks = mask.reshape(groups, -1, mask.shape[1])
    if (blocks != blocks[:, :1]).any():
        return None, "filters of a group keep different channels"
    own = blocks[:, 0]
    if len(set(own.sum(axis=1).tolist())) > 1 or not own.any():
        return None, "groups keep unequally many channels"
    channels = [np.flatnonzero(row) for row in own]
    array = graph.array(weight).reshape(groups, -1, *graph.shape_of_constant(weight)[1:])
    parts = [block[:, index] for block, index in zip(array, channels, strict=True)]
    node: Node = graph.readers[weight][0][0]
    gathered = f"{node.outputs[0]}.inbound"
    edits = Edits()
    edits.constants[weight] = np.concatenate(parts)
    edits.added[f"{gathered}.channels"] = np.concatenate(channels).astype(np.int64)
    inputs = [node.inputs[0], f"{gathered}.channels"]
    edits.before[node.index] = [make_node("Gather", inputs, [gathered], gathered, axis=1)]
    edits.rewire[node.index, 0] = gathered
    edits.attrs[node.index, "group"] = groups
    return graph.edited(edits), ""


def notes(layers: Sequence[Layer]) -> tuple[str, ...]:
    """What became of the kernels, in words, for the report."""
    gone = sum(layer.kernels - layer.kept for layer in layers)
    if not gone:
        return ()
    grouped = [layer for layer in layers if layer.groups > 1]
    zero = [layer for layer in layers if layer.groups == 1 and layer.kept < layer.kernels]
    result = [f"inbound pruning: {gone} of {sum(layer.kernels for layer in layers)} kernels are gone"]
    if grouped:
        result.append(f"{len(grouped)} convolutions read their own channels in {grouped[0].groups} groups")
    if zero:
        why = sorted({layer.reason for layer in zero if layer.reason})
        because = f" ({'; '.join(why)})" if why else ""
        result.append(f"{len(zero)} convolutions have zeroed kernels, which saves no time{because}")
    return tuple(result)
