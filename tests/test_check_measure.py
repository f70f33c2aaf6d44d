"""Every metric against a value that was computed by hand."""

from __future__ import annotations

import gzip

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from projects import Project

from onnxprune.check.dead import dead_channels
from onnxprune.check.measure import measure, open_model
from onnxprune.cost.memory import peak
from onnxprune.graph import Graph, infer


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, capsys)


def measured(path, *costly):
    return measure(open_model(path, {}), costly)


def graph_of(nodes, weights, inputs, outputs, opset=17):
    make = helper.make_tensor_value_info
    proto = helper.make_graph(
        nodes,
        "g",
        [make(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [make(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()],
    )
    return Graph(helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)]))


def test_numbers_of_a_network(project):
    path = project.model(dead=2)
    found = measured(path, "dead-channels", "compressed-size")
    assert found.numbers == {
        "size": path.stat().st_size,
        "params": 3 * 8 * 9 + 8 + 8 * 4,
        "macs": 64 * (3 * 8 * 9 + 8 * 4),
        "nodes": 3,
        # Weights; then the input and what the Relu reads and writes.
        "peak-memory": 256 * 4 + 4 * 64 * (3 + 8 + 8),
        "opset": 17,
        "dead-channels": 2,
        "compressed-size": pytest.approx(len(gzip.compress(path.read_bytes(), 6)), abs=20),
    }
    assert found.sets == {"operators": ("Conv", "Relu"), "domains": ("ai.onnx",)}
    assert found.notes == ("assumes batch=1",)


def test_external_data_counts_and_is_not_read(project):
    inline, outside = project.model("a.onnx"), project.model("b.onnx", external=True)
    data = project.root / "b.onnx.data"
    assert data.stat().st_size == 256 * 4
    a, b = measured(inline), measured(outside)
    assert b.numbers["size"] == outside.stat().st_size + data.stat().st_size
    assert {k: v for k, v in a.numbers.items() if k != "size"} == {
        k: v for k, v in b.numbers.items() if k != "size"
    }
    data.write_bytes(bytes(data.stat().st_size))  # zeros: only what needs weights may notice
    assert measured(outside).numbers == b.numbers
    assert measured(outside, "dead-channels").numbers["dead-channels"] == 12


def test_dimensions_that_are_configured(project):
    project.model()
    project.limits("dims = { batch = 5 }")
    assert project.findings()["macs"]["value"] == 5 * 15_872


def test_peak_memory_drops_what_nobody_reads_any_more():
    # x -> a -> b -> c, and x again in the end: at the third node x, b and c live, but a no longer.
    chain = graph_of(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Relu", ["b"], ["c"]),
            helper.make_node("Add", ["c", "x"], ["y"]),
        ],
        {},
        {"x": [4]},
        ["y"],
    )
    assert peak(chain, infer(chain)).total == 3 * 16
    # A residual over the chain keeps `a` alive.
    residual = graph_of(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Relu", ["b"], ["c"]),
            helper.make_node("Add", ["c", "a"], ["y"]),
        ],
        {},
        {"x": [4]},
        ["y"],
    )
    assert peak(residual, infer(residual)).total == 4 * 16


def test_peak_memory_goes_by_dtype_and_says_what_it_left_out():
    graph = graph_of(
        [
            helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
            helper.make_node("Mystery", ["h"], ["y"], domain="org.example"),
        ],
        {"w": np.zeros(10, np.int8)},
        {"x": [4]},
        ["y"],
    )
    found = peak(graph, infer(graph))
    assert (found.weights, found.activations, found.unknown) == (10, 16 + 8, 1)


@pytest.mark.parametrize(
    ("op", "weight", "zeroed", "attributes", "expected"),
    [
        ("Conv", (5, 3, 3, 3), np.s_[1:3], {}, 2),
        ("ConvTranspose", (3, 5, 3, 3), np.s_[:, 4], {}, 1),
        # Two groups of three outputs each: the first output of the second group only.
        ("ConvTranspose", (4, 3, 3, 3), np.s_[2:, 0], {"group": 2}, 1),
        ("Gemm", (3, 5), np.s_[:, 2:], {}, 3),
        ("Gemm", (5, 3), np.s_[0], {"transB": 1}, 1),
        ("MatMul", (3, 5), np.s_[:, 1], {}, 1),
        ("MatMul", (3, 5), np.s_[1], {}, 0),
        ("MatMul", (2, 3, 5), np.s_[1, :, 0], {}, 1),
    ],
)
def test_dead_channels_of_every_operator(op, weight, zeroed, attributes, expected):
    value = np.ones(weight, np.float32)
    value[zeroed] = 0
    graph = graph_of(
        [helper.make_node(op, ["x", "w"], ["y"], **attributes)], {"w": value}, {"x": None}, ["y"]
    )
    assert dead_channels(graph) == expected


def test_dead_channels_of_quantized_weights_are_at_the_zero_point():
    weight = np.full((3, 4), 7, np.uint8)
    weight[0], weight[1] = 3, 0
    zero = np.array([3, 3, 7], np.uint8)
    graph = graph_of(
        [
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=0),
            helper.make_node("Gemm", ["x", "d"], ["y"], transB=1),
        ],
        {"w": weight, "s": np.ones(3, np.float32), "z": zero},
        {"x": [1, 4]},
        ["y"],
    )
    assert dead_channels(graph) == 2


def test_a_shared_weight_counts_once():
    nodes = [helper.make_node("Gemm", ["x", "w"], [f"y{k}"]) for k in range(2)]
    assert (
        dead_channels(graph_of(nodes, {"w": np.zeros((3, 3), np.float32)}, {"x": [1, 3]}, ["y0", "y1"])) == 3
    )


def test_operators_in_bodies_count(project):
    make = helper.make_tensor_value_info
    bodies = [
        helper.make_graph([helper.make_node(op, ["x"], [op])], op, [], [make(op, TensorProto.FLOAT, [2])])
        for op in ("Sin", "Cos")
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=bodies[0], else_branch=bodies[1])
    inputs = [make("c", TensorProto.BOOL, []), make("x", TensorProto.FLOAT, [2])]
    graph = helper.make_graph([node], "g", inputs, [make("y", TensorProto.FLOAT, [2])])
    onnx.save(helper.make_model(graph), project.root / "m.onnx")
    found = measured(project.root / "m.onnx")
    assert found.sets["operators"] == ("Cos", "If", "Sin")
    assert found.numbers["nodes"] == 3


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 123456\n".format("ab" * 32)


@pytest.mark.parametrize("name", ["m.onnx", "m.onnx.data"])
def test_a_lfs_pointer_is_no_small_model(project, name):
    project.model("m.onnx", external=True)
    (project.root / name).write_text(POINTER)
    done = project.check("m.onnx")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert f"{name}: is a git-lfs pointer to 123456 bytes" in done.err
    assert "git lfs pull" in done.err


@pytest.mark.parametrize("damage", ["missing", "outside", "short"])
def test_damaged_external_data(project, damage):
    path = project.model("in/m.onnx", external=True)
    data = path.with_name("m.onnx.data")
    if damage == "missing":
        data.unlink()
    elif damage == "short":
        data.write_bytes(b"1234")
    else:
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            tensor.external_data[0].value = "../m.onnx.data"
        path.write_bytes(model.SerializeToString())
        data.rename(project.root / "m.onnx.data")
    done = project.check("in/m.onnx", "--measure", "dead-channels")
    assert done.code == 2
    assert done.err.startswith("onnxprune: in/m.onnx: ")
    assert done.err.count("\n") == 1


def test_same_model_same_bytes(project):
    project.model("a.onnx")
    project.model("b.onnx", width=9)
    arguments = ("--measure", "dead-channels", "--measure", "compressed-size", "a.onnx", "b.onnx")
    for name in ("table", "json", "junit", "markdown", "github", "sarif"):
        assert project.check("--format", name, *arguments) == project.check("--format", name, *arguments)
