"""`--keep`: what a user names of a model keeps its channels."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from functools import partial

import numpy as np

from ..contracts.analysis import Analysis
from ..errors import UsageError
from ..graph import Graph
from ..reductions.channels.weights import prepares, readers
from ..types import Cause
from .stuck import blocked


def without(
    analysis: Analysis, patterns: Sequence[str], original: Graph, graph: Graph
) -> tuple[Analysis, list[str]]:
    """The analysis without groups that have channels in what nodes of such names make, or of such weights.

    Args:
        analysis: of `graph`.
        patterns: of names, with `*` and `?`.
        original: where users read names.
        graph: what became of it; names may be gone.

    Returns:
        The analysis, and notes on patterns that make no difference.

    Raises:
        UsageError: nothing has such a name.
    """
    left, notes = analysis, []
    for pattern in patterns:
        made = _made(graph, pattern) | _surviving(original, graph, _made(original, pattern))
        if not made:
            hint = "'onnxprune inspect' lists the nodes"
            raise UsageError("no node or weight has such a name", where=f"--keep {pattern}", hint=hint)
        named = np.zeros(analysis.count, bool)
        for name in made:
            for place in analysis.tensors.get(name, ()):
                named[place.units] = True
        if not any(named[group.units].any() for group in analysis.groups):
            notes.append(f"--keep {pattern} makes no difference: nothing could go there")
        left = blocked(left, named, partial(_cause, pattern))
    return left, notes


def fits(name: str, pattern: str) -> bool:
    """Whether a pattern means a name: one without wildcards, too, that holds brackets."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def _cause(pattern: str, node: int) -> Cause:
    return Cause(node, f"is kept by --keep {pattern}", "leaving that out")


def _made(graph: Graph, pattern: str) -> set[str]:
    """What is computed by nodes of such a name, or with constants of such a name."""
    prepared = {name for name in graph.constants if fits(name, pattern)}
    nodes = set()
    for node in graph.nodes:
        if fits(node.name or node.outputs[0], pattern):
            if prepares(graph, node, prepared):
                prepared.update(filter(None, node.outputs))
            else:
                nodes.add(node.index)
    return {name for index in nodes | readers(graph, prepared) for name in graph.nodes[index].outputs if name}


def _surviving(original: Graph, graph: Graph, names: set[str]) -> set[str]:
    """These tensors, or where one is gone (into a layer that was fused), the first after it that are not."""
    wanted, seen, found = sorted(names), set(names), set()
    while wanted:
        name = wanted.pop()
        if name in graph.producer:
            found.add(name)
            continue
        new = {o for node, _ in original.readers.get(name, ()) for o in node.outputs if o} - seen
        seen |= new
        wanted += sorted(new)
    return found
