"""Models with networks in branches through the whole pipeline: smaller, proved exact, the If as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from branches import both, branch, detector, layers, networks
from nets import Net, run

import onnxprune
from onnxprune import pipeline
from onnxprune.errors import ProofFailed
from onnxprune.graph import Edits, Graph, decided, flattened, is_flattened
from onnxprune.reductions.channels.cut import recorded


def samples(net: Net, count: int = 24) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [
        {
            k: random.standard_normal(v.shape).astype(v.dtype) if v.dtype.kind == "f" else v
            for k, v in net.feeds()[0].items()
        }
        for _ in range(count)
    ]


def prune(net: Net, **options: Any) -> onnxprune.Result:
    options = {"ratio": 0.5, "force": True, "measure_latency": False, **options}
    result = onnxprune.prune(Graph(net.finished()), **options)
    onnx.checker.check_model(result.model, full_check=True)
    assert not is_flattened(result.graph)
    assert result.verdict.exact
    return result


OPTIONS: dict[str, dict[str, Any]] = {
    "ratio": {},
    "as it is": {"simplify": False, "repair": "none"},
    "multiplications": {"ratio": None, "macs": 0.6},
    "parameters": {"ratio": None, "params": 0.5},
    "bytes": {"ratio": None, "size": 0.7},
    "memory": {"ratio": None, "memory_peak": 0.9},
    "samples": {"calib": True},
    "samples and multiplications": {"calib": True, "ratio": None, "macs": 0.6},
    "layers added": {"calib": True, "repair": "reuse"},
    "slopes": {"calib": True, "criterion": "taylor"},
    "steps": {"calib": True, "ratio": None, "macs": 0.5, "steps": 2},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_networks_in_branches_become_smaller(name: str) -> None:
    net, options = networks(width=48), dict(OPTIONS[name])
    if options.pop("calib", False):
        options["calib"] = samples(net)
    result = prune(net, **options)
    before, after = result.verdict.before, result.verdict.after
    assert after.macs < before.macs
    if options.get("macs"):
        assert after.macs <= options["macs"] * before.macs
    assert Graph(result.model).operators()["If"] == 1
    if options.get("repair") != "reuse":
        assert [n.op_type for n in result.model.graph.node] == [n.op_type for n in net.finished().graph.node]
    for feeds in both(net.model(), net.feeds()[0]):
        assert run(result.model, feeds)[0].shape == run(net.model(), feeds)[0].shape


def test_a_detector_becomes_smaller() -> None:
    net = detector()
    result = prune(net, simplify=False, repair="none")
    before, after = (Graph(m) for m in (net.finished(), result.model))
    assert after.operators() == before.operators()
    assert after.parameters() < 0.9 * before.parameters()
    assert list(result.model.graph.input) == list(net.finished().graph.input)
    groups = {
        g.name.rpartition("_")[2][:4]: g
        for g in pipeline.prepare(Graph(net.finished()), simplify=False).channels.groups
    }
    assert set(groups) == {"Conv"}  # the state of the LSTM is the caller's
    for rate in (16000, 8000):
        feeds = {k: np.full_like(v, rate) if v.dtype == np.int64 else v for k, v in net.feeds()[0].items()}
        assert [o.shape for o in run(result.model, feeds)] == [o.shape for o in run(net.model(), feeds)]


def test_names_in_branches_stay() -> None:
    net = networks(width=48)
    result = prune(net, simplify=False, repair="none")

    def names(model: onnx.ModelProto) -> list[set[str]]:
        (chooser,) = [n for n in model.graph.node if n.op_type == "If"]
        return [
            {t.name for t in a.g.initializer} | {o for n in a.g.node for o in n.output}
            for a in sorted(chooser.attribute, key=lambda a: a.name)
        ]

    assert names(result.model) == names(net.finished())


def test_a_plan_is_replayed() -> None:
    net = networks(width=48)
    result = prune(net)
    again = onnxprune.apply(Graph(net.finished()), result.plan, measure_latency=False)
    assert again.model == result.model


def test_an_error_in_a_branch_that_is_not_taken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The condition of the model is true on any input that is drawn."""
    net = Net("hidden", opset=17)
    x = net.Relu(net.conv())
    flag = net.Greater(net.ReduceSum(x, keepdims=0), -1.0)
    net.output(str(branch(net, lambda m: layers(m, x, 24, 6), lambda m: layers(m, x, 24, 6), flag)))

    def wrong(*arguments: Any) -> Graph:
        graph, record = recorded(*arguments)
        weight = [n for n in graph.nodes if n.op == "Conv" and "else" in n.name][-1].inputs[1]
        return graph.edited(Edits(constants={weight: graph.array(weight) * np.float32(1.1)})), record

    assert prune(net, simplify=False).verdict.exact
    monkeypatch.setattr("onnxprune.reductions.channels.space.recorded", wrong)
    with pytest.raises(ProofFailed, match="the surgery is not exact"):
        prune(net, simplify=False)


def test_every_branch_is_decided_for_once() -> None:
    net = Net("deep", opset=17)
    x, flag = net.Relu(net.conv()), net.input(1, feed=np.asarray([True]))

    def inner(m: Net) -> str:
        return str(branch(m, lambda k: k.Neg(k.conv(x, 6)), lambda k: k.conv(x, 6), flag))

    net.output(str(branch(net, lambda m: m.conv(x, 6), inner, flag)))
    flat = flattened(Graph(net.finished()))
    results = [run(graph.model, net._feeds)[0] for graph in decided(flat)]
    distinct = {r.tobytes() for r in results}
    assert len(distinct) == 3
    plain = Graph(net.finished())
    assert [*decided(plain)] == [plain]


def test_branches_that_cannot_be_computed_side_by_side_stay_whole() -> None:
    """The branch that is not taken would fail on what this one gets."""
    net = Net("either", opset=17)
    x = net.Relu(net.conv())
    flag = net.Greater(net.ReduceSum(x, keepdims=0), -1.0)

    def other(m: Net) -> str:
        y = m.node("Reshape", x, m.const(np.asarray([1, 1, 1, 5], np.int64)))
        return str(m.node("Conv", y, m.weight(6, 1, 1, 1)))

    y = branch(net, lambda m: layers(m, x, 24, 6), other, flag)
    net.output(net.conv(net.Relu(str(y)), 5))
    model = net.finished()
    ready = pipeline.prepare(Graph(model), simplify=False)
    assert any("computing branches side by side" in note for note in ready.notes), ready.notes
    assert not is_flattened(ready.graph)
    assert any("If has a body" in b.cause.reason for b in ready.analysis.blocked)
