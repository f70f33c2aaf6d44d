"""Models that protobuf can't hold in one file."""

from __future__ import annotations

import tempfile

import numpy as np
import onnx
import pytest
from faults import limit_protobuf
from nets import Net

from onnxprune.cli import run
from onnxprune.errors import InputError, ProofFailed, RunFailed
from onnxprune.execution.sessions import answering, blaming, open_session
from onnxprune.graph import Edits, Graph, external_files, infer, load, save
from onnxprune.graph.encoding import encoded, encoded_size
from onnxprune.pipeline import prune


@pytest.fixture
def small_limit(monkeypatch):
    """As if protobuf held no more than this."""
    limit_protobuf(monkeypatch, 12_000)


def classifier() -> onnx.ModelProto:
    n = Net("large")
    x = n.Relu(n.conv(n.input("batch", 3, 4, 4), 32, kernel=(3, 3), pads=[1] * 4))
    x = n.Relu(n.conv(x, 24, kernel=(3, 3), pads=[1] * 4))
    n.output(n.gemm(n.Flatten(x), 5))
    return n.finished()


def test_a_large_model_runs_and_leaves_no_file(small_limit, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    graph = Graph(classifier())
    x = np.ones((2, 3, 4, 4), np.float32)
    session = open_session(graph)
    assert not list(tmp_path.iterdir())
    (found,) = session.run({graph.inputs[0]: x}).values()
    monkeypatch.undo()
    (expected,) = open_session(graph).run({graph.inputs[0]: x}).values()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_large_model_is_measured_chosen_and_repaired_like_a_small_one(small_limit, monkeypatch):
    graph = Graph(classifier())
    x = np.random.default_rng(0).standard_normal((96, 3, 4, 4)).astype(np.float32)
    calib = [{graph.inputs[0]: part} for part in np.array_split(x, 3)]
    large = prune(graph, macs=0.6, calib=calib, measure_latency=False, simplify=False)
    monkeypatch.undo()
    small = prune(graph, macs=0.6, calib=calib, measure_latency=False, simplify=False)
    assert graph.size() > 12_000
    assert large.model == small.model


@pytest.fixture
def outside(tmp_path):
    """A file whose weights are in another one."""
    path = tmp_path / "m.onnx"
    onnx.save(classifier(), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    return path


def test_a_large_file_is_pruned_from_where_its_weights_are(small_limit, monkeypatch, outside):
    x = np.random.default_rng(0).standard_normal((96, 3, 4, 4)).astype(np.float32)
    graph = load(outside)
    assert graph.is_apart
    assert encoded_size(graph.model) < 12_000 < graph.size()
    calib = [{graph.inputs[0]: part} for part in np.array_split(x, 3)]
    large = prune(graph, macs=0.6, calib=calib, measure_latency=False)
    assert large.graph.is_apart, "what is pruned is held once, and shared"
    assert all(len(t.raw_data) < 1024 for t in large.graph.model.graph.initializer)
    save(large.graph, outside.with_name("small.onnx"))
    monkeypatch.undo()
    small = prune(load(outside), macs=0.6, calib=calib, measure_latency=False, simplify=False)
    assert large.model == small.model
    assert load(outside.with_name("small.onnx")).model == small.model


@pytest.mark.parametrize("limit", [12_000, 26_000])
def test_commands_on_a_large_file(limit, monkeypatch, outside):
    """The smaller of them lets the result be a file of its own, the larger one not."""
    limit_protobuf(monkeypatch, limit)
    folder, out = outside.parent, outside.with_name("small.onnx")
    assert run(["inspect", str(outside), "--json"]) == 0
    assert run(["check", str(outside), "--measure", "dead-channels"]) == 0
    stats = ("calibrate", str(outside), "--calib", "random", "-o", str(folder / "s.npz"), "--quiet")
    assert run(list(stats)) == 0
    plan = ("--plan-out", str(folder / "plan.json"))
    assert run(["prune", str(outside), "-o", str(out), "--ratio", "0.3", "--force", "--quiet", *plan]) == 0
    assert bool(external_files(out)) == (limit == 12_000)
    assert run(["validate", str(outside), str(out), "--quiet"]) == 0
    again = ("apply", str(outside), str(folder / "plan.json"), "-o", str(folder / "again.onnx"), "--quiet")
    assert run(list(again)) == 0
    assert run(["bench", str(outside), str(out), "--seconds", "0.01"]) == 0
    monkeypatch.undo()
    assert load(out).model == load(folder / "again.onnx").model


def test_a_model_is_as_large_as_its_bytes_and_written_piece_by_piece_the_same():
    model = classifier()
    body = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["a"], ["b"])], "b", [], [], [])
    body.initializer.append(onnx.numpy_helper.from_array(np.ones((9, 300), np.float32), "big"))
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", body))
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("value", body.initializer[0]))
    model.graph.initializer.append(onnx.helper.make_tensor("f", onnx.TensorProto.FLOAT, [3], [1, 2, 3]))
    assert encoded_size(model) == model.ByteSize()
    held = {t.name: memoryview(t.raw_data) for t in model.graph.initializer if t.HasField("raw_data")}
    again = onnx.ModelProto.FromString(b"".join(encoded(model, held)))
    assert again == model


def test_what_is_edited_in_a_large_model_is_held_once(small_limit, outside):
    graph = load(outside)
    name = graph.nodes[2].inputs[1]
    new = np.zeros(graph.shape_of_constant(name), np.float32)
    edited = graph.edited(Edits(constants={name: new})).tapped([graph.nodes[0].outputs[0]])
    assert edited.array(name) is new
    assert not load(outside).array(name).flags.writeable
    assert graph.array(name).any()


# ---------------------------------------------------------------- whose fault it is


def contradicting():
    """A group that doesn't divide the channels: ONNX Runtime takes the model and can't run it."""
    model = classifier()
    model.graph.node[2].attribute.append(onnx.helper.make_attribute("group", 3))
    return Graph(model)


def test_a_model_that_cannot_run_is_blamed():
    with pytest.raises(InputError, match=r"Conv '.*'"), blaming(contradicting(), {"batch": 1}):
        raise IndexError


def test_a_model_that_runs_is_not_blamed():
    with pytest.raises(IndexError), blaming(Graph(classifier())):
        raise IndexError


def test_an_error_that_is_told_already_stays():
    with pytest.raises(InputError, match="told"), blaming(contradicting()):
        raise InputError("told")


def test_facts_of_a_large_file_need_no_weights(small_limit, outside):
    assert infer(load(outside)).shapes == infer(Graph(classifier())).shapes


def test_a_failed_run_says_what_it_was_fed():
    graph = contradicting()
    feeds = {graph.inputs[0]: np.ones((1, 3, 4, 4), np.float32)}
    with pytest.raises(RunFailed) as failed:
        open_session(graph).run(feeds)
    assert failed.value.feeds is not None
    np.testing.assert_array_equal(failed.value.feeds[graph.inputs[0]], feeds[graph.inputs[0]])


def picky(count: int) -> Graph:
    """A Reshape that one batch size fits, and no other."""
    n = Net("picky")
    n.output(n.Reshape(n.input("batch", 3, 4), [count, 12]))
    return Graph(n.finished())


def fed(graph: Graph, batch: int) -> dict[str, np.ndarray]:
    return {graph.inputs[0]: np.ones((batch, 3, 4), np.float32)}


def test_what_was_made_of_a_model_that_runs_is_a_bug():
    model = Graph(classifier())
    with (
        pytest.raises(ProofFailed, match="the model runs, but not what was made of it") as bug,
        answering(model),
    ):
        open_session(contradicting()).run({model.inputs[0]: np.ones((1, 3, 4, 4), np.float32)})
    assert bug.value.exit_code == 70


def test_a_made_graph_that_cannot_be_loaded_is_a_bug():
    broken = classifier()
    broken.graph.node[0].input[1] = "nowhere"
    with pytest.raises(ProofFailed, match="the model runs"), answering(Graph(classifier())):
        open_session(Graph(broken))


def test_what_the_model_cannot_run_either_is_not():
    """It is asked on what failed: on other inputs the model may run."""
    model = picky(2)
    with pytest.raises(RunFailed, match="Reshape"), answering(model, {"batch": 2}):
        open_session(model.tapped([])).run(fed(model, 3))


def test_parts_are_asked_about_on_all_samples():
    """What a part was fed says nothing of the model: its samples do."""
    model = picky(2)
    with pytest.raises(RunFailed, match="Reshape"), answering(model, batches=[fed(model, 2), fed(model, 3)]):
        raise RunFailed("a part failed")
    with pytest.raises(ProofFailed, match="a part failed"), answering(model, batches=[fed(model, 2)]):
        raise RunFailed("a part failed")


def test_too_little_memory_is_nobodys_bug():
    with pytest.raises(InputError, match="not enough memory"), answering(Graph(classifier())):
        raise InputError("not enough memory to run it")


def test_a_hint_of_sizes_is_not_lost():
    model = picky(2)
    hinted = RunFailed("no", hint="give --dim")
    hinted.feeds = fed(model, 3)
    with pytest.raises(RunFailed, match="give --dim"), answering(model):
        raise hinted
