"""Branches whose condition is known take the place of their If."""

from __future__ import annotations

import copy

import onnx
from onnx import GraphProto, NodeProto

from .core import Graph
from .facts import Facts
from .nesting import rename


def with_known_branches(graph: Graph, facts: Facts) -> Graph:
    """The graph with each If of known condition replaced by the branch that it takes."""
    taken = {
        n.index: n.attrs["then_branch" if facts.values[n.inputs[0]].item() else "else_branch"]
        for n in graph.nodes
        if n.op == "If" and n.inputs[0] in facts.values and not facts.is_dynamic(n.inputs[0])
    }
    if not taken:
        return graph
    model = copy.deepcopy(graph.model)
    nodes: list[NodeProto] = []
    for index, n in enumerate(model.graph.node):
        nodes += _branch(model.graph, n, taken[index]) if index in taken else [copy.deepcopy(n)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return Graph(model, graph.path, graph.held)


def _branch(proto: GraphProto, n: NodeProto, body: GraphProto) -> list[NodeProto]:
    """The nodes of a branch, under names of their own; its initializers go to the graph."""
    names = {o: f"{n.output[0]}/{o}" for b in body.node for o in b.output if o}
    names |= {t.name: f"{n.output[0]}/{t.name}" for t in body.initializer}
    result = []
    for t in body.initializer:
        moved = proto.initializer.add()
        moved.CopyFrom(t)
        moved.name = names[t.name]
    for b in body.node:
        node = NodeProto()
        node.CopyFrom(b)
        rename(node, names)
        result.append(node)
    for inner, outer in zip(body.output, n.output, strict=True):
        result.append(
            onnx.helper.make_node(
                "Identity", [names.get(inner.name, inner.name)], [outer], name=f"{outer}/taken"
            )
        )
    return result
