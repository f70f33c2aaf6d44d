"""`--keep`: what a user names of a model keeps its units."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from ..contracts.reduction import Space
from ..errors import UsageError
from ..graph import Graph, prepares, readers_of
from ..types import Cause


def kept_by_name(
    spaces: Sequence[Space], patterns: Sequence[str], original: Graph, graph: Graph
) -> tuple[tuple[Space, ...], tuple[str, ...]]:
    """Spaces without groups that have units in what nodes of such names make, or of such weights.

    Args:
        spaces: of `graph`.
        patterns: of names, with `*` and `?`.
        original: where users read names.
        graph: what became of it; names may be gone.

    Returns:
        The spaces, and notes on patterns that make no difference.

    Raises:
        UsageError: nothing has such a name.
    """
    notes: list[str] = []
    for pattern in patterns:
        made = _made(graph, pattern) | _surviving(original, graph, _made(original, pattern))
        if not made:
            hint = "'onnxprune inspect' lists the nodes"
            raise UsageError("no node or weight has such a name", where=f"--keep {pattern}", hint=hint)
        named = [space.at(made) for space in spaces]
        if not any(named):
            notes.append(f"--keep {pattern} makes no difference: nothing could go there")
        cause = Cause(-1, f"is kept by --keep {pattern}", "leaving that out")
        spaces = [
            space.without(ids, cause) if ids else space for space, ids in zip(spaces, named, strict=True)
        ]
    return tuple(spaces), tuple(notes)


def fits(name: str, pattern: str) -> bool:
    """Whether a pattern means a name: one without wildcards, too, that holds brackets."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


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
    found = nodes | readers_of(graph, prepared)
    return {name for index in found for name in graph.nodes[index].outputs if name}


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
