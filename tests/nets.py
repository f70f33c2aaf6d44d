"""Small models for tests, built one call per node: `n.Relu(n.conv())`.

Tensors are names. What is not a name becomes an initializer: floats as float32, integers as int64. The
reader of the result is chosen by its rank, so that a test of an operator is that operator and its inputs.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Dims:
    """Batch, channels, height (or time) and width of what a test starts from."""

    B: int
    C: int
    H: int
    W: int


PRIMES = Dims(2, 7, 5, 3)
"""A wrong axis shows: nothing has the right length by accident."""
SQUARE = Dims(4, 4, 4, 4)
"""A wrong axis hides: every length fits everywhere."""

DOMAINS = {"": 1, "com.microsoft": 1}


class Net:
    """A model under construction.

    Args:
        seed: of all weights, in words.
        dims: lengths that the test builds with.
        opset: of the standard domain.
    """

    def __init__(self, seed: str, dims: Dims = PRIMES, opset: int = 17) -> None:
        self.B, self.C, self.H, self.W = dims.B, dims.C, dims.H, dims.W
        self.opset = opset
        self.random = np.random.default_rng(zlib.crc32(seed.encode()))
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._feeds: dict[str, np.ndarray] = {}
        self._outputs: list[str] = []
        self._count = 0
        self.symbols: dict[str, int] = {}

    # ------------------------------------------------------------ tensors

    def name(self, base: str) -> str:
        self._count += 1
        return f"{base}{self._count}"

    def weight(self, *shape: int) -> np.ndarray:
        """Random values, no two alike."""
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 1.0
        return (self.random.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)

    def positive(self, *shape: int) -> np.ndarray:
        return self.random.uniform(0.5, 1.5, shape).astype(np.float32)

    def const(self, value: Any, name: str | None = None) -> str:
        """An initializer."""
        array = np.asarray(value)
        if not isinstance(value, np.ndarray | np.generic):
            array = array.astype(
                np.int64 if array.dtype.kind in "iu" else np.float32 if array.dtype.kind == "f" else bool
            )
        name = name or self.name("w")
        self._initializers.append(numpy_helper.from_array(array, name))
        return name

    def input(self, *shape: int | str, feed: np.ndarray | None = None) -> str:
        """A graph input. A symbolic axis is a batch of B."""
        name = self.name("x")
        concrete = [self.symbols.setdefault(d, self.B) if isinstance(d, str) else d for d in shape]
        array = self.random.standard_normal(concrete).astype(np.float32) if feed is None else feed
        self._inputs.append(
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), shape or array.shape
            )
        )
        self._feeds[name] = array
        return name

    def node(self, kind: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Any node; `kind` may read `domain:Type`. Returns the name of its output, or a tuple of names."""
        domain, _, op = kind.rpartition(":")
        names = [i if isinstance(i, str) else "" if i is None else self.const(i) for i in inputs]
        made = [self.name(op.lower()) for _ in range(outputs)]
        self._nodes.append(helper.make_node(op, names, made, name=self.name(op), domain=domain, **attributes))
        return made[0] if outputs == 1 else tuple(made)

    def __getattr__(self, kind: str) -> Any:
        if not kind[0].isupper():
            raise AttributeError(kind)
        return lambda *inputs, **attributes: self.node(kind, *inputs, **attributes)

    def microsoft(self, kind: str, *inputs: Any, **attributes: Any) -> Any:
        return self.node(f"com.microsoft:{kind}", *inputs, **attributes)

    # ------------------------------------------------------------ layers

    def conv(
        self,
        x: str | None = None,
        out: int | None = None,
        kernel: tuple[int, ...] = (1, 1),
        **attributes: Any,
    ) -> str:
        """A convolution with bias; of a new input (B, 3, H, W) if none is given."""
        if x is None:
            x = self.input(self.B, 3, *(self.H, self.W, 3)[: len(kernel)])
        channels = self.shape(x)[1] // attributes.get("group", 1)
        w, b = self.weight(out or self.C, channels, *kernel), self.weight(out or self.C)
        return str(self.node("Conv", x, w, b, **attributes))

    def dense(self, x: str | None = None, out: int | None = None) -> str:
        """MatMul and Add on the last axis; of a new input (B, H, 3) if none is given."""
        x = x or self.input(self.B, self.H, 3)
        product = self.node("MatMul", x, self.weight(out or self.C, self.shape(x)[-1]).T)
        return str(self.node("Add", product, self.weight(out or self.C)))

    def gemm(self, x: str | None = None, out: int | None = None) -> str:
        """A fully connected layer; of a new input (B, 3) if none is given."""
        x = x or self.input(self.B, 3)
        w = self.weight(out or self.C, self.shape(x)[-1])
        return str(self.node("Gemm", x, w, self.weight(out or self.C), transB=1))

    def read(self, x: str, axis: int | None = None) -> str:
        """Read a tensor along its channels, and make the result a graph output."""
        value = self.value(x)
        if value.dtype != np.float32:
            x = self.node("Cast", x, to=TensorProto.FLOAT)
        axis = axis if axis is not None else (1 if value.ndim > 3 else -1)
        if axis == -1 and value.ndim == 2:
            y = self.gemm(x, 6)
        elif axis == -1:
            y = self.dense(x, 6)
        else:
            y = self.conv(x, 6, kernel=(1,) * (value.ndim - 2))
        self._outputs.append(y)
        return y

    def output(self, x: str) -> None:
        """Make a tensor a graph output as it is."""
        self._outputs.append(x)

    # ------------------------------------------------------------ the model

    def feeds(self) -> list[dict[str, np.ndarray]]:
        """Random values of the inputs; a second time with a larger batch where that is symbolic."""
        twice = {
            k: np.concatenate([v, v[::-1]]) if self._is_symbolic(k) else v for k, v in self._feeds.items()
        }
        return [self._feeds, twice] if self.symbols else [self._feeds]

    def _is_symbolic(self, name: str) -> bool:
        return any(i.name == name and i.type.tensor_type.shape.dim[0].dim_param for i in self._inputs)

    def model(self, outputs: list[str] | None = None) -> onnx.ModelProto:
        """The model so far."""
        names = self._outputs if outputs is None else outputs
        values = [onnx.ValueInfoProto(name=name) for name in names]
        graph = helper.make_graph(self._nodes, "net", self._inputs, values, self._initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8 if self.opset < 21 else 10)

    def value(self, x: str) -> np.ndarray:
        """What a tensor is for the random inputs."""
        for tensor in self._initializers:
            if tensor.name == x:
                return np.asarray(numpy_helper.to_array(tensor))
        if x in self._feeds:
            return self._feeds[x]
        return np.asarray(run(self.model([x]), self._feeds)[0])

    def shape(self, x: str) -> tuple[int, ...]:
        return self.value(x).shape

    def finished(self) -> onnx.ModelProto:
        """The model, its outputs declared with dtype and shape as exporters do."""
        model = self.model()
        for info, value in zip(model.graph.output, run(model, self._feeds), strict=True):
            elem = helper.np_dtype_to_tensor_dtype(value.dtype)
            info.CopyFrom(helper.make_tensor_value_info(info.name, elem, value.shape))
        return model


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs in ONNX Runtime, which is to run the graph as it is written."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    return session.run(None, {k: v for k, v in feeds.items() if k in wanted})
