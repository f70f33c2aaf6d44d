"""Surgery on networks that make so much of rounding that their outputs can't be compared."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import Net, run

import onnxprune
from onnxprune.errors import ProofFailed
from onnxprune.graph import Edits, Graph
from onnxprune.reductions.channels.cut import recorded

WIDTH = 24


def chaotic(turns: int = 40) -> Net:
    """Layers around a logistic map, which doubles every difference at every turn."""
    n = Net("chaos", opset=17)
    x = n.Sigmoid(n.conv(n.Relu(n.conv(n.input(2, 3, 6, 6), WIDTH)), WIDTH))
    for _ in range(turns):
        x = n.Mul(n.Mul(x, n.Sub(1.0, x)), 3.99)
    n.output(n.conv(n.Relu(n.conv(x, WIDTH)), 5))
    return n


def prune(model: onnx.ModelProto, **options):
    options = {"ratio": 0.5, "simplify": False, "repair": "none", "measure_latency": False, **options}
    return onnxprune.prune(Graph(model), **options)


def test_outputs_say_nothing_about_them() -> None:
    n = chaotic()
    near = {k: v * np.float32(1 + 1e-6) for k, v in n.feeds()[0].items()}
    a, b = (run(n.finished(), feeds)[0] for feeds in (n.feeds()[0], near))
    assert np.abs(a - b).max() > 0.05 * np.abs(a).max()


def test_their_surgery_is_proved_step_by_step() -> None:
    result = prune(chaotic().finished())
    assert result.verdict.exact
    assert result.verdict.surgery_error < 1e-3
    assert result.verdict.after.params < 0.4 * result.verdict.before.params


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_one_wrong_weight_is_found_and_named(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []

    def wrong(*arguments):
        graph, record = recorded(*arguments)
        node = [node for node in graph.nodes if node.op == "Conv"][which]
        names.append(node.name)
        array = graph.array(node.inputs[1]).copy()
        array.flat[array.size // 2] += 0.2
        return graph.edited(Edits(constants={node.inputs[1]: array})), record

    monkeypatch.setattr("onnxprune.reductions.channels.space.recorded", wrong)
    with pytest.raises(ProofFailed, match="the surgery is not exact: Conv") as raised:
        prune(chaotic().finished())
    assert names[-1] in str(raised.value)


def test_a_shuffled_weight_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments):
        graph, record = recorded(*arguments)
        node = [node for node in graph.nodes if node.op == "Conv"][2]
        return graph.edited(Edits(constants={node.inputs[1]: graph.array(node.inputs[1])[:, ::-1]})), record

    monkeypatch.setattr("onnxprune.reductions.channels.space.recorded", wrong)
    with pytest.raises(ProofFailed, match="the surgery is not exact: Conv"):
        prune(chaotic().finished())
