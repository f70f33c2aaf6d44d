"""Peak memory of a run: weights, and the activations that are alive at the same time."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Facts, Graph, nbytes


@dataclass(frozen=True)
class Peak:
    """What a run needs at its worst moment.

    Attributes:
        weights: bytes of all constants.
        activations: bytes of inputs, outputs and intermediate tensors at that moment.
        node: index of the node that runs then; -1 in a graph without nodes.
        unknown: how many tensors were left out because their size isn't known.
    """

    weights: int
    activations: int
    node: int
    unknown: int

    @property
    def total(self) -> int:
        """Bytes."""
        return self.weights + self.activations


def peak(graph: Graph, facts: Facts) -> Peak:
    """Walk the graph in its order and add up what is alive.

    Inputs live all the time, since the caller owns them; outputs from their node to the end; other tensors
    from their node until their last reader has run. Nothing is computed in place: an upper bound for runtimes
    that do so, without their scratch space.

    Args:
        graph: the graph, its nodes sorted as ONNX demands.
        facts: its shapes and dtypes, for the sizes that were chosen for symbolic dimensions.
    """
    sizes = {
        name: _size(facts, name) for name in [*graph.inputs, *graph.producer] if name not in graph.constants
    }
    last = {name: max(reader.index for reader, _ in readers) for name, readers in graph.readers.items()}
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    dying: dict[int, list[str]] = {}
    for name, producer in graph.producer.items():
        if name in sizes:
            dying.setdefault(last.get(name, producer.index), []).append(name)

    alive = worst = sum(sizes[name] or 0 for name in graph.inputs)
    at = -1
    for node in graph.nodes:
        alive += sum(sizes.get(name) or 0 for name in node.outputs if name)
        if alive > worst or at < 0:
            worst, at = alive, node.index
        alive -= sum(sizes[name] or 0 for name in dying.get(node.index, ()))
    unknown = sum(size is None for size in sizes.values())
    return Peak(sum(graph.nbytes(name) for name in graph.constants), worst, at, unknown)


def _size(facts: Facts, name: str) -> int | None:
    shape, dtype = facts.shapes.get(name), facts.dtypes.get(name)
    return None if shape is None or dtype is None else nbytes(dtype, shape)
