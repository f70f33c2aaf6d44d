"""Small good files that mutations start from: models of many kinds, and what commands read beside them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]

OPSET = 17


class _Net:
    """Nodes and weights, under names that count up."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._rng = np.random.default_rng(0)

    def const(self, value: Array | np.generic) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def w(self, *shape: int) -> str:
        return self.const((self._rng.standard_normal(shape) / 4).astype(np.float32))

    def i(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        domain, _, op = kind.rpartition(":")
        made = [f"t{len(self.nodes)}_{k}" for k in range(outputs)]
        node = helper.make_node(op, inputs, made, name=f"n{len(self.nodes)}", domain=domain, **attributes)
        self.nodes.append(node)
        return made[0]

    def model(self, inputs: Mapping[str, list[int | str]], *outputs: str) -> ModelProto:
        make = helper.make_tensor_value_info
        given = [make(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
        made = [make(name, TensorProto.FLOAT, None) for name in outputs]
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        graph = helper.make_graph(self.nodes, "seed", given, made, self.weights)
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


IMAGE: list[int | str] = ["batch", 3, 8, 8]


def convolutions() -> ModelProto:
    """BatchNormalization, a depthwise layer, a residual sum, a Concat, a pool and a head."""
    n = _Net()
    x = n.op("Conv", "x", n.w(8, 3, 3, 3), n.w(8), pads=[1] * 4)
    x = n.op("BatchNormalization", x, n.w(8), n.w(8), n.w(8), n.const(np.ones(8, np.float32)))
    a = n.op("Relu", x)
    b = n.op("Conv", a, n.w(8, 1, 3, 3), pads=[1] * 4, group=8)
    c = n.op("Add", a, n.op("Conv", b, n.w(8, 8, 1, 1)))
    d = n.op("Concat", c, n.op("Conv", a, n.w(4, 8, 1, 1)), axis=1)
    e = n.op("ConvTranspose", d, n.w(12, 6, 2, 2), strides=[2, 2])
    y = n.op("Flatten", n.op("GlobalAveragePool", n.op("MaxPool", e, kernel_shape=[2, 2], strides=[2, 2])))
    return n.model({"x": IMAGE}, n.op("Gemm", y, n.w(5, 6), n.w(5), transB=1))


def attention() -> ModelProto:
    """Heads by Reshape and Transpose, Softmax, LayerNormalization, shape arithmetic."""
    n = _Net()
    size = n.op("Gather", n.op("Shape", "x"), n.i(1), axis=0)
    shape = n.op("Concat", n.i(0), size, n.i(2, 4), axis=0)
    q, k, v = (
        n.op("Transpose", n.op("Reshape", n.op("MatMul", "x", n.w(8, 8)), shape), perm=[0, 2, 1, 3])
        for _ in range(3)
    )
    scores = n.op("Softmax", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    mixed = n.op("Reshape", n.op("Transpose", n.op("MatMul", scores, v), perm=[0, 2, 1, 3]), n.i(0, 0, 8))
    x = n.op("LayerNormalization", n.op("Add", "x", n.op("MatMul", mixed, n.w(8, 8))), n.w(8), n.w(8))
    inner = n.op("com.microsoft:Gelu", n.op("Add", n.op("MatMul", x, n.w(8, 16)), n.w(16)))
    return n.model({"x": ["batch", "time", 8]}, n.op("MatMul", inner, n.w(16, 4)))


def recurrent() -> ModelProto:
    """An LSTM of both directions and a GRU."""
    n = _Net()
    x = n.op("LSTM", "x", n.w(2, 24, 5), n.w(2, 24, 6), n.w(2, 48), hidden_size=6, direction="bidirectional")
    x = n.op("Reshape", n.op("Transpose", x, perm=[0, 2, 1, 3]), n.i(0, 0, 12))
    x = n.op("GRU", x, n.w(1, 12, 12), n.w(1, 12, 4), hidden_size=4)
    return n.model({"x": ["time", "batch", 5]}, n.op("MatMul", n.op("Squeeze", x, n.i(1)), n.w(4, 3)))


def quantised() -> ModelProto:
    """QuantizeLinear around a Conv, QLinearConv, and a dynamically quantised product."""
    n = _Net()
    scale, zero = n.const(np.float32(0.1)), n.const(np.uint8(128))
    weight = n.const(np.arange(-108, 108, dtype=np.int8).reshape(8, 3, 3, 3))
    known = n.op("DequantizeLinear", weight, scale, n.const(np.int8(0)))
    x = n.op("QuantizeLinear", n.op("Conv", "x", known), scale, zero)
    packed = n.const(np.arange(32, dtype=np.int8).reshape(4, 8, 1, 1))
    x = n.op("QLinearConv", x, scale, zero, packed, scale, n.const(np.int8(0)), scale, zero)
    x = n.op("Flatten", n.op("GlobalAveragePool", n.op("DequantizeLinear", x, scale, zero)))
    product = n.const(np.arange(24, dtype=np.int8).reshape(4, 6))
    x = n.op("com.microsoft:DynamicQuantizeMatMul", x, product, scale, n.const(np.int8(0)))
    return n.model({"x": IMAGE}, x)


def branches() -> ModelProto:
    """An If with a layer in each branch, and a Loop."""
    n = _Net()
    x = n.op("Relu", n.op("Conv", "x", n.w(6, 3, 1, 1)))

    def body(kind: str, weight: str) -> GraphProto:
        out = helper.make_tensor_value_info(f"{kind}_out", TensorProto.FLOAT, None)
        node = helper.make_node("Conv", [x, weight], [f"{kind}_out"], name=kind)
        return helper.make_graph([node], kind, [], [out])

    weights = n.w(4, 6, 1, 1), n.w(4, 6, 1, 1)
    first = n.op("ReduceMax", "x", keepdims=0)
    condition = n.op("Greater", first, n.const(np.float32(0)))
    x2 = n.op("If", condition, then_branch=body("yes", weights[0]), else_branch=body("no", weights[1]))
    make = helper.make_tensor_value_info
    inner = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go2"]), helper.make_node("Neg", ["v"], ["v2"], name="neg")],
        "loop",
        [
            make("k", TensorProto.INT64, []),
            make("go", TensorProto.BOOL, []),
            make("v", TensorProto.FLOAT, None),
        ],
        [make("go2", TensorProto.BOOL, []), make("v2", TensorProto.FLOAT, None)],
    )
    trips, keep = n.const(np.int64(2)), n.const(np.array(True))
    y = n.op("Loop", trips, keep, x2, body=inner)
    return n.model({"x": IMAGE}, n.op("Conv", y, n.w(3, 4, 1, 1)))


def functions() -> ModelProto:
    """Local functions, one of which calls another, with an attribute of its own."""
    n = _Net()
    x = n.op("own:Twice", n.op("Conv", "x", n.w(6, 3, 1, 1)))
    model = n.model({"x": IMAGE}, n.op("Conv", x, n.w(4, 6, 1, 1)))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("own", 1)]
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.add(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope")
    once = helper.make_function("own", "Once", ["a"], ["b"], [leaky], opsets, ["slope"])
    calls = [helper.make_node("Once", [a], [b], domain="own", slope=0.1) for a, b in ("ab", "bc")]
    model.functions.extend([once, helper.make_function("own", "Twice", ["a"], ["c"], calls, opsets)])
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def layouts() -> ModelProto:
    """What moves channels about: Split, Slice, Pad, Resize, Expand, Where, Gather, Einsum, ReduceMean."""
    n = _Net()
    x = n.op("Conv", "x", n.w(8, 3, 1, 1))
    node = helper.make_node("Split", [x, n.i(3, 5)], ["s0", "s1"], name="split", axis=1)
    n.nodes.append(node)
    a = n.op("Pad", "s0", n.i(0, 0, 1, 1, 0, 0, 1, 1))
    b = n.op("Slice", "s1", n.i(1), n.i(4), n.i(1))
    c = n.op("Add", n.op("Resize", b, "", n.const(np.array([1, 1, 1.25, 1.25], np.float32))), a)
    c = n.op("Gather", c, n.i(2, 0, 1), axis=1)
    d = n.op(
        "Where",
        n.op("Greater", c, n.const(np.float32(0))),
        c,
        n.op("Expand", n.w(1, 3, 1, 1), n.i(1, 3, 1, 1)),
    )
    e = n.op("ReduceMean", d, axes=[2, 3], keepdims=0)
    return n.model({"x": IMAGE}, n.op("Einsum", e, n.w(3, 4), equation="bi,io->bo"))


MODELS: Mapping[str, Callable[[], ModelProto]] = MappingProxyType(
    {
        made.__name__: made
        for made in (convolutions, attention, recurrent, quantised, branches, functions, layouts)
    }
)


def samples(compressed: bool = False) -> bytes:
    """An npz for `convolutions`, with labels."""
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    write = np.savez_compressed if compressed else np.savez
    write(file, x=rng.standard_normal((6, 3, 8, 8)).astype(np.float32), labels=rng.integers(0, 5, 6))
    return file.getvalue()


def npy() -> bytes:
    """An npy file for `convolutions`."""
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32))
    return file.getvalue()


def tensor() -> bytes:
    """ONNX's test data for `convolutions`."""
    value = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    return numpy_helper.from_array(value, "x").SerializeToString()


def picture(kind: str) -> bytes:
    """A small image."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


CONFIG = """\
[check]
baseline = "baseline.json"
exclude = ["old/*"]

[[check.models]]
path = "*.onnx"
name = "net"
dims = { batch = 2 }
size = { relative = "+2%", absolute = "64 kB" }
macs = ["12 M", "+1%"]
peak-memory = { warn = "1 MB", fail = "+5%" }
opset = { min = 13, max = 20 }
operators = "baseline"
domains = ["ai.onnx", "com.*"]
dead-channels = 0
latency = "50 ms"
"""

TABLE = json.dumps(
    {
        "version": 1,
        "setting": {
            "provider": "CPUExecutionProvider",
            "threads": 0,
            "optimize": True,
            "runtime": "1.0",
            "cpu": "none",
        },
        "seconds": {"a": 0.001},
    }
)


def saved(name: str) -> bytes:
    """A seed model as a file."""
    return onnx.ModelProto.SerializeToString(MODELS[name](), deterministic=True)
