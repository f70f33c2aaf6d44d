"""The form of a result: cut, with grouped convolutions, as a mask, or with random weights."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..contracts.effect import Effect
from ..contracts.plan import PlannedRewrite
from ..contracts.reduction import Sparse
from ..contracts.rewrite import NotApplied
from ..contracts.timing import Timing
from ..errors import ProofFailed
from ..graph import Array, Edits, Graph, Network
from ..ops.layers import LINEAR
from ..proof import same
from ..repair.initial import drawn
from ..rewrites import grouped
from ..runtime import Feeds
from ..types import Mask
from .judge import size, speed_of
from .search import Solved

SAMPLED = 1 << 18
"""Values of each weight that are compressed, to estimate the ratio."""

_AFFINE = {"Add": (0, 1), "BatchNormalization": (1, 2)}
"""Inputs of other operators than linear layers at which zeros for an unread unit give finite values."""


@dataclass(frozen=True, eq=False)
class Delivered:
    """A result in the form in which it is delivered.

    Attributes:
        network: the network.
        notes: what was done to it, in words.
        rewrites: for the plan.
        in_place: whether removed weights are zero, not cut: nothing gets smaller.
    """

    network: Network
    notes: tuple[str, ...] = ()
    rewrites: tuple[PlannedRewrite, ...] = ()
    in_place: bool = False


# -------------------------------------------------------------------- values that became zero


def with_values(found: Delivered, solved: Solved) -> Delivered:
    """With notes on how many single weights are zero, and how well they compress."""
    sparse = [one for one in solved.candidate.cut.lost if isinstance(one, Sparse)]
    if solved.search.phase.name != "weights" or not sparse:
        return found
    before = solved.search.base.graph
    count = sum(one.support.size for one in sparse)
    gone = count - sum(int(one.support.sum()) for one in sparse)
    names = [one.layer.weight for one in sparse]
    packed = [_compressed(graph, names) for graph in (before, solved.candidate.graph)]
    notes = (
        f"{gone} of {count} weights in {len(names)} layers are zero ({gone / count:.1%})",
        "ONNX Runtime computes with zeros as with other numbers: they make nothing smaller or faster; "
        f"compressed with zlib, these weights take about {packed[1] / packed[0]:.0%} of the compressed size "
        "of the original ones",
    )
    return replace(found, notes=(*found.notes, *notes))


def _compressed(graph: Graph, names: Sequence[str]) -> int:
    known = [name for name in names if name in graph.constants]
    return sum(len(zlib.compress(graph.array(name).ravel()[:SAMPLED].tobytes(), 1)) for name in known)


# -------------------------------------------------------------------- kernels


def with_kernels(
    found: Delivered, solved: Solved, groups: int, timing: Timing, feeds: Feeds, chosen: Sequence[str] | None
) -> Delivered:
    """With a grouped convolution for each dense one whose kernels are zero in blocks, where that is faster.

    Args:
        found: as it is so far.
        solved: which kernels are gone.
        groups: how many runs of filters read their own channels; 0: kernels stay zero.
        timing: how to find out what is faster.
        feeds: to compare on.
        chosen: outputs of the convolutions to treat so, without looking at the time; `None`: those that gain.
    """
    sparse = [one for one in solved.candidate.cut.lost if isinstance(one, Sparse)]
    if solved.search.phase.name != "kernels" or not sparse:
        return found
    network, sites, zero, reasons = found.network, list[str](), 0, set[str]()
    gone = sum(int((~_kernels(one.support)).sum()) for one in sparse)
    total = sum(_kernels(one.support).size for one in sparse)
    for one in sparse:
        output = one.layer.output
        left = solved.candidate.cut.trace.support(output, one.layer.input)
        mask = None if left is None else _kernels(left)
        if mask is None or mask.all():
            continue
        made, reason = _grouped(network, output, mask, groups, timing, feeds, chosen)
        if made is not None:
            network = made
            sites.append(output)
        else:
            zero += 1
            reasons |= {reason} if reason else set()
    notes = [f"inbound pruning: {gone} of {total} kernels are gone"]
    if sites:
        notes.append(f"{len(sites)} convolutions read their own channels in {groups} groups")
    if zero:
        because = f" ({'; '.join(sorted(reasons))})" if reasons else ""
        notes.append(f"{zero} convolutions have zeroed kernels, which saves no time{because}")
    planned = (PlannedRewrite("grouped", tuple(sites), {"groups": groups}),) if sites else ()
    return Delivered(network, (*found.notes, *notes), (*found.rewrites, *planned), found.in_place)


def _kernels(support: Mask) -> Mask:
    """(filters, channels), whether any tap of each kernel stays."""
    return np.asarray(support.reshape(*support.shape[:2], -1).any(axis=2))


def _grouped(
    network: Network,
    output: str,
    mask: Mask,
    groups: int,
    timing: Timing,
    feeds: Feeds,
    chosen: Sequence[str] | None,
) -> tuple[Network | None, str]:
    """The network with groups for one convolution, or why not."""
    if not groups or (chosen is not None and output not in chosen):
        return None, ""
    try:
        made = grouped(network, output, mask, groups)
    except NotApplied as why:
        return None, why.reason
    if not same(network.graph, made.graph, feeds).equal:
        return None, "groups compute something else"
    if chosen is None and speed_of(network.graph, made.graph, timing).high >= 1:
        return None, "groups are not faster"
    return made, ""


# -------------------------------------------------------------------- masks


def as_mask(found: Delivered, solved: Solved, original: Network, feeds: Feeds, timing: Timing) -> Delivered:
    """Zeros in place of what was cut: the masked reference, which the proof has compared with the cut.

    Where a removed unit is summed over, zero is read. What makes it is zero as well, so that it gets no
    gradient either, unless an operator between them makes NaN or infinity of that zero.
    """
    search, choice = solved.search, solved.choice
    reference = search.base
    for space in search.spaces:
        if any(choice.cuts(group) for group in space.groups):
            reference = space.mask(reference, choice)
    graph = reference.graph
    for space in search.spaces:
        graph = _silent(graph, space.effect, space.effect.kept(choice))
    if not same(reference.graph, graph, feeds).equal:
        graph = reference.graph
    left, whole = size(solved.candidate.network.unflattened, timing), size(original, timing)
    note = (
        f"masked: shapes are as before; once cut, it has {left.params / whole.params:.1%} of the parameters, "
        f"{left.macs / (whole.macs or 1):.1%} of the MACs and {left.bytes / whole.bytes:.1%} of the bytes"
    )
    return Delivered(reference.of(graph).unflattened, (*found.notes, note), found.rewrites, in_place=True)


def _silent(graph: Graph, effect: Effect, kept: Mask) -> Graph:
    """With zeros for units that go in every weight that makes or reads them."""
    arrays: dict[str, Array] = {}
    for member in effect.members:
        name = member.constant
        alone = member.use is None or len(graph.readers.get(name, ())) == 1
        if not alone or member.untied is not None or not _may_be_zero(graph, name):
            continue
        array = arrays.get(name, graph.array(name)).reshape(member.view).copy()
        for place in member.places:
            front = np.moveaxis(array, place.axes, range(len(place.axes)))
            front[~kept[place.units]] = 0
        arrays[name] = array.reshape(graph.shape_of_constant(name))
    return graph.edited(Edits(constants=arrays))


def _may_be_zero(graph: Graph, name: str) -> bool:
    if name not in graph.constants or not graph.is_weight(name) or graph.dtype(name).kind == "i":
        return False
    return all(i in _made_of(node.op) for node, i in graph.readers[name])


def _made_of(op: str) -> tuple[int, ...]:
    """Inputs at which zeros for an unread unit give finite values."""
    row = LINEAR.get(op)
    if row is None or row.recurrent or row.zero is not None:
        return _AFFINE.get(op, ())
    return row.weights if row.bias is None else (*row.weights, row.bias)


# -------------------------------------------------------------------- random weights


def with_random_weights(found: Delivered, seed: int) -> Delivered:
    """With random weights, and notes on them.

    Raises:
        InputError: there are none to draw.
    """
    graph, stay = drawn(found.network.graph, seed)
    notes = [f"weights are random (seed {seed}): the result has to be trained, and the verdict is of chance"]
    if stay:
        more = f" and {len(stay) - 3} more" if len(stay) > 3 else ""
        named = ", ".join(f"'{name}'" for name in stay[:3])
        notes.append(f"{named}{more} stay as they are: how to initialise them is not known")
    return replace(found, network=found.network.of(graph), notes=(*found.notes, *notes))


def require_same(before: Network, after: Network, feeds: Feeds, what: str) -> None:
    """Make sure that a rewrite has changed nothing.

    Raises:
        ProofFailed: it has: a bug.
    """
    compared = same(before.graph, after.graph, feeds)
    if not compared.equal:
        hint = "this is a bug of onnxprune, please report it; nothing was written"
        raise ProofFailed(f"{what} changed {compared.where}", where=before.where, hint=hint)
