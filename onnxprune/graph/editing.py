"""Edits, carried out on a copy."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from .apart import LARGE, is_plain, refer
from .core import OPTIONAL_INPUTS, Array, Edits, Graph


def tensor_of(array: Array, name: str, held: dict[str, Array] | None = None) -> TensorProto:
    """The array as an initializer.

    Args:
        array: its value.
        name: its name.
        held: takes a large value, to which the initializer then refers only.
    """
    array = np.asarray(array, order="C")
    elem = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    if held is None or array.nbytes < LARGE or not is_plain(elem):
        return numpy_helper.from_array(array, name)
    held[name] = array
    made = TensorProto(name=name, data_type=elem, dims=array.shape)
    refer(made)
    return made


def applied(graph: Graph, edits: Edits, held: dict[str, Array] | None = None) -> ModelProto:
    """The model of a graph with the edits carried out.

    Args:
        graph: the graph.
        edits: what to change.
        held: takes large values of new and changed initializers by name; without it they are in the model.
    """
    model = copy.deepcopy(graph.model)
    proto = model.graph
    initializers = {t.name: t for t in proto.initializer}
    taken = set(initializers) | {o for n in proto.node for o in n.output} | {v.name for v in proto.input}
    for name, array in edits.constants.items():
        target = initializers.get(name)
        if target is None:
            n = proto.node[graph.producer[name].index]
            del n.attribute[:]
            n.attribute.append(onnx.helper.make_attribute("value", tensor_of(array, name)))
        else:
            doc = target.doc_string
            target.CopyFrom(tensor_of(array, name, held))
            target.doc_string = doc
        for v in [*proto.input, *proto.value_info]:
            if v.name == name:
                _resize(v, dict(enumerate(array.shape)))
    for name, array in edits.added.items():
        proto.initializer.append(tensor_of(array, name, held))
        taken.add(name)
    _put_literals(graph, proto, edits, taken, held)
    for (index, i), name in edits.rewire.items():
        n = proto.node[index]
        n.input.extend([""] * (i + 1 - len(n.input)))
        n.input[i] = name
    for (index, key), value in edits.attrs.items():
        n = proto.node[index]
        kept = [a for a in n.attribute if a.name != key]
        del n.attribute[:]
        n.attribute.extend(kept)
        if value is not None:
            n.attribute.append(onnx.helper.make_attribute(key, value))
    for index, array in edits.folded.items():
        proto.initializer.append(tensor_of(array, proto.node[index].output[0], held))
    if edits.folded or edits.before or edits.replaced:
        nodes: list[NodeProto] = []
        for index, n in enumerate(proto.node):
            nodes += edits.before.get(index, [])
            nodes += edits.replaced.get(index, [] if index in edits.folded else [n])
        nodes = [copy.deepcopy(n) for n in nodes]
        del proto.node[:]
        proto.node.extend(nodes)
    for v in [*proto.input, *proto.value_info, *proto.output]:
        if v.name in edits.shapes:
            _resize(v, edits.shapes[v.name])
    _drop_unread(proto, graph, edits)
    return model


def _put_literals(
    graph: Graph, proto: GraphProto, edits: Edits, taken: set[str], held: dict[str, Array] | None
) -> None:
    """Values that one input alone reads: under the old name, if nothing else reads that."""
    initializers = {t.name: t for t in proto.initializer}
    for (index, i), array in edits.literals.items():
        n = proto.node[index]
        old = n.input[i] if i < len(n.input) else ""
        if old in initializers and _is_read_once(graph, old, edits):
            initializers[old].CopyFrom(tensor_of(array, old, held))
            continue
        name = _fresh_name(f"{old or n.output[0]}.pruned", taken)
        proto.initializer.append(tensor_of(array, name, held))
        n.input.extend([""] * (i + 1 - len(n.input)))
        n.input[i] = name


def _is_read_once(graph: Graph, name: str, edits: Edits) -> bool:
    """Whether a constant has one reader, now and with the nodes that are inserted."""
    added = [*edits.before.values(), *edits.replaced.values()]
    inserted = any(name in n.input for nodes in added for n in nodes)
    optional = graph.model.ir_version >= OPTIONAL_INPUTS
    given = optional and any(v.name == name for v in graph.model.graph.input)
    listed = name in graph.outputs or given
    return len(graph.readers[name]) == 1 and not inserted and not listed and name not in edits.rewire.values()


def _fresh_name(base: str, taken: set[str]) -> str:
    name, k = base, 0
    while name in taken:
        k += 1
        name = f"{base}.{k}"
    taken.add(name)
    return name


def _resize(value: onnx.ValueInfoProto, lengths: Mapping[int, int]) -> None:
    dims = value.type.tensor_type.shape.dim
    for axis, length in lengths.items():
        if axis < len(dims) and dims[axis].HasField("dim_value"):
            dims[axis].dim_value = length


def _drop_unread(proto: GraphProto, graph: Graph, edits: Edits) -> None:
    """Constants and nodes that only the replaced inputs read would be dead weight."""
    replaced = [*edits.literals, *edits.rewire]
    unread = {graph.nodes[n].inputs[i] for n, i in replaced if i < len(graph.nodes[n].inputs)}
    unread |= {i for n in (*edits.folded, *edits.replaced) for i in graph.nodes[n].inputs}
    kept = {c for node in graph.nodes for c in node.captured} | {v.name for v in proto.output}
    while unread:
        read = kept | {i for n in proto.node for i in n.input}
        unread -= read
        dead = [k for k, n in enumerate(proto.node) if unread & set(n.output) and not read & set(n.output)]
        again = {i for k in dead for i in proto.node[k].input}
        for index in reversed(dead):
            del proto.node[index]
        for values in (proto.initializer, proto.input):
            for index in reversed(range(len(values))):
                if values[index].name in unread and values[index].name in graph.constants:
                    del values[index]
        unread = again


def make_node(op: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attrs: Any) -> NodeProto:
    """A node to insert; `op` may read `domain:Type`."""
    domain, _, kind = op.rpartition(":")
    return onnx.helper.make_node(kind, list(inputs), list(outputs), name=name, domain=domain, **attrs)
