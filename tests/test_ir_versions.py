"""Files of IR versions before 4, which list every initializer among the inputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import Net, run
from onnx import helper
from surgery import operate

import onnxprune
from onnxprune import pipeline
from onnxprune.graph import Edits, Graph, Network
from onnxprune.reductions.channels.mask import masked


def network(*, listed: bool = True) -> onnx.ModelProto:
    n = Net("old", opset=8)
    x = n.GlobalAveragePool(n.Relu(n.conv(n.input(1, 3, 8, 8), 16, (3, 3))))
    n.output(n.gemm(n.Reshape(x, [-1, 16]), 10))
    model = n.finished()
    model.ir_version = 3
    for tensor in model.graph.initializer if listed else ():
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def samples() -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    name = network().graph.input[0].name
    return [{name: random.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(40)]


def is_valid(model: onnx.ModelProto) -> bool:
    onnx.checker.check_model(model, full_check=True)
    named = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    return model.ir_version == 3 and all(named[t.name] == [*t.dims] for t in model.graph.initializer)


@pytest.mark.parametrize("simplify", [True, False])
@pytest.mark.parametrize("repair", ["none", "auto"])
def test_what_is_written_is_valid(simplify: bool, repair: str) -> None:
    calib = samples() if repair == "auto" else None
    graph = Graph(network())
    given = graph.inputs
    result = onnxprune.prune(
        graph, ratio=0.5, calib=calib, simplify=simplify, repair=repair, force=True, measure_latency=False
    )
    assert is_valid(result.model)
    assert result.graph.inputs == given
    assert result.verdict.after.params < 0.6 * result.verdict.before.params


def test_names_stay() -> None:
    surgery = operate(network())
    before, after = ({t.name for t in m.model.graph.initializer} for m in (surgery.original, surgery.pruned))
    assert before == after
    assert surgery.removed
    assert is_valid(surgery.pruned.model)
    graph = surgery.original
    around = Network(graph)
    reference = masked(around, surgery.analysis, surgery.kept).model
    expected, found = (run(m, samples()[0])[0] for m in (reference, surgery.pruned.model))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_statistics_are_gathered(tmp_path) -> None:
    onnx.save(network(), tmp_path / "m.onnx")
    ready = pipeline.prepare(tmp_path / "m.onnx")
    found = onnxprune.prune(ready.graph, ratio=0.5, calib=samples(), criterion="obs", measure_latency=False)
    assert found.verdict.exact


def test_new_initializers_are_listed() -> None:
    graph = Graph(network(listed=False))
    assert is_valid(graph.model)
    edited = graph.edited(Edits(added={"more": np.zeros((2, 3), np.float32)}))
    assert is_valid(edited.model)
    assert edited.inputs == graph.inputs
