"""What a graph costs to run."""

from __future__ import annotations

from ..graph import Facts, Graph, Network
from ..ops import MACS


def macs(graph: Graph, facts: Facts) -> dict[int, int]:
    """Multiply-accumulates of every node that multiplies, by node index, for the batch that `facts` assumes.

    Nodes whose shapes are not known are left out.
    """
    result: dict[int, int] = {}
    for node in graph.nodes:
        rule = MACS.get(node.op)
        if rule is None:
            continue
        inputs = [facts.shapes.get(i) if i else () for i in node.inputs]
        outputs = [facts.shapes.get(o) if o else () for o in node.outputs]
        if all(s is not None for s in inputs + outputs):
            result[node.index] = rule(node, [s or () for s in inputs], [s or () for s in outputs])
    return result


def one_sample_macs(network: Network) -> int:
    """Multiply-accumulates of a network for one sample, at the other sizes that it is at."""
    one = network.of_one_sample
    return network.cached("one sample's MACs", lambda _: sum(macs(one.graph, one.facts).values()))
