"""Which lengths are fixed, and which follow the symbolic dimensions of the inputs."""

from __future__ import annotations

from collections.abc import Iterable

from ..graph import Facts, Graph, Shape, infer, symbolic_dims

Lengths = tuple[int | None, ...]
"""A length for each axis; `None` where it depends on a symbolic dimension."""

_MORE_SAMPLES, _MORE_POSITIONS = 2, 32


def fixed_lengths(graph: Graph, facts: Facts) -> dict[str, Lengths]:
    """The lengths of every tensor whose rank is known.

    A length is fixed if inference gives the same for other symbolic dimensions.
    """
    known: dict[str, Shape] = {name: s for name, s in facts.shapes.items() if s is not None}
    symbols = symbolic_dims(graph)
    if not symbols:
        return dict(known)
    other = infer(graph, {s: _other(facts.dims[s], axis) for s, (_, axis) in symbols.items()}).shapes
    return {name: _common(shape, other.get(name)) for name, shape in known.items()}


def dependent_tensors(graph: Graph, sources: Iterable[str]) -> set[str]:
    """Some tensors, and all that depend on their values; on lengths alone nothing does."""
    found = set(sources)
    for node in graph.nodes:
        if node.op not in ("Shape", "Size") and any(i in found for i in (*node.inputs, *node.captured)):
            found.update(o for o in node.outputs if o)
    return found


def sizes(shape: Shape, lengths: Lengths) -> list[int] | None:
    """A shape to write into a Reshape; `None` where it has to be computed."""
    if 0 in shape:
        return None
    if lengths.count(None) > 1:
        return None
    return [-1 if n is None else n for n in lengths]


def summed_axes(source: Lengths, result: Lengths) -> tuple[int, ...]:
    """Axes of a broadcast result to sum over for the gradient of one of its operands."""
    lead = len(result) - len(source)
    repeated = (lead + a for a, n in enumerate(source) if n == 1 and result[lead + a] != 1)
    return (*range(lead), *repeated)


def _other(length: int, axis: int) -> int:
    return length + (_MORE_SAMPLES if axis == 0 else _MORE_POSITIONS)


def _common(shape: Shape, other: Shape | None) -> Lengths:
    if other is None or len(other) != len(shape):
        return (None,) * len(shape)
    return tuple(a if a == b else None for a, b in zip(shape, other, strict=True))
