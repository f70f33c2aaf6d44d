"""`onnxprune calibrate`, and what of `prune` comes from papers: criteria of data, rules, inbound pruning."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from calibration import images, residual_net

from onnxprune import calibration
from onnxprune.cli import run


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model and samples of it, in one file and in two halves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    onnx.save(residual_net().model, "model.onnx")
    x = images(64)
    np.savez("all.npz", image=x)
    np.savez("first.npz", image=x[:20])
    np.savez("rest.npz", image=x[20:])
    return tmp_path


def calibrate(*options: str) -> int:
    return run(["calibrate", "model.onnx", "-q", *options])


def prune(*options: str) -> int:
    return run(["prune", "model.onnx", "-o", "out.onnx", "--force", "--evals", "0", *options])


def test_parts_are_merged_into_what_the_whole_gives(here):
    for part in ("all", "first", "rest"):
        assert calibrate("--calib", f"{part}.npz", "-o", f"{part}.stats.npz") == 0
    assert run(["calibrate", "--merge", "first.stats.npz", "rest.stats.npz", "-o", "both.npz", "-q"]) == 0
    whole, both = calibration.load("all.stats.npz"), calibration.load("both.npz")
    assert both.samples == whole.samples == 64
    for key, moments in whole.moments.items():
        assert both.moments[key].rows == moments.rows
        np.testing.assert_allclose(both.moments[key].gram, moments.gram, rtol=1e-4)


def test_statistics_serve_to_prune(here, capsys):
    assert calibrate("--calib", "all.npz", "--for", "entropy", "-o", "s.npz") == 0
    assert prune("--stats", "s.npz", "--ratio", "0.5", "--criterion", "entropy") == 0
    assert prune("--stats", "s.npz", "--ratio", "0.5", "--criterion", "apoz") == 2
    assert "run 'onnxprune calibrate' with --for" in capsys.readouterr().err


def test_statistics_of_other_criteria_are_not_merged(here, capsys):
    assert calibrate("--calib", "first.npz", "--for", "entropy", "-o", "a.npz") == 0
    assert calibrate("--calib", "rest.npz", "-o", "b.npz") == 0
    assert run(["calibrate", "--merge", "a.npz", "b.npz", "-o", "c.npz"]) == 2
    assert "was gathered for other criteria than 'a.npz'" in capsys.readouterr().err
    assert not (here / "c.npz").exists()


def test_random_samples_are_never_a_default_and_never_silent(here, capsys):
    assert calibrate("-o", "s.npz") == 2
    assert "add --calib PATH, or --calib random" in capsys.readouterr().err
    assert run(["calibrate", "model.onnx", "--calib", "random", "-o", "s.npz"]) == 0
    assert "the samples are random" in capsys.readouterr().out
    assert prune("--calib", "random", "--ratio", "0.5") == 0
    assert "the samples are random" in capsys.readouterr().out


@pytest.mark.parametrize(("rule", "kept"), [("count:4", [4, 4, 4]), ("percentile:50", [4, 6, 3])])
def test_rules_of_papers(here, rule, kept):
    assert prune("--calib", "all.npz", "--criterion", "output-variance", "--select", rule, "-q") == 0
    model = onnx.load("out.onnx")
    made = {t.name: t.dims[0] for t in model.graph.initializer}
    convs = [made[n.input[1]] for n in model.graph.node if n.op_type == "Conv"]
    assert convs == [kept[0], kept[0], kept[1], kept[1], kept[2]]


def test_rules_that_are_none(here, capsys):
    assert prune("--calib", "all.npz", "--select", "best") == 2
    assert "--select: 'best' is no rule" in capsys.readouterr().err
    assert prune("--calib", "all.npz", "--select", "count:3", "--macs", "0.5") == 2
    assert "--select: can't be combined with --macs" in capsys.readouterr().err


def test_inbound_pruning_says_what_became_of_kernels(here, capsys):
    assert prune("--calib", "all.npz", "--inbound", "0.5", "--report", "r.json") == 0
    assert "kernels are gone" in capsys.readouterr().out
    notes = json.loads((here / "r.json").read_text())["verdict"]["warnings"]
    assert any("zeroed kernels, which saves no time" in note for note in notes)
    body = next(t for t in onnx.load("out.onnx").graph.initializer if t.name == "body.w")
    kernels = np.abs(onnx.numpy_helper.to_array(body)).sum(axis=(2, 3))
    assert ((kernels != 0).sum(axis=1) <= 4).all()


def test_a_plan_of_inbound_pruning_is_replayed(here):
    assert prune("--calib", "all.npz", "--inbound", "0.5", "--plan-out", "p.json", "-q") == 0
    assert run(["apply", "model.onnx", "p.json", "-o", "again.onnx", "--calib", "all.npz", "-q"]) == 0
    assert (here / "again.onnx").read_bytes() == (here / "out.onnx").read_bytes()


def test_an_old_plan_of_inbound_pruning_says_too_little(here, capsys):
    """Version 1 held the channels that went, and nothing of kernels."""
    assert prune("--calib", "all.npz", "--inbound", "0.5", "--plan-out", "p.json", "-q") == 0
    plan = json.loads((here / "p.json").read_text())
    old = {"version": 1, "fingerprint": plan["fingerprint"], "groups": [], "options": plan["options"]}
    (here / "old.json").write_text(json.dumps(old))
    assert run(["apply", "model.onnx", "old.json", "-o", "again.onnx"]) == 2
    assert "without its kernels can't be replayed" in capsys.readouterr().err
