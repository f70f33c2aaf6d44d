"""Graphs evaluated in pieces: the same values, whatever fits into memory, and nothing left behind."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from nets import Net, run
from repairs import operated, samples, values

from onnxprune.execution.prefix import ActivationStore, Prefix
from onnxprune.graph import Graph
from onnxprune.repair import Task
from onnxprune.repair.sequential import fold


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def branched():
    """Two inputs, a skip connection, shape arithmetic, a weight made by a node, and two outputs."""
    n = Net("branched")
    x, other = n.input("N", 3, n.H, n.W), n.input("N", 3, n.H, n.W)
    a = n.Relu(n.conv(x, kernel=(3, 3), pads=[1, 1, 1, 1]))
    b = n.Relu(n.conv(n.Add(x, other), kernel=(3, 3), pads=[1, 1, 1, 1]))
    c = n.Add(n.conv(n.Add(a, b)), a)
    size = n.Shape(c)
    shape = n.Concat(n.Slice(size, [0], [2]), [-1], axis=0)
    flat = n.ReduceMean(n.Reshape(c, shape), axes=[2], keepdims=0)
    n.output(n.Gemm(flat, n.Transpose(n.const(n.weight(6, n.C)), perm=[1, 0]), n.weight(6)))
    n.output(n.conv(c, 4))
    return n


@pytest.mark.parametrize("cuts", [(), (3,), (2, 5, 7), tuple(range(1, 14))])
def test_pieces_give_what_the_whole_graph_gives(cuts):
    n = branched()
    graph = Graph(n.finished())
    batches = samples(n, 3)
    names = [o for node in graph.nodes for o in node.outputs if node.op != "Constant"]
    wanted = [dict(zip(names, values(graph, feeds, *names), strict=True)) for feeds in batches]
    store = ActivationStore(1e9)
    prefix = Prefix(batches, store)
    edges = [0, *cuts, len(graph.nodes)]
    seen = set()
    for low, high in itertools.pairwise(edges):
        now, later = graph.nodes[low:high], graph.nodes[high:]
        taps = sorted({o for node in now if node.op in ("Conv", "Gemm", "Relu", "Add") for o in node.outputs})
        for expected, found in zip(wanted, prefix.advance(graph, now, later, taps), strict=True):
            assert sorted(found) == taps
            for name in taps:
                np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)
        seen |= set(taps)
    store.close()
    assert len(seen) >= 8


@pytest.mark.parametrize("cut", [0, 3, 7])
def test_the_rest_gives_what_the_whole_graph_gives(cut):
    n = branched()
    graph = Graph(n.finished())
    batches = samples(n, 3)
    prefix = Prefix(batches, ActivationStore(1e9))
    for _ in prefix.advance(graph, graph.nodes[:cut], graph.nodes[cut:], []):
        pass
    for feeds, found in zip(batches, prefix.probe(graph, graph.outputs), strict=True):
        for name, expected in zip(graph.outputs, values(graph, feeds, *graph.outputs), strict=True):
            np.testing.assert_allclose(found[name], expected, atol=1e-5, err_msg=name)


def test_a_tensor_of_before_can_be_seen_while_something_later_reads_it():
    n = branched()
    graph = Graph(n.finished())
    batches = samples(n, 2)
    first = next(node for node in graph.nodes if node.op == "Relu")
    prefix = Prefix(batches, ActivationStore(1e9))
    list(prefix.advance(graph, graph.nodes[: first.index + 1], graph.nodes[first.index + 1 :], []))
    again = prefix.advance(graph, (), graph.nodes[first.index + 1 :], [first.outputs[0]])
    for feeds, found in zip(batches, again, strict=True):
        (expected,) = values(graph, feeds, first.outputs[0])
        np.testing.assert_allclose(found[first.outputs[0]], expected, atol=1e-6)


def test_arrays_beyond_the_budget_go_to_files_and_back(folder):
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((5, k)).astype(np.float32) for k in (1, 40, 7, 30)]
    store = ActivationStore(budget=200)
    kept = [store.put(a) for a in arrays]
    assert [isinstance(k, np.memmap) for k in kept] == [False, True, False, True]
    for a, k in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(a, k)
    assert len(list(folder.glob("*/*"))) == 2
    store.drop(kept[1])
    assert len(list(folder.glob("*/*"))) == 1
    store.drop(kept[2])
    assert not isinstance(store.put(arrays[2]), np.memmap)
    store.close()
    assert not list(folder.iterdir())


def test_memory_changes_nothing_and_nothing_is_left_behind(folder):
    n = branched()
    task = Task.of(operated(n.finished()))
    batches = samples(n, 4)
    roomy, _ = fold(task, batches)
    assert not list(folder.iterdir())
    tight, _ = fold(task, batches, memory=0)
    assert not list(folder.iterdir())
    assert roomy.graph.serialized() == tight.graph.serialized()
    feeds = batches[0]
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(run(roomy.graph.model, feeds), run(task.network.graph.model, feeds), strict=True)
    )


def test_files_are_removed_when_a_fit_fails(folder, monkeypatch):
    n = branched()
    task = Task.of(operated(n.finished()))
    spilled = []

    def fails(*_args, **_kwargs):
        spilled.extend(Path(folder).glob("*/*"))
        raise MemoryError

    monkeypatch.setattr("onnxprune.repair.sequential.fit", fails)
    with pytest.raises(MemoryError):
        fold(task, samples(n, 4), memory=0)
    assert spilled
    assert not list(folder.iterdir())
