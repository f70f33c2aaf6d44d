"""What operators take: how many inputs and outputs, and which attributes of which type."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import onnx
from onnx import AttributeProto

_MANY = 2**31 - 1


@dataclass(frozen=True)
class Signature:
    """The form of an operator's nodes.

    Attributes:
        inputs: the fewest and the most.
        outputs: the fewest and the most.
        needed: indices of inputs that can't be left out, nor be empty.
        types: attribute -> its `AttributeProto.AttributeType`, where that is known.
        required: attributes that must be there.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    needed: frozenset[int] = frozenset()
    types: Mapping[str, int] = field(default_factory=dict)
    required: frozenset[str] = frozenset()


@functools.lru_cache(maxsize=1024)
def signature(op: str, version: int, domain: str = "") -> Signature | None:
    """The form of an operator; `None` for one that is not known.

    Args:
        op: its type.
        version: of the operator set that the model imports.
        domain: empty for the standard one.
    """
    if domain == "com.microsoft":
        return _MICROSOFT.get(op)
    try:
        schema = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    return Signature(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        frozenset(i for i, formal in enumerate(schema.inputs) if formal.option == single),
        MappingProxyType({name: _attribute_type(a) for name, a in schema.attributes.items()}),
        frozenset(name for name, a in schema.attributes.items() if a.required),
    )


def _attribute_type(attribute: onnx.defs.OpSchema.Attribute) -> int:
    return AttributeProto.AttributeType.Value(str(attribute.type).rpartition(".")[2])


_INT, _INTS, _FLOAT = AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT
_STRING, _STRINGS = AttributeProto.STRING, AttributeProto.STRINGS


_Types = Mapping[str, int]


def _contrib(
    inputs: tuple[int, int],
    needed: tuple[int, ...],
    outputs: tuple[int, int] = (1, 1),
    types: _Types = MappingProxyType({}),
) -> Signature:
    return Signature(inputs, outputs, frozenset(needed), types)


_HEADS: _Types = {"num_heads": _INT, "unidirectional": _INT, "scale": _FLOAT, "do_rotary": _INT}
_WINDOW: _Types = {
    "pads": _INTS,
    "strides": _INTS,
    "kernel_shape": _INTS,
    "auto_pad": _STRING,
    "ceil_mode": _INT,
}
_RECURRENT: _Types = {
    "hidden_size": _INT,
    "direction": _STRING,
    "activations": _STRINGS,
    "input_forget": _INT,
}
_GEMM: _Types = {"transA": _INT, "transB": _INT, "alpha": _FLOAT, "beta": _FLOAT}

# onnx knows the standard domains only. These are the operators of ONNX Runtime that rules read, as its own
# registry says them (`get_all_operator_schema`); a test compares.
_MICROSOFT: Mapping[str, Signature] = MappingProxyType(
    {
        "Attention": _contrib((2, 7), (0, 1), (1, 2), {**_HEADS, "qkv_hidden_sizes": _INTS}),
        "BiasGelu": _contrib((2, 2), (0, 1)),
        "DequantizeLinear": _contrib((2, 3), (0, 1), (1, 1), {"axis": _INT, "block_size": _INT}),
        "DynamicQuantizeLSTM": _contrib((12, 12), (0, 1, 2, 8, 9, 10, 11), (0, 3), _RECURRENT),
        "DynamicQuantizeMatMul": _contrib((3, 5), (0, 1, 2)),
        "EmbedLayerNormalization": _contrib((7, 9), (0, 2, 3, 5, 6), (1, 3), {"epsilon": _FLOAT}),
        "FastGelu": _contrib((1, 2), (0,)),
        "FusedConv": _contrib(
            (2, 4), (0, 1), (1, 1), {**_WINDOW, "group": _INT, "dilations": _INTS, "activation": _STRING}
        ),
        "FusedGemm": _contrib((2, 3), (0, 1), (1, 1), {**_GEMM, "activation": _STRING}),
        "FusedMatMul": _contrib(
            (2, 2),
            (0, 1),
            (1, 1),
            {"transA": _INT, "transB": _INT, "transBatchA": _INT, "transBatchB": _INT, "alpha": _FLOAT},
        ),
        "Gelu": _contrib((1, 1), (0,)),
        "GroupQueryAttention": _contrib((7, 17), (0, 5, 6), (1, 4), {**_HEADS, "kv_num_heads": _INT}),
        "MatMulIntegerToFloat": _contrib((4, 7), (0, 1, 2, 3)),
        "MatMulNBits": _contrib(
            (3, 6), (0, 1, 2), (1, 1), {"K": _INT, "N": _INT, "bits": _INT, "block_size": _INT}
        ),
        "MultiHeadAttention": _contrib((1, 10), (0,), (1, 4), _HEADS),
        "QAttention": _contrib((5, 9), (0, 1, 2, 3, 4), (1, 2), _HEADS),
        "QGemm": _contrib((6, 9), (0, 1, 2, 3, 4, 5), (1, 1), _GEMM),
        "QLinearAdd": _contrib((7, 8), (0, 1, 3, 4, 6)),
        "QLinearAveragePool": _contrib((4, 5), (0, 1, 3), (1, 1), {**_WINDOW, "channels_last": _INT}),
        "QLinearConcat": _contrib((3, _MANY), (0, 1), (1, 1), {"axis": _INT}),
        "QLinearGlobalAveragePool": _contrib((5, 5), (0, 1, 2, 3, 4), (1, 1), {"channels_last": _INT}),
        "QLinearLeakyRelu": _contrib((4, 5), (0, 1, 3), (1, 1), {"alpha": _FLOAT}),
        "QLinearMul": _contrib((7, 8), (0, 1, 3, 4, 6)),
        "QLinearSigmoid": _contrib((4, 5), (0, 1, 3)),
        "QuantizeLinear": _contrib((2, 3), (0, 1), (1, 1), {"axis": _INT, "block_size": _INT}),
        "QuickGelu": _contrib((1, 1), (0,), (1, 1), {"alpha": _FLOAT}),
        "RotaryEmbedding": _contrib(
            (4, 4), (0, 1, 2, 3), (1, 1), {"num_heads": _INT, "rotary_embedding_dim": _INT}
        ),
        "SkipLayerNormalization": _contrib((3, 5), (0, 1, 2), (1, 4), {"epsilon": _FLOAT}),
        "SkipSimplifiedLayerNormalization": _contrib((3, 4), (0, 1, 2), (1, 4), {"epsilon": _FLOAT}),
    }
)
