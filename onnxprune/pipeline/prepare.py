"""A model, loaded, cleaned and analysed: ready for surgery."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..calibration.expectation import Normal, normals
from ..contracts.analysis import Analysis
from ..cost.macs import macs
from ..cost.sizes import check_dims, with_hint_of_sizes
from ..errors import Infeasible, InputError
from ..execution.sessions import blaming
from ..graph import Facts, Graph, infer, load, one_sample, require_finite, symbolic_dims, with_known_branches
from ..reductions.channels.find import Granularity, analyze
from ..rewrites.clean import GROWTH, cleaned
from ..rewrites.constants import folded
from .keep import without

Progress = Callable[[str], None]
"""Told what begins."""


@dataclass(frozen=True)
class Prepared:
    """A model ready for surgery.

    Attributes:
        original: as it was loaded.
        graph: what surgery starts from (the original, or cleaned).
        facts: shapes and values of `graph`.
        analysis: its groups.
        notes: what happened on the way.
        normals: what BatchNormalization says of tensors in `original`; cleaning folds it away.
    """

    original: Graph
    graph: Graph
    facts: Facts
    analysis: Analysis
    notes: tuple[str, ...] = ()
    normals: Mapping[str, Normal] = field(default_factory=dict)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of `graph` for one sample, with the sizes that are known."""
        shapes = infer(self.graph, {**self.facts.dims, **one_sample(self.graph)})
        return sum(macs(self.graph, shapes).values())


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
    """Load, clean and analyse a model.

    Args:
        model: a file, or a graph.
        simplify: clean the graph first; the result is checked in ONNX Runtime.
        granularity: what may go of attention: heads or width.
        allow_approximate: channels may go that a normalisation runs over; that is not exact.
        keep: patterns (`*`, `?`) of names of nodes or weights, whose channels must stay.
        dims: sizes of symbolic dimensions with which the model runs; others are guessed.
        progress: told what begins.

    Raises:
        InputError: the model can't be read or run.
        UsageError: a pattern of `keep` names nothing.
    """
    original = model if isinstance(model, Graph) else load(model)
    require_finite(original)
    check_dims(symbolic_dims(original), dims or {})
    graph, notes = original, []
    if simplify:
        progress("Cleaning the graph")
        try:
            graph, note = cleaned(original, infer(original, dims))
        except InputError as error:
            raise with_hint_of_sizes(error, symbolic_dims(original).keys() - (dims or {}).keys()) from None
        notes += [note] if note else []
        growth = graph.size() / original.size()
        if growth > GROWTH:
            reason = "what the model computes from constants is stored instead"
            notes.append(f"cleaning makes the file {growth:.1f} times as large ({reason}): see --no-simplify")
    progress("Analysing channels")
    with blaming(original, dims):
        graph = folded(graph)
        facts = infer(graph, dims)
        resolved = with_known_branches(graph, facts)
        if resolved is not graph:
            graph, facts = resolved, infer(resolved, dims)
        analysis = analyze(graph, facts, granularity=granularity, approximate=allow_approximate)
        analysis, idle = without(analysis, keep, original, graph)
        return Prepared(original, graph, facts, analysis, (*notes, *idle), normals(original))


def require_groups(ready: Prepared) -> None:
    """Refuse a model without channels that can go.

    Raises:
        Infeasible: it has none; the message names what blocks the widest layer, and what would unblock it.
    """
    if ready.analysis.groups:
        return
    where = ready.original.where
    if not ready.analysis.blocked:
        raise Infeasible("no layer has channels that could be removed", where=where)
    largest = max(ready.analysis.blocked, key=lambda b: b.channels)
    cause, nodes = largest.cause, ready.graph.nodes
    by = str(nodes[cause.by]) if cause.by >= 0 else "the graph's end"
    reason = f"nothing can be pruned: {nodes[largest.node]} is blocked at {by}: {cause.reason}"
    raise Infeasible(reason, where=where, hint=f"what would unblock it: {cause.unblock}")
