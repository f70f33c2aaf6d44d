"""Every weight is listed, with what can become of it before, and what became of it after."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from nets import PRIMES, SQUARE, Net
from surgery import operate
from test_cli_prune import WIDTH, here, prune
from test_traps import TRAPS

from onnxprune.cli import run
from onnxprune.cli.output import Output
from onnxprune.contracts.weights import Weight
from onnxprune.graph import Graph, Network
from onnxprune.reductions.channels import Channels
from onnxprune.reductions.channels.weights import weights
from onnxprune.report import inspection, inspection_tables
from onnxprune.report.inspection import Inspection
from onnxprune.report.outcome import shape_after

__all__ = ["here"]


def listed(n: Net, **options: Any) -> tuple[Graph, dict[str, Weight]]:
    """The graph, and its weights with groups by number."""
    surgery = operate(n.finished(), share=0, **options)
    number = {group.id: k for k, group in enumerate(surgery.analysis.groups)}

    def numbered(weight: Weight) -> Weight:
        own, others = (tuple(number[key] for key in ids) for ids in (weight.groups, weight.coupled))
        return replace(weight, groups=own, coupled=others)

    return surgery.original, {w.name: numbered(w) for w in weights(surgery.original, surgery.analysis)}


def test_a_layer_makes_its_own_channels_and_is_coupled_with_those_it_reads() -> None:
    n = Net("plain")
    w, b = n.const(n.weight(n.C, 3, 1, 1)), n.const(n.weight(n.C))
    scale = n.const(n.positive(n.C))
    norm = n.BatchNormalization(
        n.Conv(n.input(n.B, 3, n.H, n.W), w, b), scale, *(n.positive(n.C) for _ in "bmv")
    )
    head = n.const(n.weight(6, n.C, 1, 1))
    n.output(n.Conv(norm, head))
    _, found = listed(n)
    assert (found[w].state, found[w].groups, found[w].cause) == ("prunable", (0,), None)
    assert (found[b].state, found[b].groups, found[b].cause) == ("prunable", (0,), None)
    assert (found[scale].state, found[scale].coupled) == ("coupled", (0,))
    assert (found[head].state, found[head].coupled) == ("coupled", (0,))
    assert found[head].cause is not None
    assert "graph output" in found[head].cause.reason


def test_tables_recurrences_and_scales_are_weights() -> None:
    n = Net("kinds", opset=21)
    ids = n.input(n.H, n.B, feed=n.random.integers(0, 9, (n.H, n.B)))
    table = n.const(n.weight(9, n.C))
    w, r, b = (
        n.const(n.weight(1, 4 * n.C, n.C)),
        n.const(n.weight(1, 4 * n.C, n.C)),
        n.const(n.weight(1, 8 * n.C)),
    )
    state = n.LSTM(n.Gather(table, ids), w, r, b, outputs=2, hidden_size=n.C)[1]
    quantised = n.const(n.random.integers(-9, 9, (n.C, 5)).astype(np.int8))
    scales = n.const(n.positive(5))
    n.read(n.MatMul(n.Squeeze(state, [0]), n.DequantizeLinear(quantised, scales, axis=1)))
    graph, found = listed(n)
    groups = {name: found[name].groups for name in (table, w, r, b, quantised, scales)}
    assert groups == {table: (0,), w: (1,), r: (1,), b: (1,), quantised: (2,), scales: (2,)}
    assert found[w].coupled == (0,)
    assert found[quantised].coupled == (1,)
    assert [graph.nodes[k].op for k in found[quantised].readers] == ["MatMul"]


def test_what_a_body_reads_is_blocked_by_it() -> None:
    net = Net("captured", opset=18)
    net.read(TRAPS["loop_captures_a_weight"](net)[0])
    _, found = listed(net)
    causes = {w.cause.reason: w.cause.unblock for w in found.values() if w.cause is not None}
    assert causes["Loop has a body"] == "an export without Loop"


@pytest.mark.parametrize("name", list(TRAPS))
def test_fates_and_shapes_tell_what_happened(name: str) -> None:
    """Of all traps: what has fewer values is said to be narrowed, and nothing else is."""
    net = Net(name, PRIMES, 18)
    results = TRAPS[name](net)
    for result in [results] if isinstance(results, str) else results:
        net.read(result)
    surgery = operate(net.finished())
    lost = {group.id for group in surgery.analysis.groups if not surgery.kept[group.units].all()}
    for weight in weights(surgery.original, surgery.analysis):
        after = shape_after(surgery.original, weight, surgery.pruned)
        if after is not None:
            less = math.prod(after) < math.prod(weight.shape)
            assert less == (weight.fate(lost) in ("pruned", "coupled")), weight
        if weight.state == "blocked":
            assert weight.cause is not None


def test_reports_and_inspections_list_all_weights(here, capsys):
    assert run(["inspect", "model.onnx", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["size"]["params"] == sum(math.prod(w["shape"]) for w in found["weights"])
    assert {w["state"] for w in found["weights"]} == {"prunable", "coupled", "blocked"}
    assert prune("--report", "report.json", "--no-simplify") == 0
    assert "weights: 6 pruned, 1 narrowed with others, 1 blocked" in capsys.readouterr().out
    listed = json.loads((here / "report.json").read_text())["weights"]
    shapes = {t.name: list(t.dims) for t in onnx.load("out.onnx").graph.initializer}
    assert {w["name"]: w["pruned_shape"] for w in listed} == shapes
    assert [w["name"] for w in listed] == [w["name"] for w in found["weights"]]
    head = listed[-1]
    assert (head["state"], head["by"], head["unblock"]) == ("blocked", "output", "nothing")
    assert prune("--report", "report.json", "--keep", "*", "--force") == 3


def test_tables_say_what_would_unblock(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    n = Net("tables", SQUARE, opset=18)
    x = n.LayerNormalization(n.dense(), n.positive(n.C), axis=-1)
    n.read(n.Relu(n.dense(x, WIDTH)))
    onnx.save(n.finished(), "model.onnx")
    assert run(["inspect", "model.onnx"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "what would unblock them" in out
    assert "--allow-approximate, which is not exact" in out


def inspected(model) -> Inspection:
    return inspection(Channels().find(Network(Graph(model))))


def test_layers_that_read_stored_weights_are_of_their_shape_and_size():
    n = Net("stored")
    scale = np.float32(0.01)
    integers = n.random.integers(-99, 99, (16, 32)).astype(np.int8)
    x = n.Relu(n.MatMul(n.input("batch", 16), n.DequantizeLinear(integers, scale, np.int8(0))))
    half = n.Cast(n.weight(32, 5).astype(np.float16), to=1)
    n.output(n.MatMul(x, half))
    first, second = inspected(n.finished()).layers
    assert (first.shape, first.params) == ((16, 32), 512)
    assert (second.shape, second.params) == ((32, 5), 160)


@pytest.mark.parametrize(
    ("batch", "words"), [("batch", "MACs with batch=1"), (10, "MACs for its batch of 10,")]
)
def test_a_fixed_batch_is_told(batch, words, capsys):
    n = Net("fixed")
    n.output(n.gemm(n.Relu(n.gemm(n.input(batch, 4), 8)), 3))
    found = inspected(n.finished())
    assert found.size.macs == (10 if batch == 10 else 1) * (4 * 8 + 8 * 3)
    Output(quiet=False).show(inspection_tables(found))
    assert words in capsys.readouterr().out
