"""`onnxprune inspect`, `prune`, `apply` and `validate` on what works: files, tables, JSON and exit codes."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.reference
import pytest
from nets import Net
from onnx import numpy_helper

from onnxprune import plan as plans
from onnxprune.cli import run

WIDTH = 12


def classifier(seed: str = "cli", opset: int = 17) -> onnx.ModelProto:
    """A stem, a residual block, a pool and a head of six classes."""
    n = Net(seed, opset=opset)
    stem = n.Relu(n.conv(n.input("batch", 3, 5, 3), WIDTH, (3, 3), pads=[1, 1, 1, 1]))
    body = n.conv(n.Relu(n.conv(stem, 10)), WIDTH)
    pooled = n.Flatten(n.GlobalAveragePool(n.Relu(n.Add(stem, body))))
    n.output(n.gemm(pooled, 6))
    return n.finished()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, calibration samples, and held-out samples that the model classifies rightly."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    model = classifier()
    onnx.save(model, "model.onnx")
    random = np.random.default_rng(0)
    x = model.graph.input[0].name
    np.savez("calib.npz", **{x: random.standard_normal((100, 3, 5, 3)).astype(np.float32)})
    held = random.standard_normal((60, 3, 5, 3)).astype(np.float32)
    scores = onnx.reference.ReferenceEvaluator(model).run(None, {x: held})[0]
    np.savez("held.npz", **{x: held, "labels": scores.argmax(axis=1)})
    return tmp_path


def prune(*options: str) -> int:
    """Run `prune` on the model; what the test is about is in the options."""
    budget = [] if {"--ratio", "--macs", "--params"} & set(options) else ["--ratio", "0.5"]
    return run(["prune", "model.onnx", "-o", "out.onnx", *budget, *options])


def widths(path: str = "out.onnx") -> list[int]:
    """Output channels of the convolutions, in order."""
    model = onnx.load(path)
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    return [shapes[n.input[1]][0] for n in model.graph.node if n.op_type == "Conv"]


class TestPrune:
    def test_it_removes_half_of_each_group(self, here, capsys):
        assert prune() == 0
        assert widths() == [WIDTH // 2, 5, WIDTH // 2]
        out = capsys.readouterr().out
        assert "The pruned model is in out.onnx" in out
        for word in ("parameters", "MACs", "bytes", "latency", "surgery error", "exact"):
            assert word in out

    def test_the_original_is_not_touched(self, here):
        before = (here / "model.onnx").read_bytes()
        assert prune() == 0
        assert (here / "model.onnx").read_bytes() == before

    def test_nothing_else_is_left_behind(self, here):
        before = set(here.iterdir())
        assert prune() == 0
        assert set(here.iterdir()) - before == {here / "out.onnx"}

    @pytest.mark.parametrize("budget", ["--macs", "--params"])
    @pytest.mark.parametrize("share", ["0.7", "0.4"])
    def test_a_budget_is_never_exceeded(self, here, budget, share):
        assert prune(budget, share, "--report", "report.json") == 0
        verdict = json.loads((here / "report.json").read_text())["verdict"]
        kind = budget.removeprefix("--")
        cut = verdict["after"][kind] / verdict["before"][kind]
        assert float(share) - 0.15 < cut <= float(share)

    def test_samples_and_labels_are_judged(self, here, capsys):
        assert prune("--calib", "calib.npz", "--labels", "held.npz", "--report", "report.json") == 0
        out = capsys.readouterr().out
        assert "accuracy" in out
        assert "drift of" in out
        report = json.loads((here / "report.json").read_text())
        assert report["options"]["criterion"] == "obs"
        before, after = report["verdict"]["accuracy"]
        assert before == {"right": 60, "total": 60}
        assert after["total"] == 60
        assert 0 < report["verdict"]["drift"]["samples"] <= 30

    def test_repair_helps(self, here):
        """The same channels, with and without repair."""
        drift = {}
        for mode in ("none", "auto"):
            assert prune("--calib", "calib.npz", "--repair", mode, "--report", f"{mode}.json", "--force") == 0
            verdict = json.loads((here / f"{mode}.json").read_text())["verdict"]
            (drift[mode],) = verdict["drift"]["relative"].values()
        assert drift["auto"] < 0.8 * drift["none"]

    @pytest.mark.parametrize("criterion", ["l1", "l2", "geometric-median", "random"])
    def test_criteria(self, here, criterion):
        assert prune("--criterion", criterion, "--report", "report.json") == 0
        assert json.loads((here / "report.json").read_text())["options"]["criterion"] == criterion

    def test_bn_scale_finds_the_norms_that_cleaning_would_fold(self, here):
        n = Net("norms")
        y = n.conv(n.input("batch", 3, 5, 3), 8)
        scale = np.asarray([9, 1, 8, 2, 7, 3, 6, 4], np.float32)
        y = n.BatchNormalization(y, scale, n.weight(8), n.weight(8), n.positive(8))
        n.output(n.conv(n.Relu(y), 6))
        onnx.save(n.finished(), "model.onnx")
        assert prune("--criterion", "bn-scale", "--repair", "none") == 0
        pruned = onnx.load("out.onnx").graph
        norm = next(node for node in pruned.node if node.op_type == "BatchNormalization")
        kept = numpy_helper.to_array(next(t for t in pruned.initializer if t.name == norm.input[1]))
        assert list(kept) == [9, 8, 7, 6]

    def test_round_to(self, here):
        assert prune("--ratio", "0.3", "--round-to", "4") == 0
        assert widths() == [8, 8, 8]

    def test_min_channels(self, here):
        assert prune("--ratio", "0.9", "--min-channels", "3") == 0
        assert widths() == [3, 3, 3]

    def test_keep_by_node_and_by_weight(self, here):
        nodes = [n for n in onnx.load("model.onnx").graph.node if n.op_type == "Conv"]
        assert prune("--keep", nodes[1].name) == 0
        assert widths() == [WIDTH // 2, 10, WIDTH // 2]
        assert prune("--keep", nodes[0].input[1]) == 0
        assert widths() == [WIDTH, 5, WIDTH], "a layer that is coupled with one to keep stays, too"

    def test_keep_takes_patterns_and_repeats(self, here):
        nodes = [n for n in onnx.load("model.onnx").graph.node if n.op_type == "Conv"]
        assert prune("--keep", nodes[1].name[:-1] + "[1]", "--keep", f"*{nodes[1].input[1][1:]}") == 0
        assert widths()[1] == 10

    def test_keep_by_what_comes_after_a_layer(self, here):
        relu = next(n for n in onnx.load("model.onnx").graph.node if n.op_type == "Relu")
        assert prune("--keep", relu.name) == 0
        assert WIDTH in widths()

    def test_keep_by_names_that_cleaning_takes_away(self, here):
        n = Net("norms")
        x = n.conv(n.input("batch", 3, n.H, n.W), WIDTH)
        n.read(n.Relu(n.BatchNormalization(x, *(n.positive(WIDTH) for _ in range(4)))))
        model = n.finished()
        onnx.save(model, "model.onnx")
        conv, norm = model.graph.node[:2]
        for name in (conv.name, norm.name, norm.input[1], norm.input[4]):
            assert prune("--keep", name) == 3, "there is nothing else to prune"
        assert prune() == 0
        assert "BatchNormalization" not in [n.op_type for n in onnx.load("out.onnx").graph.node]

    def test_keep_where_nothing_could_go_is_noted(self, here, capsys):
        head = onnx.load("model.onnx").graph.node[-1]
        assert prune("--keep", head.name) == 0
        assert (
            f"note: --keep {head.name} makes no difference: nothing could go there" in capsys.readouterr().out
        )
        assert widths() == [WIDTH // 2, 5, WIDTH // 2]

    def test_a_name_that_looks_like_a_pattern_matches_itself(self, here):
        model = onnx.load("model.onnx")
        model.graph.node[2].name = "body[0]"
        onnx.save(model, "model.onnx")
        assert prune("--keep", "body[0]") == 0
        assert widths() == [WIDTH // 2, 10, WIDTH // 2]

    def test_quiet_says_nothing(self, here, capsys):
        assert prune("--quiet") == 0
        assert capsys.readouterr() == ("", "")
        assert (here / "out.onnx").exists()

    def test_progress_goes_to_stderr(self, here, capsys):
        assert prune() == 0
        out, err = capsys.readouterr()
        assert "..." not in out
        assert "Finding channels ..." in err

    @pytest.mark.parametrize("options", [[], ["--calib", "calib.npz"]], ids=["weights", "samples"])
    def test_the_same_bytes_twice(self, here, options):
        assert prune(*options) == 0
        first = (here / "out.onnx").read_bytes()
        assert prune(*options) == 0
        assert (here / "out.onnx").read_bytes() == first

    def test_the_seed_decides_what_is_random(self, here):
        made = set()
        for seed in ("0", "1", "0"):
            assert prune("--criterion", "random", "--seed", seed) == 0
            made.add((here / "out.onnx").read_bytes())
        assert len(made) == 2

    def test_no_simplify_changes_nothing_but_widths(self, here):
        assert prune("--no-simplify", "--repair", "none", "--plan-out", "plan.json") == 0
        before, after = onnx.load("model.onnx").graph, onnx.load("out.onnx").graph
        assert list(after.node) == list(before.node)
        assert [t.name for t in after.initializer] == [t.name for t in before.initializer]
        kept = {(t.name, t.axes[0]): t.kept for g in plans.read(here / "plan.json").groups for t in g.tensors}
        for old, new in zip(before.initializer, after.initializer, strict=True):
            expected = numpy_helper.to_array(old)
            for axis in range(expected.ndim):
                expected = expected.take(kept.get((old.name, axis), range(expected.shape[axis])), axis)
            np.testing.assert_array_equal(numpy_helper.to_array(new), expected)

    @pytest.mark.parametrize("options", [[], ["--no-simplify"]], ids=["simplify", "no-simplify"])
    def test_interface_and_metadata_stay(self, here, options):
        model = onnx.load("model.onnx")
        model.producer_name, model.doc_string = "test", "what it is for"
        onnx.helper.set_model_props(model, {"classes": "a,b,c"})
        onnx.save(model, "model.onnx")
        assert prune(*options) == 0
        pruned = onnx.load("out.onnx")
        assert list(pruned.graph.input) == list(model.graph.input)
        assert list(pruned.graph.output) == list(model.graph.output)
        assert list(pruned.opset_import) == list(model.opset_import)
        assert list(pruned.metadata_props) == list(model.metadata_props)
        assert (pruned.producer_name, pruned.doc_string) == ("test", "what it is for")
        assert pruned.ir_version == model.ir_version


class TestApply:
    def test_a_plan_gives_the_same_bytes(self, here):
        assert prune("--plan-out", "plan.json") == 0
        assert run(["apply", "model.onnx", "plan.json", "-o", "again.onnx"]) == 0
        assert (here / "again.onnx").read_bytes() == (here / "out.onnx").read_bytes()

    def test_so_does_one_that_was_repaired_with_the_same_samples(self, here):
        assert prune("--calib", "calib.npz", "--plan-out", "plan.json") == 0
        command = ["apply", "model.onnx", "plan.json", "-o", "again.onnx", "--calib", "calib.npz"]
        assert run(command) == 0
        assert (here / "again.onnx").read_bytes() == (here / "out.onnx").read_bytes()

    def test_without_samples_it_says_that_repair_is_left_out(self, here, capsys):
        assert prune("--calib", "calib.npz", "--plan-out", "plan.json") == 0
        capsys.readouterr()
        assert run(["apply", "model.onnx", "plan.json", "-o", "again.onnx"]) == 0
        assert "--calib" in capsys.readouterr().out
        assert widths("again.onnx") == widths()

    def test_it_prints_and_reports_like_prune(self, here, capsys):
        assert prune("--plan-out", "plan.json") == 0
        assert run(["apply", "model.onnx", "plan.json", "-o", "again.onnx", "--report", "report.json"]) == 0
        assert "The pruned model is in again.onnx" in capsys.readouterr().out
        assert json.loads((here / "report.json").read_text())["verdict"]["exact"] is True


class TestValidate:
    def test_the_same_model_does_not_drift(self, here, capsys):
        assert run(["validate", "model.onnx", "model.onnx", "--rtol", "0"]) == 0
        assert "drift of" in capsys.readouterr().out

    def test_a_pruned_model_on_samples_and_labels(self, here, capsys):
        assert prune("--quiet") == 0
        command = ["validate", "model.onnx", "out.onnx", "--calib", "calib.npz", "--labels", "held.npz"]
        assert run([*command, "--json"]) == 0
        verdict = json.loads(capsys.readouterr().out)["verdict"]
        assert verdict["drift"]["samples"] == 100
        assert verdict["accuracy"][0] == {"right": 60, "total": 60}
        assert verdict["after"]["params"] < verdict["before"]["params"]

    def test_too_much_drift_is_exit_code_1(self, here, capsys):
        assert prune("--quiet") == 0
        assert run(["validate", "model.onnx", "out.onnx", "--rtol", "0.001"]) == 1
        assert "more than --rtol 0.001" in capsys.readouterr().err

    def test_names_are_not_markup(self, here, capsys):
        model = onnx.load("model.onnx")
        model.graph.node[-1].output[0] = model.graph.output[0].name = "a[/]b"
        onnx.save(model, "[bold].onnx")
        assert run(["validate", "[bold].onnx", "[bold].onnx"]) == 0
        assert "drift of 'a[/]b'" in capsys.readouterr().out
        assert run(["inspect", "[bold].onnx"]) == 0
        out = capsys.readouterr().out
        assert "[bold].onnx" in out
        assert "graph output 'a[/]b'" in out


class TestInspect:
    def test_every_layer_is_listed_with_its_group_or_what_blocks_it(self, here, capsys):
        assert run(["inspect", "model.onnx"]) == 0
        out = capsys.readouterr().out
        for node in onnx.load("model.onnx").graph.node:
            if node.op_type in ("Conv", "Gemm"):
                assert node.name in out
        assert "is the graph output" in out
        assert "largest gain" in out

    def test_json(self, here, capsys):
        assert run(["inspect", "model.onnx", "--json"]) == 0
        data = json.loads(capsys.readouterr().out)
        model = onnx.load("model.onnx")
        assert data["dims"] == {"batch": 1}
        assert data["size"]["params"] == sum(int(np.prod(t.dims)) for t in model.graph.initializer)
        area = 5 * 3
        first, second, third, head = data["layers"]
        assert first["macs"] == area * WIDTH * 3 * 9
        assert second["macs"] == third["macs"] == area * WIDTH * 10
        assert head["macs"] == WIDTH * 6
        assert data["size"]["macs"] == sum(layer["macs"] for layer in data["layers"])
        assert first["group"] == third["group"] != second["group"]
        assert head["group"] is None
        assert (head["blocked"], "graph output" in head["reason"]) == (6, True)
        sizes = {g["units"]: g["params"] for g in data["groups"]}
        assert sizes == {12: 12 * 27 + 12 + 12 * 10 * 2 + 12 + 6 * 12, 10: 10 * 12 + 10 + 10 * 12}

    def test_macs_can_be_counted_for_other_sizes(self, here, capsys):
        macs = {}
        for batch in (1, 8):
            assert run(["inspect", "model.onnx", "--json", "--dim", f"batch={batch}"]) == 0
            macs[batch] = json.loads(capsys.readouterr().out)["size"]["macs"]
        assert macs[8] == 8 * macs[1]
        assert run(["inspect", "model.onnx", "--dim", "batch=8"]) == 0
        assert "MACs with batch=8" in capsys.readouterr().out
