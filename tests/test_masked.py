"""`--masked`: zeros in place of what would go. The file computes what the cut one does; all shapes stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import Net
from onnx import numpy_helper
from test_cli_prune import classifier

import onnxprune
from onnxprune.cli import run
from onnxprune.errors import UsageError
from onnxprune.graph import Graph
from onnxprune.runtime import Session

MODELS = Path(__file__).parent.parent / "models"


def weights(model) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def outputs(graph, feeds) -> np.ndarray:
    return next(iter(Session(graph.serialized()).run(feeds).values()))


def both(model, **options):
    """The mask, and what is cut instead."""
    options = {"ratio": 0.5, "measure_latency": False, "criterion": "l1", **options}
    return onnxprune.prune(model, masked=True, **options), onnxprune.prune(model, repair="none", **options)


@pytest.mark.parametrize(
    ("name", "simplify"), [("mobile-bn", False), ("mobile-bn", True), ("residual", True)]
)
def test_it_computes_what_the_cut_model_does(name, simplify):
    """With BatchNormalization folded, and not; with depthwise convolutions and residual sums."""
    mask, cut = both(MODELS / f"digits-{name}.onnx", simplify=simplify, force=True)
    x = {"image": np.random.default_rng(0).random((4, 1, 28, 28), np.float32)}
    expected, actual = outputs(cut.graph, x), outputs(mask.graph, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(actual - outputs(cut.prepared.original, x)).max() > 0.01
    before, after = weights(mask.prepared.graph.model), weights(mask.model)
    assert {k: v.shape for k, v in after.items()} == {k: v.shape for k, v in before.items()}
    assert mask.verdict.after.macs == mask.verdict.before.macs > cut.verdict.after.macs


def test_what_the_plan_does_not_keep_is_zero_and_the_rest_as_it_was():
    mask, cut = both(Graph(classifier()), simplify=False)
    old, new = weights(classifier()), weights(mask.model)
    stays = {name: np.ones(array.shape, bool) for name, array in old.items()}
    for tensor in (t for g in cut.plan.groups for t in g.tensors):
        (axis,) = tensor.axes
        gone = np.setdiff1d(np.arange(tensor.view[axis]), tensor.kept)
        np.moveaxis(stays[tensor.name], axis, 0)[gone] = False
    assert sum((~s).sum() for s in stays.values()) > 100
    for name, array in old.items():
        np.testing.assert_array_equal(new[name], np.where(stays[name], array, 0))


def test_where_zero_would_turn_into_no_number_weights_that_make_it_stay():
    """Log of a channel that is zero is infinite, and zero times that is NaN in what reads it."""
    n = Net("log")
    n.output(n.conv(n.Log(n.Abs(n.conv(n.input("batch", 3, 5, 3), 8))), 6))
    mask, cut = both(Graph(n.finished()), force=True)
    made, read = (a for a in weights(mask.model).values() if a.ndim == 4)
    assert made.all()
    assert (read == 0).mean() == 0.5
    x = {next(iter(mask.graph.inputs)): np.random.default_rng(0).random((2, 3, 5, 3), np.float32)}
    np.testing.assert_allclose(outputs(mask.graph, x), outputs(cut.graph, x), rtol=1e-3, atol=1e-5)


def test_the_budget_holds_for_what_is_cut_later():
    mask, cut = both(Graph(classifier()), ratio=None, macs=0.5, force=True)
    share = cut.verdict.after.macs / cut.verdict.before.macs
    assert share <= 0.5
    assert any(f"{share:.1%} of the MACs" in note for note in mask.verdict.warnings)
    later = onnxprune.apply(Graph(classifier()), mask.plan, measure_latency=False)
    assert later.model == cut.model
    assert "masked" not in later.plan.options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repair": "fold"}, "--masked: what is masked is not repaired"),
        ({"allow_approximate": True}, "--masked: a normalisation"),
        ({"ratio": None, "inbound": 0.5}, "--masked: --inbound zeroes kernels in place already"),
    ],
)
def test_what_does_not_go_together(options, message):
    with pytest.raises(UsageError, match=message):
        onnxprune.prune(Graph(classifier()), **{"ratio": 0.5, "masked": True, **options})


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(classifier(), "model.onnx")
    assert run(["prune", "model.onnx", "-o", "out.onnx", "--ratio", "0.5", "--masked"]) == 0
    assert "masked: shapes are as before" in " ".join(capsys.readouterr().out.split())
    shapes = [{k: v.shape for k, v in weights(onnx.load(f)).items()} for f in ("model.onnx", "out.onnx")]
    assert shapes[0] == shapes[1]
    assert run(["prune", "model.onnx", "-o", "x.onnx", "--ratio", "0.5", "--masked", "--repair", "bias"]) == 2
    assert "--masked" in capsys.readouterr().err
