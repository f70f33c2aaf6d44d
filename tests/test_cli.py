"""The command line as a whole: exit codes, and one line on stderr for whatever is wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from projects import Project, network

import onnxprune
from onnxprune import pipeline
from onnxprune.cli import run
from onnxprune.errors import ProofFailed


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, capsys)


def refused(done, code=2):
    """Whether a command said one line about what is wrong, and nothing else."""
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("onnxprune: ")
    assert done.err.count("\n") == 1
    return done.err


# ---------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chekc"], 'Unknown command "chekc". Did you mean "check"?'),
        (["check", "--nope"], "Unknown option: --nope; see 'onnxprune check --help'"),
        (["check", "--format"], "parameter --format requires an argument"),
        (["diff", "a.onnx"], "parameter NEW requires an argument"),
        (["prune", "a.onnx", "-o", "b.onnx", "--ratio", "half"], "Invalid value for --ratio"),
    ],
)
def test_wrong_usage(project, arguments, message):
    assert message in refused(project.run(*arguments))


def test_help(project):
    done = project.run("--help")
    assert done.code == 0
    assert "onnxprune COMMAND" in done.out
    bare = project.run()
    assert (bare.code, bare.err) == (2, "")
    assert "onnxprune COMMAND" in bare.out


# ---------------------------------------------------------------- models that can't be read


def convolution(**attributes):
    """A Conv that nobody reads but the graph's output."""
    make = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv", **attributes)],
        "g",
        [make("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [make("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def missing(project):
    return "no such file"


def empty(project):
    (project.root / "bad.onnx").touch()
    return "the file is empty"


def truncated(project):
    path = project.model("bad.onnx")
    path.write_bytes(path.read_bytes()[:-100])
    return "is not an ONNX model, or is truncated"


def text(project):
    (project.root / "bad.onnx").write_text("hello\n")
    return "is not an ONNX model, or is truncated"


def directory(project):
    (project.root / "bad.onnx").mkdir()
    return "is a directory; name an .onnx file"


def pipe(project):
    os.mkfifo(project.root / "bad.onnx")
    return "is a device, not a file"


def lfs_pointer(project):
    (project.root / "bad.onnx").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 12\n"
    )
    return "run 'git lfs pull'"


def external_missing(project):
    project.model("bad.onnx", external=True)
    (project.root / "bad.onnx.data").unlink()
    return "external data file 'bad.onnx.data'"


def external_short(project):
    data = project.model("bad.onnx", external=True).with_name("bad.onnx.data")
    data.write_bytes(data.read_bytes()[:-1])
    return "external data file 'bad.onnx.data' is truncated: tensor 'w2' ends at byte 1024 of 1023"


def external_nowhere(project):
    path = project.model("bad.onnx", external=True)
    model = onnx.load(path, load_external_data=False)
    entries = {entry.key: entry for entry in model.graph.initializer[1].external_data}
    entries["offset"].value = "far"
    path.write_bytes(model.SerializeToString())
    return "external data of tensor 'b1' has no place"


def external_outside(project):
    path = project.model("bad.onnx", external=True)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../bad.onnx.data"
    path.write_bytes(model.SerializeToString())
    (project.root / "bad.onnx.data").rename(project.root.parent / "bad.onnx.data")
    return "lies outside the model's folder"


UNREADABLE = [
    missing,
    empty,
    truncated,
    text,
    directory,
    pipe,
    lfs_pointer,
    external_missing,
    external_short,
    external_nowhere,
    external_outside,
]
PRUNE = ("prune", "bad.onnx", "-o", "out.onnx", "--ratio", "0.5", "--quiet")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """A plan that fits a good model, as text."""
    folder = tmp_path_factory.mktemp("plan")
    onnx.save(network(), folder / "good.onnx")
    paths = (
        str(folder / "good.onnx"),
        "-o",
        str(folder / "out.onnx"),
        "--plan-out",
        str(folder / "plan.json"),
    )
    assert run(["prune", *paths, "--ratio", "0.5", "--no-simplify", "--force", "--quiet"]) == 0
    return (folder / "plan.json").read_text()


@pytest.mark.parametrize("damage", UNREADABLE)
def test_a_model_that_cannot_be_read(project, plan, damage):
    project.model("good.onnx")
    (project.root / "plan.json").write_text(plan)
    message = damage(project)
    before = sorted(project.root.rglob("*"))
    for command in (
        ("inspect", "bad.onnx", "--json"),
        PRUNE,
        ("apply", "bad.onnx", "plan.json", "-o", "out.onnx", "--quiet"),
        ("validate", "bad.onnx", "good.onnx"),
        ("validate", "good.onnx", "bad.onnx"),
        ("check", "bad.onnx"),
        ("diff", "good.onnx", "bad.onnx"),
    ):
        said = refused(project.run(*command))
        assert said.startswith("onnxprune: bad.onnx: "), command
        assert message in said, command
    assert sorted(project.root.rglob("*")) == before


def altered(**changes):
    """A good model whose first weight holds another value."""
    model = network()
    (tensor,) = (t for t in model.graph.initializer if t.name == "w1")
    value = numpy_helper.to_array(tensor).copy()
    value.flat[5] = changes["value"]
    tensor.CopyFrom(numpy_helper.from_array(value, "w1"))
    return model


def of_the_future():
    model = network()
    model.opset_import[0].version = 999
    return model


def hollow():
    model = network()
    model.graph.initializer[0].ClearField("raw_data")
    return model


def unlinked():
    model = network()
    model.graph.node[1].input[0] = "nowhere"
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (altered(value=np.nan), "weight 'w1' holds NaN; repair or re-export the model"),
        (altered(value=-np.inf), "weight 'w1' holds infinity; repair or re-export the model"),
        (of_the_future(), "opset 999 of domain ai.onnx is newer than"),
        (hollow(), "tensor 'w1' holds 0 values, and float of shape (8, 3, 3, 3) has 216"),
        (unlinked(), "Relu 'relu': reads 'nowhere', which nothing makes"),
    ],
    ids=["nan", "infinity", "opset", "hollow", "unlinked"],
)
def test_a_model_that_cannot_be_pruned_rightly(project, model, message):
    onnx.save(model, "bad.onnx")
    said = refused(project.run(*PRUNE))
    assert said.startswith("onnxprune: bad.onnx: ")
    assert message in said
    assert not (project.root / "out.onnx").exists()


def test_a_model_of_not_a_number_is_not_like_a_good_one(project):
    project.model("good.onnx")
    onnx.save(altered(value=np.nan), "bad.onnx")
    for pair in (("good.onnx", "bad.onnx"), ("bad.onnx", "good.onnx")):
        done = project.run("validate", *pair, "--rtol", "0.1", "--quiet")
        assert (done.code, done.err.count("\n")) == (1, 1)


@pytest.mark.parametrize("command", [PRUNE, ("validate", "good.onnx", "bad.onnx")])
def test_the_model_that_onnx_runtime_refuses_is_named(project, command):
    project.model("good.onnx")
    onnx.save(of_the_future(), "bad.onnx")
    assert refused(project.run(*command)).startswith("onnxprune: bad.onnx: opset 999")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])]),
            opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
         "no layer has channels that could be removed"),
        (convolution(), "nothing can be pruned: Conv 'conv' is blocked at the graph's end"),
    ],
    ids=["no layer", "blocked"],
)  # fmt: skip
def test_nothing_to_prune_is_exit_code_3(project, model, message):
    onnx.save(model, "bad.onnx")
    assert project.run("inspect", "bad.onnx", "--json").code == 0
    assert message in refused(project.run(*PRUNE), 3)
    assert not (project.root / "out.onnx").exists()


# ---------------------------------------------------------------- options and files that make no sense


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *((["--ratio", r], f"--ratio: {r} is not between 0 and 1") for r in ("0", "1", "-0.5", "nan", "inf")),
        *((["--macs", share], f"--macs: {share} is not between 0 and 1") for share in ("0", "1", "1.5")),
        ([], "no budget is given; give --ratio"),
        (["--ratio", "0.5", "--macs", "0.5"], "--ratio: can't be combined with --macs"),
        (["--ratio", "0.5", "--criterion", "l7"], "--criterion l7: there is no such criterion; there are: "),
        (["--ratio", "0.5", "--repair", "magic"], "Invalid value \"magic\" for --repair"),
        (["--ratio", "0.5", "--round-to", "0"], 'Invalid value "0" for --round-to'),
        (["--ratio", "0.5", "--min-channels", "0"], 'Invalid value "0" for --min-channels'),
        (["--ratio", "0.5", "--keep", "cnov*"], "--keep cnov*: no node or weight has such a name"),
    ],
)  # fmt: skip
def test_wrong_budgets_and_names(project, options, message):
    project.model("bad.onnx")
    assert message in refused(project.run("prune", "bad.onnx", "-o", "out.onnx", "--quiet", *options))
    assert not (project.root / "out.onnx").exists()


SAMPLES = np.random.default_rng(0).standard_normal((20, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": SAMPLES}, "the model has no input 'z'; it has: x"),
        ({"x": SAMPLES, "y": SAMPLES}, "the model has no input 'y'; it has: x"),
        ({"x": SAMPLES.astype(np.int64)}, "input 'x' needs float32, the array has int64"),
        ({"x": SAMPLES[:, :2]}, "input 'x' needs shape (batch, 3, 8, 8), the samples have (1, 2, 8, 8)"),
        ({"x": SAMPLES[:, 0]}, "input 'x' needs shape (batch, 3, 8, 8), the samples have (1, 20, 8, 8)"),
        ({"x": SAMPLES[:0]}, "holds no samples"),
        ({"x": np.array([{}], object)}, "holds Python objects, which are never loaded"),
        ({"x": np.full_like(SAMPLES, np.nan)}, "a sample of input 'x' holds NaN or infinity"),
        ({}, "holds no arrays"),
        (b"PK\3\4 hello", "is not an npz file"),
        (None, "no such file or folder"),
    ],
)
def test_samples_that_do_not_fit(project, arrays, message):
    project.model("bad.onnx")
    if isinstance(arrays, bytes):
        (project.root / "calib.npz").write_bytes(arrays)
    elif arrays is not None:
        np.savez(project.root / "calib.npz", **arrays)
    said = refused(project.run(*PRUNE, "--calib", "calib.npz"))
    assert message in said
    assert not (project.root / "out.onnx").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "has no array 'labels'"),
        ({"labels": np.zeros(3, np.int64)}, "'labels' has shape (3,), and there are 20 samples"),
        ({"labels": np.full(20, "cat")}, "'labels' should be one integer for each sample"),
    ],
)
def test_labels_that_do_not_fit(project, labels, message):
    project.model("bad.onnx")
    np.savez(project.root / "calib.npz", x=SAMPLES)
    np.savez(project.root / "labels.npz", x=SAMPLES, **labels)
    assert message in refused(project.run(*PRUNE, "--calib", "calib.npz", "--labels", "labels.npz"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[]", "is not a plan"),
        (b"{}", "is not a plan: Object missing required field `fingerprint`"),
        (b"\xff", "can't be read (not text in UTF-8)"),
        (None, "no such file"),
    ],
)
def test_a_plan_that_is_none(project, content, message):
    project.model("good.onnx")
    if content is not None:
        (project.root / "plan.json").write_bytes(content)
    said = refused(project.run("apply", "good.onnx", "plan.json", "-o", "out.onnx", "--quiet"))
    assert said.startswith("onnxprune: plan.json: ")
    assert message in said


def test_a_plan_for_another_model(project, plan):
    (project.root / "plan.json").write_text(plan)
    project.model("good.onnx", width=9)
    said = refused(project.run("apply", "good.onnx", "plan.json", "-o", "out.onnx", "--quiet"))
    assert "its shape is [9] here, not [8]" in said
    assert not (project.root / "out.onnx").exists()


# ---------------------------------------------------------------- where outputs go


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "bad.onnx"], "bad.onnx: is an input; choose another name"),
        (["-o", "folder/../bad.onnx"], "is an input"),
        (["-o", "link.onnx"], "is an input"),
        (["-o", "bad.onnx.data"], "bad.onnx.data: is an input"),
        (["-o", "out.onnx", "--plan-out", "bad.onnx"], "is an input"),
        (["-o", "out.onnx", "--plan-out", "out.onnx"], "is also another output"),
        (["-o", "out.onnx", "--report", "no/report.json"], "no/report.json: its folder does not exist"),
        (["-o", "folder"], "folder: is a directory"),
        (["-o", "no/out.onnx"], "no/out.onnx: its folder does not exist"),
        (["-o", "bad.onnx/out.onnx"], "its folder does not exist"),
        (["-o", "pipe"], "pipe: is a device, not a file"),
        (["-o", "x" * 300], "can't be written (File name too long)"),
    ],
)
def test_outputs_that_cannot_be(project, options, message):
    project.model("bad.onnx", external=True)
    (project.root / "link.onnx").symlink_to("bad.onnx")
    (project.root / "folder").mkdir()
    os.mkfifo(project.root / "pipe")
    before = {p: p.stat().st_mtime_ns for p in project.root.rglob("*")}
    assert message in refused(project.run("prune", "bad.onnx", "--ratio", "0.5", "--quiet", *options))
    assert {p: p.stat().st_mtime_ns for p in project.root.rglob("*")} == before


def test_apply_keeps_its_plan(project, plan):
    project.model("good.onnx")
    (project.root / "plan.json").write_text(plan)
    said = refused(project.run("apply", "good.onnx", "plan.json", "-o", "plan.json", "--quiet"))
    assert "plan.json: is an input" in said


def test_reports_of_the_gate_do_not_replace_devices(project):
    """Root could; a pipe stands for /dev/null, which no test should put at risk."""
    project.model("good.onnx")
    os.mkfifo(project.root / "pipe")
    assert "pipe: is a device" in project.check("good.onnx", "--format", "json=pipe").err
    assert (project.root / "pipe").is_fifo()


@pytest.fixture
def read_only(project, monkeypatch):
    """A folder that can't be written to: by its rights, or for root by what the system says."""
    folder = project.root / "locked"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
    else:
        real = os.open

        def refuse(path, flags, *rest, **named):
            if flags & os.O_CREAT and Path(os.fsdecode(path)).parent.name == "locked":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return real(path, flags, *rest, **named)

        monkeypatch.setattr(os, "open", refuse)
    yield folder
    folder.chmod(0o755)


def test_a_folder_without_the_right_to_write(project, read_only):
    project.model("bad.onnx")
    options = ("--ratio", "0.5", "--quiet")
    said = refused(project.run("prune", "bad.onnx", "-o", "locked/out.onnx", *options))
    assert "locked/out.onnx: can't be written (Permission denied)" in said
    said = refused(project.check("bad.onnx", "--format", "json=locked/report.json"))
    assert "locked/report.json: can't be written (Permission denied)" in said
    assert list(read_only.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left"), 2, "out.onnx: can't be written (No space left)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)  # fmt: skip
def test_what_stops_writing_leaves_nothing_behind(project, monkeypatch, error, code, message):
    """The file that was there stays as it was, too."""
    project.model("bad.onnx")
    (project.root / "out.onnx").write_text("older")
    before = sorted(project.root.iterdir())

    def stop(handle):
        raise error

    monkeypatch.setattr(os, "fsync", stop)
    assert message in refused(project.run(*PRUNE, "--force"), code)
    assert sorted(project.root.iterdir()) == before
    assert (project.root / "out.onnx").read_text() == "older"


def test_a_signal_while_writing_leaves_nothing_behind(project):
    """The same for a real process and a real signal, sent in the middle of writing."""
    project.model("bad.onnx")
    program = (
        "import os, signal, sys\n"
        "from onnxprune.cli import run\n"
        # Shells start what runs in the background with this signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGINT)\n"
        f"sys.exit(run({[*PRUNE, '--force']!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project.root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "onnxprune: interrupted\n")
    assert [p.name for p in project.root.iterdir()] == ["bad.onnx"]


# ---------------------------------------------------------------- bugs


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), ProofFailed("the surgery is not exact")])
def test_a_bug_is_never_taken_for_a_verdict(project, monkeypatch, error):
    project.model("bad.onnx")

    def broken(*_args, **_options):
        raise error

    monkeypatch.setattr(pipeline, "prune", broken)
    assert ("a bug in" in refused(project.run(*PRUNE), 70)) == isinstance(error, ZeroDivisionError)
    assert not Path("out.onnx").exists()


def test_the_version(project):
    done = project.run("--version")
    assert (done.code, done.out) == (0, f"onnxprune {onnxprune.__version__}\n")


# ---------------------------------------------------------------- samples that a fixed batch leaves over


def test_samples_that_are_left_out_are_told_by_every_command(project):
    path = project.model("m.onnx")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, path)
    x = np.random.default_rng(0).standard_normal((34, 3, 8, 8)).astype(np.float32)
    np.savez(project.root / "s.npz", x=x)
    np.savez(project.root / "l.npz", x=x, labels=np.zeros(34, np.int64))
    note = "note: the last 2 samples are left out: the model takes 4 at a time"
    for command in (
        ("prune", "m.onnx", "-o", "o.onnx", "--ratio", "0.5", "--calib", "s.npz"),
        ("prune", "m.onnx", "-o", "o.onnx", "--ratio", "0.5", "--calib", "s.npz", "--labels", "l.npz"),
        ("calibrate", "m.onnx", "-o", "o.npz", "--calib", "s.npz"),
        ("validate", "m.onnx", "m.onnx", "--calib", "s.npz"),
        ("validate", "m.onnx", "m.onnx", "--labels", "l.npz"),
    ):
        done = project.run(*command)
        assert done.code == 0, done
        assert done.out.count(note) == 1, (command, done.out)
