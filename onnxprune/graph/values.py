"""Values of single nodes, as far as they follow from constants and shapes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto, numpy_helper

from .core import VALUE_TYPES, Array, Graph, Node, Shape

if TYPE_CHECKING:
    from onnx.reference import ReferenceEvaluator

VALUE_LIMIT = 1 << 14
"""Tensors of more elements than this are data, never shape arithmetic."""


def is_value(data_type: int, shape: Shape) -> bool:
    """Whether a constant may take part in shape arithmetic: small integers, or a lone number."""
    size = int(np.prod(shape, dtype=np.int64))
    return (data_type in VALUE_TYPES and size <= VALUE_LIMIT) or (
        size == 1 and data_type != TensorProto.STRING
    )


_NEVER_EVALUATED = frozenset(
    {
        "Shape",
        "Size",
        "If",
        "Loop",
        "Scan",
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
    }
)


def evaluate(
    graph: Graph, node: Node, shapes: Mapping[str, Shape | None], values: Mapping[str, Array]
) -> list[Array] | None:
    """The outputs of a node of shape arithmetic, or `None` where they are not known."""
    if node.op in ("Shape", "Size"):
        shape = shapes.get(node.inputs[0])
        if shape is None:
            return None
        if node.op == "Size":
            return [np.asarray(np.prod(shape, dtype=np.int64))]
        return [np.asarray(shape[node.attrs.get("start", 0) : node.attrs.get("end", len(shape))], np.int64)]
    if ":" in node.op or node.op in _NEVER_EVALUATED or not node.outputs or node.captured:
        return None
    if not all(i in values for i in node.inputs if i):
        return None
    if node.op == "ConstantOfShape" and np.prod(values[node.inputs[0]], dtype=np.float64) > VALUE_LIMIT:
        return None
    if node.op == "Expand" and np.prod(values[node.inputs[1]], dtype=np.float64) > VALUE_LIMIT:
        return None
    proto = graph.model.graph.node[node.index]
    try:
        run = _evaluator(_anonymous(proto), graph.opset())
        names = [f"i{k}" for k, i in enumerate(node.inputs) if i]
        outputs = run.run(None, dict(zip(names, (values[i] for i in node.inputs if i), strict=True)))
    except Exception:  # the reference evaluator lacks some operators; then the value is not known
        return None
    return [np.asarray(o) for o in outputs]


def filling(node: Node) -> Array:
    """The one number that a ConstantOfShape writes everywhere."""
    value = node.attrs.get("value")
    return np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)


def _anonymous(proto: NodeProto) -> bytes:
    n = NodeProto()
    n.CopyFrom(proto)
    n.name = n.doc_string = ""
    n.ClearField("metadata_props")
    for k, name in enumerate(proto.input):
        n.input[k] = f"i{k}" if name else ""
    for k, name in enumerate(proto.output):
        n.output[k] = f"o{k}" if name else ""
    return n.SerializeToString(deterministic=True)


@functools.lru_cache(maxsize=4096)
def _evaluator(data: bytes, opset: int) -> ReferenceEvaluator:
    from onnx.reference import ReferenceEvaluator

    n = NodeProto()
    n.ParseFromString(data)
    inputs = [onnx.helper.make_value_info(i, TypeProto()) for i in n.input if i]
    outputs = [onnx.helper.make_value_info(o, TypeProto()) for o in n.output if o]
    graph = onnx.helper.make_graph([n], "node", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return ReferenceEvaluator(model)
