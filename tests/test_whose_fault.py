"""What goes wrong is told as what it is: an error of the input, or a bug of ours."""

from __future__ import annotations

import numpy as np
import pytest
from projects import Project

from onnxprune.graph import Edits
from onnxprune.reductions.channels import space

WITHOUT = ("prune", "m.onnx", "-o", "out.onnx", "--ratio", "0.5", "--quiet")
WITH = (*WITHOUT, "--calib", "samples.npz")


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path, capsys)
    project.model("m.onnx")
    np.savez(tmp_path / "samples.npz", x=np.ones((8, 3, 8, 8), np.float32))
    return project


@pytest.fixture
def broken_surgery(monkeypatch):
    """A layer keeps one output channel that nothing behind it expects: ONNX Runtime can't run that."""
    right = space.recorded

    def wrong(*given):
        graph, record = right(*given)
        weight = graph.array("w1")
        return graph.edited(Edits(constants={"w1": np.concatenate([weight, weight[:1]])})), record

    monkeypatch.setattr(space, "recorded", wrong)


@pytest.mark.parametrize("command", [WITHOUT, WITH, (*WITHOUT, "--repair", "none"), (*WITH, "--force")])
def test_an_output_that_cannot_run_is_a_bug_and_not_the_inputs(project, broken_surgery, command):
    done = project.run(*command)
    assert done.code == 70, done
    assert "the model runs, but not what was made of it" in done.err
    assert not (project.root / "out.onnx").exists()


def test_a_sample_that_the_model_cannot_run_is_an_input(project):
    """Nothing says before a run that an index has to be below 8."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load("m.onnx")
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info("i", onnx.TensorProto.INT64, ["batch"]))
    table = numpy_helper.from_array(np.ones((8, 4, 1, 1), np.float32), "table")
    graph.initializer.append(table)
    graph.node.append(helper.make_node("Gather", ["table", "i"], ["row"], "look_up"))
    graph.node.append(helper.make_node("Add", ["y0", "row"], ["z"], "add"))
    graph.output[0].name = "z"
    onnx.save(model, "m.onnx")
    x = np.ones((8, 3, 8, 8), np.float32)
    np.savez("samples.npz", x=x, i=np.arange(8) + 1)
    for command in (WITH, ("calibrate", "m.onnx", "--calib", "samples.npz", "-o", "s.npz", "--quiet")):
        done = project.run(*command)
        assert done.code == 2, done
        assert "Gather 'look_up': indices element out of data bounds" in done.err


# ---------------------------------------------------------------- integers that must agree


@pytest.fixture
def agreeing(project):
    """The output's shape is an input: random integers are none."""
    import onnx
    from onnx import helper

    model = onnx.load("m.onnx")
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info("shape", onnx.TensorProto.INT64, [2]))
    graph.node.append(helper.make_node("Reshape", ["y0", "shape"], ["z"], "as_told"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["m", "n"]))
    onnx.save(model, "m.onnx")
    (project.root / "folder").mkdir()
    random = np.random.default_rng(0)
    for k in range(40):
        x = random.standard_normal((1, 3, 8, 8)).astype(np.float32)
        np.savez(project.root / "folder" / f"{k:02}.npz", x=x, shape=np.array([4, 64]))
    return project


@pytest.mark.parametrize(
    "command",
    [
        "prune m.onnx -o o.onnx --macs 0.6 --calib folder --force",
        "prune m.onnx -o o.onnx --latency 0.99 --calib folder --force",
        "calibrate m.onnx -o o.npz --calib folder",
        "validate m.onnx m.onnx --calib folder",
        "inspect m.onnx --simplify",
        "profile m.onnx",
    ],
)
def test_integers_that_must_agree_come_from_samples(agreeing, command):
    done = agreeing.run(*command.split())
    if "--latency" in command and done.code == 3:
        assert "can't be met" in done.err
    else:
        assert done.code == 0, done


@pytest.mark.parametrize(
    ("command", "remedy"),
    [("prune m.onnx -o o.onnx --macs 0.6", ": give samples, with --calib"), ("bench m.onnx m.onnx", "")],
)
def test_where_there_are_no_samples_the_input_is_named(agreeing, command, remedy):
    done = agreeing.run(*command.split())
    assert done.code == 2
    assert "Reshape 'as_told'" in done.err
    assert f"random values of 'shape' may not fit{remedy}" in done.err
