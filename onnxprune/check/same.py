"""Whether two models are the same graph, whatever their weights and the names in them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

import numpy as np

from ..graph import Array, Graph, body_graphs, is_value


def structure(graph: Graph) -> str:
    """SHA-256 of what a graph computes apart from the values of its weights.

    Tensors go by the order in which they first appear, so names don't matter; integers that may be shape
    arithmetic are part of the structure, and so is every attribute.
    """
    digest = hashlib.sha256()
    number: dict[str, int] = {}

    def refer(name: str) -> str:
        if not name:
            return "-"
        first = name not in number
        index = number.setdefault(name, len(number))
        return f"{index}:{_constant(graph, name)}" if first and name in graph.constants else str(index)

    for value in graph.model.graph.input:
        if value.name not in graph.constants:
            refer(value.name)
            digest.update(value.type.SerializeToString(deterministic=True))
    for node, proto in zip(graph.nodes, graph.model.graph.node, strict=True):
        if node.outputs and node.outputs[0] in graph.constants:
            continue  # a Constant node: listed where it is read
        plain = [a for a in proto.attribute if not a.HasField("g") and not a.graphs]
        attributes = sorted(a.SerializeToString(deterministic=True) for a in plain)
        attributes += [f"{name}:{structure(body)}".encode() for name, body in body_graphs(graph, node)]
        links = (
            [refer(name) for name in (*node.inputs, *node.captured)],
            [refer(name) for name in node.outputs],
        )
        digest.update(repr((node.op, graph.opset(node.op.rpartition(":")[0]), attributes, links)).encode())
    digest.update(repr([refer(name) for name in graph.outputs]).encode())
    return digest.hexdigest()


def different_weights(old: Graph, new: Graph) -> tuple[int, int]:
    """How many weights differ, of how many, in two graphs of the same structure. Reads one at a time."""
    pairs = list(zip(_weights(old, {}), _weights(new, {}), strict=True))
    differ = sum(not np.array_equal(_bits(*a), _bits(*b)) for a, b in pairs)
    return differ, len(pairs)


def _weights(graph: Graph, seen: dict[int, object]) -> Iterator[tuple[Graph, str]]:
    """Constants in the order in which they are read, in bodies too; `seen`: those listed, by identity."""

    def new(names: Iterable[str]) -> Iterator[tuple[Graph, str]]:
        for name in names:
            if name in graph.constants and id(graph.constants[name]) not in seen:
                seen[id(graph.constants[name])] = graph.constants[name]
                yield graph, name

    for node in graph.nodes:
        yield from new((*node.inputs, *node.captured))
        for _, body in body_graphs(graph, node):
            yield from _weights(body, seen)
    yield from new(graph.outputs)


def _constant(graph: Graph, name: str) -> str:
    shape, dtype = graph.shape_of_constant(name), graph.dtype(name)
    integer = re.match(r"u?int|bool", dtype.name) is not None
    value = graph.array(name).tolist() if integer and is_value(graph.constants[name].data_type, shape) else ""
    return f"{dtype.name}{shape}{value}"


def _bits(graph: Graph, name: str) -> Array:
    """The bytes of a constant: NaN equals itself, and 0.0 is not −0.0."""
    return np.frombuffer(graph.array(name).tobytes(), np.uint8)
