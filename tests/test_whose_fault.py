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
