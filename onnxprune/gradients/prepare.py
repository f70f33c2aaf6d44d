"""What is done to a graph before it is differentiated; none of it changes what it computes.

- An If whose condition is known is replaced by the branch that it takes; one that only chooses between
  tensors becomes a Where.
- A list of parts becomes a Split (`sequences`).
- float16 and bfloat16 become float32. A gradient is that of the function which such a network rounds:
  products of many small numbers would vanish in 16 bits, and ONNX Runtime's CPU kernels compute in 32 anyway.
- A recurrent layer gives the states of all its steps.
- A BatchNormalization behind a convolution goes into its weights (`folding`).
- Small depthwise convolutions become products of matrices where their weights move (`depthwise`).
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import numpy as np

from ..errors import Infeasible
from ..graph import Array, Facts, Graph, choice, infer, make_node, with_known_branches
from ..graph.editing import tensor_of
from .assembly import blank
from .depthwise import with_small_depthwise
from .folding import with_folded_norms
from .lengths import dependent_tensors
from .sequences import with_splits
from .tape import ELEMENT_TYPES

_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
_FLOAT = ELEMENT_TYPES["float32"]
_NARROW = frozenset({ELEMENT_TYPES["float16"], ELEMENT_TYPES["bfloat16"]})
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype"})


def prepared(
    graph: Graph, facts: Facts, moving: Collection[str] = (), asked: Collection[str] = ()
) -> tuple[Graph, Facts]:
    """The graph that is differentiated, and its facts; the same ones if there is nothing to do.

    Args:
        graph: the network.
        facts: its shapes.
        moving: constants that will be inputs.
        asked: tensors whose nodes must stay as they are.

    Raises:
        Infeasible: it computes with 16 bits inside of loops or branches.
    """
    for change in (
        lambda g, f: _branched(g, f, moving),
        _chosen,
        with_splits,
        lambda g, _: _widened(g),
        lambda g, _: _with_states(g),
        lambda g, f: with_folded_norms(g, f, asked),
        lambda g, f: with_small_depthwise(g, f, moving, asked),
    ):
        changed = change(graph, facts)
        if changed is not graph:
            graph, facts = changed, infer(changed, facts.dims)
    return graph, facts


def _branched(graph: Graph, facts: Facts, moving: Collection[str]) -> Graph:
    """The graph without branches that are known, unless weights that move decide about one."""
    depends = dependent_tensors(graph, moving)
    decided = any(n.op == "If" and n.inputs[0] in depends for n in graph.nodes)
    return graph if decided else with_known_branches(graph, facts)


def _chosen(graph: Graph, facts: Facts) -> Graph:
    """The graph with a Where for each If that does nothing but choose between two tensors of one shape."""
    choosers = {
        node.index: pairs
        for node in graph.nodes
        if (pairs := choice(node)) is not None
        and all(facts.shapes.get(a) and facts.shapes.get(a) == facts.shapes.get(b) for a, b in pairs)
    }
    if not choosers:
        return graph
    model = copy.deepcopy(graph.model)
    del model.graph.node[:]
    for index, node in enumerate(graph.model.graph.node):
        if index not in choosers:
            model.graph.node.append(node)
            continue
        for (taken, other), output in zip(choosers[index], node.output, strict=False):
            if output:
                model.graph.node.append(make_node("Where", [node.input[0], taken, other], [output], output))
    return Graph(model, graph.path, graph.held)


def _with_states(graph: Graph) -> Graph:
    lacking = [n for n in graph.nodes if n.op in _RECURRENT and not n.outputs[0]]
    if not lacking:
        return graph
    model = copy.deepcopy(graph.model)
    for node in lacking:
        other = next(o for o in node.outputs if o)
        model.graph.node[node.index].output[0] = f"{other}/states"
    return Graph(model, graph.path, graph.held)


def _widened(graph: Graph) -> Graph:
    """The graph in float32 where it is in fewer bits."""
    if not _is_narrow(graph):
        return graph
    if any(n.captured for n in graph.nodes):
        reason = "computes with 16 bits around loops or branches"
        raise Infeasible(reason, where=graph.where, hint="convert it to float32 first")
    model = copy.deepcopy(graph.model)
    proto = model.graph
    for tensor in proto.initializer:
        _widen_tensor(tensor, graph.array(tensor.name) if tensor.data_type in _NARROW else None)
    for node in proto.node:
        for a in node.attribute:
            if a.name in _TYPE_ATTRIBUTES and a.i in _NARROW:
                a.i = _FLOAT
            elif a.HasField("t") and a.t.data_type in _NARROW:
                known = graph.array(node.output[0]) if node.op_type == "Constant" else None
                _widen_tensor(a.t, known if known is not None else _value_of(graph, node))
    for value in [*proto.value_info, *proto.output]:
        if value.type.tensor_type.elem_type in _NARROW:
            value.type.tensor_type.elem_type = _FLOAT
    _cast_inputs(proto, graph)
    return Graph(model, graph.path, graph.held)


def _is_narrow(graph: Graph) -> bool:
    proto = graph.model.graph
    inputs = any(v.type.tensor_type.elem_type in _NARROW for v in proto.input)
    casts = any(a.name in _TYPE_ATTRIBUTES and a.i in _NARROW for n in proto.node for a in n.attribute)
    return inputs or casts or any(t.data_type in _NARROW for t in graph.constants.values())


def _widen_tensor(tensor: Any, value: Array | None) -> None:
    if value is not None:
        tensor.CopyFrom(tensor_of(value.astype(np.float32), tensor.name))


def _value_of(graph: Graph, node: Any) -> Array:
    """What a ConstantOfShape fills in."""
    holder = blank(graph, "value").model
    tensor = holder.graph.initializer.add()
    tensor.CopyFrom(node.attribute[0].t)
    tensor.name = "value"
    return Graph(holder, graph.path, graph.held).array("value")


def _cast_inputs(proto: Any, graph: Graph) -> None:
    """Inputs keep their type: the contract with those who feed them."""
    narrow = [
        v.name for v in proto.input if v.name in graph.inputs and v.type.tensor_type.elem_type in _NARROW
    ]
    wide = {name: f"{name}/float32" for name in narrow}
    for node in proto.node:
        for k, name in enumerate(node.input):
            node.input[k] = wide.get(name, name)
    casts = [make_node("Cast", [name], [target], target, to=_FLOAT) for name, target in wide.items()]
    nodes = [*casts, *(copy.deepcopy(n) for n in proto.node)]
    del proto.node[:]
    proto.node.extend(nodes)
    for value in proto.input:
        if value.name not in graph.inputs and value.type.tensor_type.elem_type in _NARROW:
            value.type.tensor_type.elem_type = _FLOAT
