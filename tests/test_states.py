"""States that the caller keeps, made narrower where it can follow."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import Net, run
from onnx import helper
from test_recurrent import GATES, HIDDEN, model_of, streaming

from onnxprune import cli
from onnxprune.errors import UsageError
from onnxprune.graph import Graph, infer
from onnxprune.pipeline import apply, prune
from onnxprune.rewrites.states import State, states


def lstm() -> onnx.ModelProto:
    """Both states of one layer, given and read as they are; what follows reads the new hidden state."""
    n = Net("lstm")
    weights = [n.weight(1, 4 * HIDDEN, width) for width in (3, HIDDEN)]
    n.node("LSTM", "x", *weights, None, None, "h0", "c0", outputs=3, hidden_size=HIDDEN)
    n._nodes[-1].output[1], n._nodes[-1].output[2] = "h1", "c1"
    n._nodes.append(helper.make_node("MatMul", ["h1", n.const(n.weight(HIDDEN, 4))], ["y"]))
    state = (1, n.B, HIDDEN)
    outputs = {"y": (1, n.B, 4), "h1": state, "c1": state}
    return model_of(n, outputs, {"x": (n.H, n.B, 3), "h0": state, "c0": state})


MODELS = {**{kind: lambda k=kind: streaming(Net(k), k) for kind in GATES}, "both": lstm}


def fed(model: onnx.ModelProto, seed: int = 0, width: int | None = None) -> dict[str, np.ndarray]:
    random, feeds = np.random.default_rng(seed), {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        feeds[value.name] = random.standard_normal(shape).astype(np.float32)
    return feeds


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("calibrated", [False, True], ids=["weights alone", "samples"])
def test_states_become_narrower(name, calibrated):
    model = MODELS[name]()
    calib = [fed(model, seed) for seed in range(12)] if calibrated else None
    result = prune(
        Graph(model),
        ratio=0.5,
        allow_state=True,
        calib=calib,
        repair="none",
        force=True,
        measure_latency=False,
    )
    assert result.verdict.exact
    small = result.model
    onnx.checker.check_model(small, full_check=True)
    pairs = states(Graph(model), infer(Graph(model)))
    assert pairs
    for pair in pairs:
        values = {v.name: v for v in (*small.graph.input, *small.graph.output)}
        widths = {values[n].type.tensor_type.shape.dim[2].dim_value for n in (pair.given, pair.made)}
        assert widths == {HIDDEN // 2}
    assert any("states are narrower, as inputs and as outputs" in w for w in result.verdict.warnings)
    assert result.verdict.after.params == Graph(small).parameters()
    assert not any(".kept" in t.name for t in small.graph.initializer)
    feeds = fed(small, 5)
    for _ in range(2):  # the caller feeds back what it got
        found = dict(zip([o.name for o in small.graph.output], run(small, feeds), strict=True))
        feeds |= {pair.given: found[pair.made] for pair in pairs}
    assert all(np.isfinite(a).all() for a in found.values())


def test_repair_makes_up_for_what_goes():
    model = lstm()
    calib = [fed(model, seed) for seed in range(60)]
    result = prune(Graph(model), ratio=0.5, allow_state=True, calib=calib, force=True, measure_latency=False)
    assert result.repaired.mode == "fold"
    widths = {v.name: v.type.tensor_type.shape.dim[2].dim_value for v in result.model.graph.input}
    assert (widths["h0"], widths["c0"], widths["x"]) == (HIDDEN // 2, HIDDEN // 2, 3)


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(lstm(), "m.onnx")
    options = ["--ratio", "0.5", "--allow-state", "--force"]
    assert cli.run(["prune", "m.onnx", "-o", "o.onnx", *options, "--plan-out", "p.json"]) == 0
    assert (
        "note: states are narrower, as inputs and as outputs: 'h0' has 3 entries" in capsys.readouterr().out
    )
    assert cli.run(["apply", "m.onnx", "p.json", "-o", "again.onnx"]) == 0
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "o.onnx").read_bytes()


def test_without_the_option_they_stay():
    model = streaming(Net("GRU"), "GRU")
    result = prune(Graph(model), ratio=0.5, repair="none", force=True, measure_latency=False)
    assert list(result.model.graph.input) == list(model.graph.input)


def test_a_plan_replays_it():
    model = streaming(Net("GRU"), "GRU")
    options = {"force": True, "measure_latency": False}
    made = prune(Graph(model), ratio=0.5, allow_state=True, **options)
    again = apply(Graph(model), made.plan, measure_latency=False)
    assert made.plan.options["allow_state"] is True
    assert again.graph.serialized() == made.graph.serialized()


def test_where_there_is_no_state_that_is_told():
    n = Net("none")
    n.output(n.gemm(n.Relu(n.gemm(n.input("batch", 6), 16)), 3))
    found = prune(Graph(n.finished()), ratio=0.5, allow_state=True, force=True, measure_latency=False)
    assert any("narrowing states was skipped: no state" in w for w in found.verdict.warnings)


def test_masks_keep_every_shape():
    with pytest.raises(UsageError, match="--allow-state"):
        prune(Graph(lstm()), ratio=0.5, allow_state=True, masked=True)


def test_what_belongs_together_is_found():
    graph = Graph(lstm())
    assert set(states(graph, infer(graph))) == {State("h0", "h1"), State("c0", "c1")}
