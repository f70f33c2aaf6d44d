"""Networks in the branches of an If, for tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from nets import Net
from onnx import TensorProto, helper

Build = Callable[[Net], str]


def body(n: Net, build: Build, name: str, *, seed: str = "") -> onnx.GraphProto:
    """A branch: nodes and weights of its own; it may use the tensors of `n`."""
    inner = Inner(n, seed or name)
    made = build(inner)
    outputs = [made] if isinstance(made, str) else list(made)
    infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
    return helper.make_graph(inner._nodes, name, [], infos, inner._initializers)


class Inner(Net):
    """The inside of a branch. Names begin anew, so that both branches have the same ones."""

    def __init__(self, outer: Net, seed: str) -> None:
        super().__init__(seed, opset=outer.opset)
        self.B, self.C, self.H, self.W = outer.B, outer.C, outer.H, outer.W
        self._outer = outer
        self._depth: int = getattr(outer, "_depth", 0) + 1

    def name(self, base: str) -> str:
        return f"in{self._depth}_{super().name(base)}"

    def shape(self, x: str) -> tuple[int, ...]:
        return self.value(x).shape

    def value(self, x: str) -> np.ndarray:
        known = {i.name for i in self._initializers} | {o for n in self._nodes for o in n.output}
        if x not in known:
            return self._outer.value(x)
        whole, around = Net("value", opset=self.opset), self
        while isinstance(around, Inner):
            whole._nodes = [*around._nodes, *whole._nodes]
            whole._initializers += around._initializers
            around = around._outer
        whole._nodes = [*around._nodes, *whole._nodes]
        whole._initializers += around._initializers
        whole._inputs, whole._feeds = around._inputs, around._feeds
        return whole.value(x)


def branch(
    n: Net, then: Build, other: Build, condition: str | None = None, outputs: int = 1
) -> str | tuple[str, ...]:
    """An If; by default its condition is an input, which is true."""
    condition = condition or n.input(1, feed=np.asarray([True]))
    sides = {"then_branch": body(n, then, "then"), "else_branch": body(n, other, "else")}
    return n.node("If", condition, outputs=outputs, **sides)


def both(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Feeds with which either branch is taken."""
    flag = next(k for k, v in feeds.items() if v.dtype == bool)
    return [{**feeds, flag: np.asarray([value])} for value in (True, False)]


def layers(n: Net, x: str, width: int, out: int) -> str:
    return str(n.conv(n.Relu(n.conv(x, width)), out))


def networks(*, width: int = 12) -> Net:
    """A layer before an If with a network in each branch, and one behind it."""
    n = Net("networks", opset=17)
    x = n.Relu(n.conv())
    y = branch(n, lambda m: layers(m, x, width, 6), lambda m: layers(m, x, width + 4, 6))
    n.output(n.conv(n.Relu(str(y)), 5))
    return n


def detector(*, hidden: int = 16, state: bool = True) -> Net:
    """As silero-vad: an If on the sample rate, with convolutions and an LSTM in each branch."""
    n = Net("detector", opset=16)
    sound = n.input(n.B, 128)
    rate = n.input(1, feed=np.asarray([16000], np.int64))
    h, c = (n.input(1, n.B, hidden) for _ in "hc")

    def side(m: Net, kernel: int) -> tuple[str, ...]:
        x = m.Unsqueeze(sound, [1])
        x = m.Relu(m.Conv(x, m.weight(24, 1, kernel), m.weight(24), strides=[8], pads=[kernel // 2] * 2))
        x = m.Relu(m.Conv(x, m.weight(20, 24, 3), m.weight(20), pads=[1, 1]))
        weights = [m.weight(1, 4 * hidden, width) for width in (20, hidden)]
        steps = m.Transpose(x, perm=[2, 0, 1])
        y, hn, cn = m.node(
            "LSTM", steps, *weights, m.weight(1, 8 * hidden), None, h, c, outputs=3, hidden_size=hidden
        )
        last = m.Squeeze(m.Slice(y, [-1], [2**31], [0]), [0, 1])
        return m.Sigmoid(m.Gemm(last, m.weight(hidden, 1), m.weight(1))), hn, cn

    condition = n.Equal(rate, np.asarray([16000]))
    made = branch(n, lambda m: side(m, 16), lambda m: side(m, 8), condition, outputs=3)
    for output in made if state else made[:1]:
        n.output(output)
    return n
