"""Graphs within graphs: the bodies of If, Loop and Scan, as they are in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper


def bodies(n: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The attributes of a node that are graphs, by name."""
    for a in n.attribute:
        for body in [a.g] if a.type == AttributeProto.GRAPH else a.graphs:
            yield a.name, body


def nested(proto: GraphProto) -> Iterator[GraphProto]:
    """Every body in a graph, those in bodies as well; each before what is in it."""
    for n in proto.node:
        for _, body in bodies(n):
            yield body
            yield from nested(body)


def own_names(body: GraphProto) -> set[str]:
    """The tensors that a graph defines itself."""
    return (
        {v.name for v in body.input}
        | {t.name for t in body.initializer}
        | {o for n in body.node for o in n.output if o}
    )


def captures(body: GraphProto) -> list[str]:
    """Outer tensors that a body reads, or that bodies in it read."""
    own = own_names(body)
    read = [i for n in body.node for i in n.input] + [v.name for v in body.output]
    inner = [name for n in body.node for _, b in bodies(n) for name in captures(b)]
    return [name for name in dict.fromkeys(read + inner) if name and name not in own]


def tensors(proto: GraphProto) -> Iterator[TensorProto]:
    """The constants of a graph: initializers, and those of Constant nodes under the name of their output."""
    yield from proto.initializer
    for n in proto.node:
        if n.op_type == "Constant" and (tensor := constant(n)) is not None:
            yield tensor


def constant(n: NodeProto) -> TensorProto | None:
    """The tensor of a Constant node, if it is one of numbers."""
    for a in n.attribute:
        if a.name == "value":
            return a.t
        if a.name.startswith("value_") and a.name not in ("value_string", "value_strings"):
            value = onnx.helper.get_attribute_value(a)
            dtype = np.int64 if a.name.startswith("value_int") else np.float32
            return numpy_helper.from_array(np.asarray(value, dtype), n.output[0])
    return None


def rename(node: NodeProto, names: Mapping[str, str]) -> None:
    """Tensor names of a node and of the bodies it holds; what a body defines itself hides outer names."""
    for field_ in (node.input, node.output):
        for k, name in enumerate(field_):
            field_[k] = names.get(name, name)
    for _, body in bodies(node):
        own = own_names(body)
        outer = {k: v for k, v in names.items() if k not in own}
        for b in body.node:
            rename(b, outer)
        for v in body.output:
            v.name = outer.get(v.name, v.name)
