"""Which nodes are timed together: a node that does real work, and what a runtime fuses into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cost.macs import macs as count_macs
from ..cost.rate import boundary, traffic
from ..graph import Facts, Graph, Node, cut
from ..ops import elementwise

_FOLLOWERS = frozenset(elementwise.RULES) | {
    "BatchNormalization",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
}


@dataclass(frozen=True)
class TimedLayer:
    """Nodes that are timed together.

    Attributes:
        name: of the first output of the first of them: it is the same in a narrower graph.
        nodes: in the order of the graph.
        macs: multiply-accumulates.
        traffic: bytes that pass in and out, weights too.
        key: all that its time depends on but the machine: operators, attributes, shapes and dtypes.
    """

    name: str
    nodes: tuple[Node, ...]
    macs: int
    traffic: int
    key: str

    @property
    def title(self) -> str:
        """The name of the first node, for people."""
        return self.nodes[0].name or self.nodes[0].outputs[0]

    @property
    def ops(self) -> str:
        """Its operators: `Conv+BatchNormalization+Relu`."""
        return "+".join(node.op for node in self.nodes)

    def alone(self, graph: Graph, facts: Facts) -> bytes:
        """A model of this layer only.

        Raises:
            InputError: the shape of an input isn't known.
        """
        return cut(graph, self.nodes, facts).serialized()


def layers(graph: Graph, facts: Facts) -> tuple[TimedLayer, ...]:
    """Every node that runs, in layers; shape arithmetic and constants cost nothing and are left out.

    A cheap node joins the layer that makes the last of its inputs, so that an activation of several nodes
    (SiLU as Sigmoid and Mul) and a residual Add stay with the layer that ONNX Runtime fuses them into.
    """
    costs = count_macs(graph, facts)
    members: list[list[Node]] = []
    home: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "Constant" or all(o in facts.values for o in node.outputs if o):
            continue
        makers = [home[i] for i in node.inputs if i in home]
        if node.op in _FOLLOWERS and makers:
            index = max(makers, key=lambda m: members[m][-1].index)
            members[index].append(node)
        else:
            index = len(members)
            members.append([node])
        home.update((o, index) for o in node.outputs if o)
    return tuple(_layer(graph, facts, nodes, costs) for nodes in members)


def _layer(graph: Graph, facts: Facts, nodes: Sequence[Node], costs: Mapping[int, int]) -> TimedLayer:
    return TimedLayer(
        name=next(o for o in nodes[0].outputs if o),
        nodes=tuple(nodes),
        macs=sum(costs.get(node.index, 0) for node in nodes),
        traffic=sum(traffic(graph, facts, name) for name in boundary(graph, nodes)),
        key=_key(graph, facts, nodes),
    )


def _key(graph: Graph, facts: Facts, nodes: Sequence[Node]) -> str:
    """Names are replaced by numbers, so that equal layers of one network are measured once."""
    number: dict[str, int] = {}

    def tensor(name: str) -> str:
        if not name:
            return "-"
        known = name in number
        index = number.setdefault(name, len(number))
        if known:
            return f"t{index}"
        shape = graph.shape_of_constant(name) if name in graph.constants else facts.shapes.get(name)
        dtype = graph.dtype(name) if name in graph.constants else facts.dtypes.get(name, "?")
        kind = "c" if name in graph.constants else "t"
        value = facts.values.get(name)
        said = f"={value.tolist()}" if value is not None and value.size <= 16 else ""
        return f"{kind}{index}:{dtype}[{'?' if shape is None else ','.join(map(str, shape))}]{said}"

    parts = []
    for node in nodes:
        attributes = ",".join(f"{k}={_spelled(v)}" for k, v in sorted(node.attrs.items()))
        inputs, outputs = map(tensor, node.inputs), map(tensor, node.outputs)
        parts.append(f"{node.op}({attributes}) {' '.join(inputs)} -> {' '.join(outputs)}")
    opsets = {node.op.rpartition(":")[0] for node in nodes}
    versions = ",".join(f"{domain or 'onnx'}{graph.opset(domain)}" for domain in sorted(opsets))
    return f"{versions}; " + "; ".join(parts)


def _spelled(value: Any) -> str:
    return str(value.tolist()) if isinstance(value, np.ndarray) else " ".join(str(value).split())
