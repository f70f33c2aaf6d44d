"""Weights that the graph computes, as constants: what surgery slices must be there to be sliced.

Exporters leave weight standardisation, weight normalisation and the packing of recurrent weights in the
graph. What only rearranges constants is left alone, for channel ids flow through it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..contracts.rewrite import NotApplied
from ..errors import InputError
from ..execution.sessions import open_session
from ..graph import Edits, Graph, Network, Node, of_constants
from ..ops import elementwise, index, layout, recurrent

_FOLLOWED = frozenset({*layout.RULES, *index.RULES, *elementwise.RULES, "DequantizeLinear", "QuantizeLinear"})
"""Operators that channel ids flow through well enough on the way from a constant to its reader."""


@dataclass(frozen=True)
class ComputedWeights:
    """Weights that the graph computes become constants."""

    name: str = "folding computed weights"

    def __call__(self, network: Network) -> Network:
        """See `Rewrite`."""
        graph = network.graph
        nodes = list(_computed(graph))
        if not nodes:
            return network
        names = [n.outputs[0] for n in nodes]
        try:
            values = open_session(of_constants(graph, names)).run({})
        except InputError as error:
            raise NotApplied(f"ONNX Runtime can't compute them ({error.reason})") from error
        return network.edited(Edits(folded={n.index: values[n.outputs[0]] for n in nodes}))


def _computed(graph: Graph) -> Iterable[Node]:
    """The last nodes of computations on constants alone that rules can't follow."""
    constant = set(graph.constants)
    hard: set[str] = set()
    for node in graph.nodes:
        if node.op == "Constant" or not node.inputs or node.captured:
            continue
        inputs = [i for i in node.inputs if i]
        if all(i in constant for i in inputs):
            constant.update(node.outputs)
            if node.op not in _FOLLOWED or any(i in hard for i in inputs):
                hard.update(node.outputs)
    for node in graph.nodes:
        name = node.outputs[0] if len(node.outputs) == 1 else ""
        if name not in constant or name in graph.constants:
            continue
        readers = [reader for reader, _ in graph.readers.get(name, [])]
        leaves = [r for r in readers if not r.outputs or r.outputs[0] not in constant]
        needed = name in hard or any(r.op in recurrent.RULES for r in leaves)
        if leaves and needed and name not in graph.outputs:
            yield node
