"""A model, loaded and rewritten, in which units are then looked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..contracts.choices import Granularity
from ..contracts.reduction import Space
from ..contracts.rewrite import NotApplied, Rewrite
from ..cost.macs import one_sample_macs
from ..cost.sizes import check_dims, integers, with_hint_of_sizes
from ..errors import Infeasible, InputError, RunFailed
from ..execution.expectation import Normal, normals
from ..execution.sessions import answering, open_session
from ..graph import Facts, Graph, Network, load, require_finite, symbolic_dims
from ..proof import same
from ..reductions.channels import Analysis, Channels, ChannelSpace
from ..rewrites import Cleaning, ComputedWeights, FlattenedBranches, KnownBranches
from ..rewrites.clean import GROWTH
from ..runtime import Feeds, TensorSpec, random_feeds
from ..types import Progress
from .blocking import kept_by_name


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model ready for surgery.

    Attributes:
        origin: as it was loaded.
        network: what surgery starts from: rewritten, computing the same.
        notes: what the user should know.
        normals: means and deviations of tensors in `origin`, from BatchNormalization; cleaning folds it.
    """

    origin: Network
    network: Network
    notes: tuple[str, ...] = ()
    normals: Mapping[str, Normal] = field(default_factory=dict)

    @property
    def original(self) -> Graph:
        """The graph as it was loaded."""
        return self.origin.graph

    @property
    def graph(self) -> Graph:
        """The graph that surgery starts from."""
        return self.network.graph

    @property
    def facts(self) -> Facts:
        """Shapes and values of `graph`."""
        return self.network.facts

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of `graph` for one sample, with the sizes that are known."""
        return one_sample_macs(self.network)


@dataclass(frozen=True, eq=False)
class Prepared(Loaded):
    """A model ready for surgery, and its channels.

    Attributes:
        channels: that can go.
    """

    channels: ChannelSpace = field(kw_only=True)

    @property
    def analysis(self) -> Analysis:
        """Which channels go together, and where they are."""
        return self.channels.analysis


def loaded(
    model: str | os.PathLike[str] | Graph,
    *,
    simplify: bool = True,
    dims: Mapping[str, int] | None = None,
    sample: Feeds | None = None,
    must_run: bool = False,
    progress: Progress = lambda _: None,
) -> Loaded:
    """Load a model, and rewrite it.

    Args:
        model: a file, or a graph.
        simplify: clean the graph.
        dims: sizes of symbolic dimensions with which the model runs; others are guessed.
        sample: what to compare rewrites on; random inputs by default.
        must_run: whether a model that doesn't run on random integers is refused; else it is not rewritten.
        progress: called with what begins.

    Raises:
        InputError: the model can't be read or run.
        UsageError: a dimension was named that the model hasn't.
    """
    original = model if isinstance(model, Graph) else load(model)
    check_dims(symbolic_dims(original), dims or {})
    with answering(original, dims):
        return _loaded(original, simplify, dims, sample, must_run, progress)


def _loaded(
    original: Graph,
    simplify: bool,
    dims: Mapping[str, int] | None,
    sample: Feeds | None,
    must_run: bool,
    progress: Progress,
) -> Loaded:
    require_finite(original.flat)
    origin = Network(original, dims)
    rewrites: list[Rewrite] = [ComputedWeights(), KnownBranches(), FlattenedBranches()]
    if simplify:
        progress("Cleaning the graph")
        rewrites.insert(0, Cleaning())
    try:
        network, notes = rewritten(origin, rewrites, sample)
    except InputError as error:
        drawn = integers(open_session(original).inputs) if isinstance(error, RunFailed) and not sample else []
        guessed = symbolic_dims(original).keys() - (dims or {}).keys()
        explained = with_hint_of_sizes(error, guessed, drawn, "give samples, with --calib")
        if must_run or not drawn:
            raise explained from None
        network = origin
        notes = (f"the graph is left as it is: it can't be run to compare it ({explained})",)
    growth = network.unflattened.graph.size() / original.size()
    if growth > GROWTH:
        reason = "what the model computes from constants is stored instead"
        hint = "see --no-simplify"
        notes = (*notes, f"rewriting makes the file {growth:.1f} times as large ({reason}): {hint}")
    return Loaded(origin, network, notes, normals(original))


def rewritten(
    network: Network, rewrites: Sequence[Rewrite], sample: Feeds | None = None
) -> tuple[Network, tuple[str, ...]]:
    """A network with rewrites applied, as far as it computes the same in ONNX Runtime.

    All are compared together; where something differs, one by one, and what differs is dropped.

    Args:
        network: the network.
        rewrites: in order.
        sample: what to compare on; random inputs by default.

    Returns:
        The network, and notes on what was dropped.

    Raises:
        InputError: the network can't be run.
    """
    found, notes = network, []
    for rewrite in rewrites:
        try:
            found = rewrite(found)
        except NotApplied as why:
            notes.append(f"{rewrite.name} was skipped: {why.reason}")
    if found is network:
        return network, tuple(notes)
    feeds = assumed_feeds(network) if sample is None else sample
    if same(network.graph, found.graph, feeds).equal:
        return found, tuple(notes)
    found, notes = network, []
    for rewrite in rewrites:
        try:
            candidate = rewrite(found)
        except NotApplied as why:
            notes.append(f"{rewrite.name} was skipped: {why.reason}")
            continue
        compared = same(found.graph, candidate.graph, feeds) if candidate is not found else None
        if compared is not None and not compared.equal:
            notes.append(f"{rewrite.name} was dropped: it changed {compared.where}")
        else:
            found = candidate
    return found, tuple(notes)


def assumed_feeds(network: Network, seed: int = 0) -> Feeds:
    """Random inputs of the shapes that were assumed.

    Raises:
        InputError: the network can't be loaded.
    """
    shapes = network.facts.shapes
    inputs = open_session(network.graph).inputs
    specs = [TensorSpec(s.name, s.dtype, shapes.get(s.name) or s.shape) for s in inputs]
    return random_feeds(specs, np.random.default_rng(seed))


def prepare(
    model: str | os.PathLike[str] | Graph,
    *,
    simplify: bool = True,
    granularity: Granularity = "auto",
    allow_approximate: bool = False,
    keep: Sequence[str] = (),
    dims: Mapping[str, int] | None = None,
    progress: Progress = lambda _: None,
) -> Prepared:
    """Load and clean a model, and find its channels.

    Args:
        model: a file, or a graph.
        simplify: clean the graph first; the result is checked in ONNX Runtime.
        granularity: what may go of attention: heads or width.
        allow_approximate: channels may go that a normalisation runs over; that is not exact.
        keep: patterns (`*`, `?`) of names of nodes or weights, whose channels must stay.
        dims: sizes of symbolic dimensions with which the model runs; others are guessed.
        progress: called with what begins.

    Raises:
        InputError: the model can't be read or run.
        UsageError: a pattern of `keep` names nothing.

    Example:
        >>> import onnxprune
        >>> prepared = onnxprune.prepare("models/digits-plain.onnx", keep=["/head/*"])
        >>> [group.size for group in prepared.channels.groups]
        [32, 32, 64, 64]
    """
    found = loaded(model, simplify=simplify, dims=dims, progress=progress)
    progress("Finding channels")
    with answering(found.original, dims):
        space = Channels(granularity, allow_approximate).find(found.network)
    (left,), idle = kept_by_name([space], keep, found.original, found.graph)
    if not isinstance(left, ChannelSpace):
        raise TypeError("a space of channels without some groups is one of channels")
    return Prepared(found.origin, found.network, (*found.notes, *idle), found.normals, channels=left)


def require_groups(where: str, spaces: Sequence[Space]) -> None:
    """Refuse a model without units that can go.

    Raises:
        Infeasible: it has none; the message names what blocks the widest layer, and what would unblock it.
    """
    if any(space.groups for space in spaces):
        return
    blocked = [(space, one) for space in spaces for one in space.blocked]
    if not blocked:
        kinds = " or ".join(space.reduction for space in spaces)
        raise Infeasible(f"no layer has {kinds} that could be removed", where=where)
    space, largest = max(blocked, key=lambda found: found[1].channels)
    cause, nodes = largest.cause, space.network.graph.nodes
    by = str(nodes[cause.by]) if cause.by >= 0 else "the graph's end"
    reason = f"nothing can be pruned: {nodes[largest.node]} is blocked at {by}: {cause.reason}"
    raise Infeasible(reason, where=where, hint=f"what would unblock it: {cause.unblock}")
