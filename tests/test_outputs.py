"""No command writes over what it reads, whatever both are called."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from projects import Project, network

from onnxprune.cli import run

PRUNE = ("prune", "m.onnx", "--ratio", "0.5", "--quiet")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a file of every kind that commands read."""
    root = tmp_path_factory.mktemp("made")
    model = str(root / "m.onnx")
    onnx.save(network(), model, save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    x = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    np.savez(root / "samples.npz", x=x)
    np.savez(root / "labels.npz", x=x, labels=np.zeros(8, np.int64))
    (root / "folder").mkdir()
    np.save(root / "folder" / "one.npy", x[0])
    (root / "folder" / "one.pb").write_bytes(numpy_helper.from_array(x[:1], "x").SerializeToString())
    config = '[check]\nbaseline = "kept.json"\n[[check.models]]\npath = "m.onnx"\nsize = "1MB"\n'
    (root / "onnxprune.toml").write_text(config)
    for command in (
        f"prune {model} --ratio 0.5 -q -o {root}/o.onnx --plan-out {root}/plan.json",
        f"calibrate {model} --calib {root}/samples.npz -q -o {root}/stats.npz",
        f"profile {model} -q --profile-out {root}/table.json",
        f"check {model} --update --config {root}/onnxprune.toml --baseline {root}/base.json",
        f"check --update --config {root}/onnxprune.toml --baseline {root}/kept.json",
    ):
        assert run(command.split()) == 0
    return root


@pytest.fixture
def full(made, tmp_path, monkeypatch, capsys):
    root = tmp_path / "full"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    return Project(root, capsys)


TIMED = ("prune", "m.onnx", "--latency", "0.9")
PRUNED = (*PRUNE, "-o", "out.onnx")
COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "prune -o, model": ((*PRUNE, "-o", "OUT"), "m.onnx"),
    "prune -o, weights": ((*PRUNE, "-o", "OUT"), "m.onnx.data"),
    "prune -o, samples": ((*PRUNE, "-o", "OUT", "--calib", "samples.npz"), "samples.npz"),
    "prune -o, a sample": ((*PRUNE, "-o", "OUT", "--calib", "folder"), "folder/one.npy"),
    "prune -o, another sample": ((*PRUNE, "-o", "OUT", "--calib", "folder"), "folder/one.pb"),
    "prune -o, labels": ((*PRUNE, "-o", "OUT", "--labels", "labels.npz"), "labels.npz"),
    "prune -o, statistics": ((*PRUNE, "-o", "OUT", "--stats", "stats.npz"), "stats.npz"),
    "prune -o, table": ((*TIMED, "-o", "OUT", "--profile-in", "table.json"), "table.json"),
    "prune --report": ((*PRUNED, "--report", "OUT", "--calib", "samples.npz"), "samples.npz"),
    "prune --plan-out": ((*PRUNED, "--plan-out", "OUT", "--labels", "labels.npz"), "labels.npz"),
    "prune --profile-out": ((*TIMED, "-o", "out.onnx", "--profile-out", "OUT"), "m.onnx.data"),
    "finetune, teacher": (("finetune", "m.onnx", "--teacher", "o.onnx", "-o", "OUT"), "o.onnx"),
    "finetune --checkpoint": (
        ("finetune", "m.onnx", "--calib", "samples.npz", "-o", "out.onnx", "--checkpoint", "OUT"),
        "samples.npz",
    ),
    "calibrate, model": (("calibrate", "m.onnx", "--calib", "random", "-o", "OUT"), "m.onnx"),
    "calibrate, weights": (("calibrate", "m.onnx", "--calib", "random", "-o", "OUT"), "m.onnx.data"),
    "calibrate, samples": (("calibrate", "m.onnx", "--calib", "samples.npz", "-o", "OUT"), "samples.npz"),
    "calibrate --merge": (("calibrate", "stats.npz", "--merge", "-o", "OUT"), "stats.npz"),
    "apply, model": (("apply", "m.onnx", "plan.json", "-o", "OUT"), "m.onnx"),
    "apply, plan": (("apply", "m.onnx", "plan.json", "-o", "OUT"), "plan.json"),
    "apply, samples": (
        ("apply", "m.onnx", "plan.json", "--calib", "samples.npz", "-o", "OUT"),
        "samples.npz",
    ),
    "apply, labels": (
        ("apply", "m.onnx", "plan.json", "--labels", "labels.npz", "-o", "o", "--report", "OUT"),
        "labels.npz",
    ),
    "profile, model": (("profile", "m.onnx", "--profile-out", "OUT"), "m.onnx"),
    "profile, weights": (("profile", "m.onnx", "--profile-out", "OUT"), "m.onnx.data"),
    "profile, table": (
        ("profile", "m.onnx", "--profile-in", "table.json", "--profile-out", "OUT"),
        "table.json",
    ),
    "check, model": (("check", "m.onnx", "--format", "json=OUT"), "m.onnx"),
    "check, weights": (("check", "m.onnx", "--format", "json=OUT"), "m.onnx.data"),
    "check, all models": (("check", "--format", "junit=OUT"), "m.onnx"),
    "check, all weights": (("check", "--format", "junit=OUT"), "m.onnx.data"),
    "check, configuration": (("check", "--format", "sarif=OUT"), "onnxprune.toml"),
    "check, named configuration": (
        ("check", "--config", "onnxprune.toml", "--format", "sarif=OUT"),
        "onnxprune.toml",
    ),
    "check, kept baseline": (("check", "--format", "json=OUT"), "kept.json"),
    "check, baseline": (("check", "m.onnx", "--baseline", "base.json", "--format", "json=OUT"), "base.json"),
    "check, model to compare with": (
        ("check", "m.onnx", "--baseline", "o.onnx", "--format", "json=OUT"),
        "o.onnx",
    ),
    "check, where another model is missing": (
        ("check", "m.onnx", "gone.onnx", "--format", "junit=OUT"),
        "m.onnx.data",
    ),
}


def _another(name: str, spelling: str, root: Path) -> str:
    if spelling == "as it is":
        return name
    if spelling == "another path":
        return f"{root}/folder/../{name}"
    link = root / "linked"
    if spelling == "link":
        link.symlink_to(name)
    else:
        os.link(root / name, link)
    return "linked"


@pytest.mark.parametrize("spelling", ["as it is", "another path", "link", "hard link"])
def test_what_is_read_is_never_written(full, spelling):
    for told, (command, name) in COMMANDS.items():
        target = _another(name, spelling, full.root)
        before = {p: p.read_bytes() for p in full.root.rglob("*") if p.is_file()}
        done = full.run(*(word.replace("OUT", target) for word in command))
        assert done.code == 2, (told, done)
        assert "is an input; choose another name" in done.err, told
        assert {p: p.read_bytes() for p in full.root.rglob("*") if p.is_file()} == before, told
        (full.root / "linked").unlink(missing_ok=True)


def test_data_beside_the_real_file_of_a_linked_model(full):
    """As in caches, where a model is a link, and its weights are where that leads."""
    (full.root / "link.onnx").symlink_to("m.onnx")
    (full.root / "elsewhere").mkdir()
    (full.root / "elsewhere" / "link.onnx").symlink_to("../m.onnx")
    command = ("profile", "elsewhere/link.onnx", "--profile-out", "m.onnx.data")
    assert "is an input" in full.run(*command).err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((*PRUNE, "-o", "-"), "-o requires an argument"),
        ((*PRUNED, "--plan-out", "x", "--report", "./x"), "is also another output (x)"),
        (
            ("prune", "m.onnx", "--macs", "0.5", "--pareto", "2", "-o", "c.onnx", "--report", "c-2.onnx"),
            "is also another output (c-2.onnx)",
        ),
        (("profile", "m.onnx", "--profile-out", "no/t.json"), "no/t.json: its folder does not exist"),
        (("profile", "m.onnx", "--profile-out", "folder"), "folder: is a directory"),
        (("check", "m.onnx", "--format", "json=no/x"), "no/x: its folder does not exist"),
        (("check", "m.onnx", "--format", "json=x", "--format", "junit=x"), "is also another output"),
    ],
)
def test_outputs_that_cannot_be(full, command, message):
    done = full.run(*command)
    assert done.code == 2
    assert message in done.err


def test_an_output_that_is_a_link_stays_one(full):
    (full.root / "out.onnx").symlink_to("real.onnx")
    assert full.run(*PRUNED).code == 0
    assert (full.root / "out.onnx").is_symlink()
    onnx.checker.check_model(onnx.load(full.root / "real.onnx"))


def test_an_error_report_is_not_written_over_a_model(full):
    """What can't be checked is reported as a file, too: not over what could not be checked."""
    (full.root / "broken.onnx").write_bytes(b"no model")
    done = full.check("broken.onnx", "--format", "junit=broken.onnx")
    assert done.code == 2
    assert (full.root / "broken.onnx").read_bytes() == b"no model"


def test_a_command_without_outputs_reads_its_model_once(full, monkeypatch):
    """Looking for the files of a large model takes as long as reading it."""
    from onnxprune.pipeline import outputs

    monkeypatch.setattr(outputs, "files_of", lambda _: pytest.fail("looked for files"))
    assert full.run("profile", "m.onnx", "--quiet").code == 0
