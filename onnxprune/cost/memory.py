"""Peak memory of a run: weights, and the activations that are alive at the same time."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Facts, Graph, Node, bodies_of, nbytes, nbytes_of


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
    that do so, without their scratch space. While a body of If, Loop or Scan runs, its own tensors live, too.

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
    unknown = sum(size is None for size in sizes.values())
    for node in graph.nodes:
        inside, left_out = _inside(graph, facts, node)
        unknown += left_out
        alive += sum(sizes.get(name) or 0 for name in node.outputs if name)
        if alive + inside > worst or at < 0:
            worst, at = alive + inside, node.index
        alive -= sum(sizes[name] or 0 for name in dying.get(node.index, ()))
    return Peak(sum(nbytes_of(tensor) for tensor in graph.tensors()), worst, at, unknown)


def _inside(graph: Graph, facts: Facts, node: Node) -> tuple[int, int]:
    """Bytes that the bodies of a node need beside what lives around them, and tensors of unknown size there.

    What a branch gives is counted as the output of its If.
    """
    most = unknown = 0
    for body in bodies_of(graph, facts, node):
        found = peak(body.graph, body.facts)
        names = [*body.graph.inputs, *(body.graph.outputs if node.op == "If" else ())]
        most = max(
            most, found.activations - sum(_size(body.facts, name) or 0 for name in dict.fromkeys(names))
        )
        unknown += found.unknown - sum(_size(body.facts, name) is None for name in body.graph.inputs)
    return most, unknown


def _size(facts: Facts, name: str) -> int | None:
    shape, dtype = facts.shapes.get(name), facts.dtypes.get(name)
    return None if shape is None or dtype is None else nbytes(dtype, shape)
