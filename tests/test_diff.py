"""`onnxprune diff`: what changed between two models, and nothing else."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper
from projects import Project


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, capsys)


def diff(project, *models):
    done = project.run("diff", *(models or ("a.onnx", "b.onnx")), "--json")
    assert done.code == 0, done.err
    return done.json


@pytest.mark.parametrize(
    ("change", "relation", "weights"),
    [
        ({}, "identical", {"changed": 0, "total": 3}),
        ({"prefix": "m/"}, "identical", {"changed": 0, "total": 3}),  # names are only names
        ({"external": True}, "identical", {"changed": 0, "total": 3}),
        ({"seed": 1}, "same graph, other weights", {"changed": 2, "total": 3}),
        ({"width": 9}, "different graph", None),
        ({"extra": 1}, "different graph", None),
        ({"opset": 18}, "different graph", None),
    ],
)
def test_how_models_are_related(project, change, relation, weights):
    project.model("a.onnx")
    project.model("b.onnx", **change)
    found = diff(project)
    assert (found["relation"], found["weights"]) == (relation, weights)
    assert found["same_graph"] is (relation != "different graph")


def test_an_attribute_makes_another_graph(project):
    model = onnx.load(project.model("a.onnx"))
    model.graph.node[2].attribute.append(helper.make_attribute("strides", [2, 2]))
    onnx.save(model, "b.onnx")
    assert diff(project)["relation"] == "different graph"


def test_a_layer_that_grew(project):
    project.model("a.onnx")
    project.model("b.onnx", width=9)
    found = diff(project)
    first, second = found["layers"]
    assert (first["name"], first["kind"], first["growth"], first["macs"]) == (
        "conv1",
        "changed",
        28 * 4,
        64 * 27,
    )
    assert (first["old"]["shape"], first["new"]["shape"]) == ([8, 3, 3, 3], [9, 3, 3, 3])
    assert (second["name"], second["growth"], second["macs"]) == ("conv2", 4 * 4, 64 * 4)
    assert found["metrics"]["params"] == {"old": 256, "new": 288}
    assert found["operators"] == {}


def test_a_new_export_is_not_a_new_model(project):
    project.model("a.onnx")
    project.model("b.onnx", width=9, prefix="model/")
    found = diff(project)
    assert [(layer["name"], layer["kind"]) for layer in found["layers"]] == [
        ("conv1 → model/conv1", "changed"),
        ("conv2 → model/conv2", "changed"),
    ]


def test_everything_else_that_can_change(project):
    model = onnx.load(project.model("a.onnx"))
    model.producer_name = "exporter"
    model.metadata_props.add(key="version", value="2")
    model.opset_import.append(helper.make_opsetid("org.example", 3))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.output[0].name = "y"
    model.graph.node[2].output[0] = "y"
    model.graph.node.append(helper.make_node("Own", ["y"], ["z"], domain="org.example"))
    onnx.save(model, "b.onnx")
    found = diff(project)
    assert found["inputs"] == {"x": {"old": "float32[batch, 3, 8, 8]", "new": "float32[1, 3, 8, 8]"}}
    assert found["outputs"] == {
        "y": {"old": None, "new": "float32[batch, 4, 8, 8]"},
        "y0": {"old": "float32[batch, 4, 8, 8]", "new": None},
    }
    assert found["operators"] == {"org.example:Own": {"old": 0, "new": 1}}
    assert found["opsets"] == {"org.example": {"old": None, "new": 3}}
    assert found["metadata"] == {
        "producer_name": {"old": None, "new": "exporter"},
        "metadata.version": {"old": None, "new": "2"},
    }


def test_a_model_in_half_precision(project):
    path = project.model("a.onnx")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        half = onnx.numpy_helper.to_array(tensor).astype("float16")
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, "b.onnx")
    found = diff(project)
    assert found["dtypes"] == {"float16": {"old": None, "new": 512}, "float32": {"old": 1024, "new": None}}
    assert {layer["growth"] for layer in found["layers"]} == {-(216 + 8) * 2, -32 * 2}


def test_for_people(project):
    project.model("a.onnx")
    project.model("b.onnx", width=9)
    done = project.run("diff", "a.onnx", "b.onnx")
    assert "different graph" in done.out
    assert "conv1" in done.out
    done = project.run("diff", "a.onnx", "b.onnx", "--markdown")
    assert "| parameters | 256 | 288 | +32 (+12.5%) |" in done.out
    assert (
        "| conv1 | Conv float32&#91;8, 3, 3, 3&#93; | Conv float32&#91;9, 3, 3, 3&#93; | +112 B, +1728 |"
        in done.out
    )


def test_models_of_revisions(project):
    project.model("a.onnx")
    project.commit()
    project.model("a.onnx", width=9)
    assert diff(project, "HEAD:a.onnx", "a.onnx")["metrics"]["params"] == {"old": 256, "new": 288}
    assert diff(project, "HEAD:a.onnx", "main:a.onnx")["relation"] == "identical"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.onnx", "a.onnx"], "no.onnx: no such file"),
        (["nope:a.onnx", "a.onnx"], "nope: no such revision"),
        (["main:b.onnx", "a.onnx"], "main:b.onnx: isn't in that revision"),
        (["main:sub", "a.onnx"], "main:sub: is a directory"),
        (["main:sub/text", "a.onnx"], "main:sub/text: is not an ONNX model"),
        (["main:../a.onnx", "a.onnx"], "lies outside the git repository"),
        (["a.onnx", "a.onnx", "--json", "--markdown"], "give one of --json and --markdown"),
    ],
)
def test_wrong_usage(project, arguments, message):
    project.model("a.onnx")
    (project.root / "sub").mkdir()
    (project.root / "sub" / "text").write_text("no model")
    project.commit()
    done = project.run("diff", *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
