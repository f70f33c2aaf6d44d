"""Files appear whole or not at all, several of them together, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from faults import Countdown, in_child, killed_at_each_call, limit_protobuf
from projects import network

from onnxprune.errors import InputError
from onnxprune.graph import Delivery, Graph, external_files, load, save, write_atomic
from onnxprune.graph.delivery import sweep


@pytest.fixture
def small_limit(monkeypatch):
    """As if protobuf held no more than this."""
    limit_protobuf(monkeypatch, 2000)


def names(folder):
    return {p.name for p in folder.iterdir()}


def weights(path):
    graph = load(path)
    return {name: graph.array(name).tobytes() for name in graph.constants}


def of(model):
    graph = Graph(model)
    return {name: graph.array(name).tobytes() for name in graph.constants}


OLD, NEW = network(seed=1, width=32), network(seed=2, width=33)


def test_a_model_with_external_data_is_the_old_or_the_new_one_wherever_it_is_killed(small_limit, tmp_path):
    path = tmp_path / "m.onnx"
    seen = set()

    def prepare():
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        save(Graph(OLD), path)

    for _ in killed_at_each_call(lambda: save(Graph(NEW), path), prepare):
        found = weights(path)
        assert found in (of(OLD), of(NEW))
        assert external_files(path)
        before = found == of(NEW)
        write_atomic(tmp_path / "other", b"")  # the next run in the folder
        after = weights(path) == of(NEW)
        assert after or not before
        save(Graph(NEW), path)
        assert weights(path) == of(NEW)
        assert names(tmp_path) == {"m.onnx", "other", *external_files(path)}
        seen.add((before, after))
    assert {(False, False), (True, True)} <= seen, "killed before and after"
    assert (False, True) in seen, "what had been written whole was delivered by the next run"


def deliver(folder, text):
    with Delivery() as delivery:
        for name in ("plan", "report", "model"):
            delivery.write(folder / name, f"{name} {text}".encode())


def state(folder):
    return [(folder / n).read_text() if (folder / n).exists() else None for n in ("plan", "report", "model")]


@pytest.mark.parametrize("fresh", [True, False])
def test_several_files_are_all_there_or_none_after_the_next_run(fresh, tmp_path):
    old = [None] * 3 if fresh else ["plan old", "report old", "model old"]
    new = ["plan new", "report new", "model new"]
    ends = set()

    def prepare():
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        if not fresh:
            deliver(tmp_path, "old")

    for _ in killed_at_each_call(lambda: deliver(tmp_path, "new"), prepare):
        found = state(tmp_path)
        assert all(f in (a, b) for f, a, b in zip(found, old, new, strict=True))
        assert found[2] == old[2] or found == new, "the model comes last"
        write_atomic(tmp_path / "other", b"")
        assert state(tmp_path) in (old, new)
        assert names(tmp_path) <= {"plan", "report", "model", "other"}
        ends.add(state(tmp_path) == new)
    assert ends == {False, True}


def deliver_apart(root, text):
    with Delivery() as delivery:
        delivery.write(root / "a" / "plan", f"plan {text}".encode())
        delivery.write(root / "b" / ".." / "b" / "report", f"report {text}".encode())
        delivery.write(root / "b" / "model", f"model {text}".encode())


def state_apart(root):
    return [(root / name).read_text() for name in ("a/plan", "b/report", "b/model")]


@pytest.mark.parametrize("first", ["a", "b"])
def test_files_in_several_folders_are_all_there_or_none_after_the_next_runs_there(first, tmp_path):
    """A folder in two spellings is one; of two, whichever is looked at first does not stay alone."""
    old, new = ([f"{name} {text}" for name in ("plan", "report", "model")] for text in ("old", "new"))
    ends = set()

    def prepare():
        shutil.rmtree(tmp_path)
        for name in ("a", "b"):
            (tmp_path / name).mkdir(parents=True)
        deliver_apart(tmp_path, "old")

    for _ in killed_at_each_call(lambda: deliver_apart(tmp_path, "new"), prepare):
        for folder in (first, {"a": "b", "b": "a"}[first], first):
            sweep(tmp_path / folder)
        assert state_apart(tmp_path) in (old, new)
        assert (names(tmp_path / "a"), names(tmp_path / "b")) == ({"plan"}, {"report", "model"})
        ends.add(state_apart(tmp_path) == new)
    assert ends == {False, True}


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt(), MemoryError()]
)
def test_several_files_are_all_there_or_none_whatever_fails(fresh, error, tmp_path):
    """In the same process: nothing is left for a next run to do."""

    def raising():
        raise error

    for calls in range(1000):
        folder = tmp_path / str(calls)
        folder.mkdir()
        if not fresh:
            deliver(folder, "old")
        before = state(folder)

        def task(calls=calls, folder=folder):
            countdown = Countdown(calls, raising)
            countdown.install()
            try:
                deliver(folder, "new")
            except (InputError, KeyboardInterrupt, MemoryError):
                os._exit(4 if countdown.stopped_at == "unlink" else 3)
            os._exit(5 if countdown.stopped_at else 0)

        code = in_child(task)
        assert code in (0, 3, 4, 5)
        if code != 3:  # cleaning up failed: the next run does
            sweep(folder)
        assert names(folder) <= {"plan", "report", "model"}
        assert state(folder) in (before, ["plan new", "report new", "model new"])
        if code == 0:
            break
    assert calls > 10


def test_what_is_being_written_is_no_debris(tmp_path):
    with Delivery() as delivery:
        delivery.write(tmp_path / "a", b"a")
        write_atomic(tmp_path / "b", b"b")  # another run in the same folder
        sweep(tmp_path)
    assert names(tmp_path) == {"a", "b"}


def test_only_our_own_debris_goes(tmp_path):
    ours = [".m.onnx.0123456789ab.onnxprune-part", ".delivery.0123456789ab.onnxprune-journal"]
    others = [
        ".m.onnx.tmp",
        "m.onnxprune-part",
        ".m.onnx.0123456789ab.onnxprune-part.bak",
        ".m.onnx.abcd1234",
    ]
    for name in (*ours, *others):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".folder.0123456789ab.onnxprune-part").mkdir()
    (tmp_path / ".link.0123456789ab.onnxprune-part").symlink_to("m.onnxprune-part")
    write_atomic(tmp_path / "new", b"")
    left = {".folder.0123456789ab.onnxprune-part", ".link.0123456789ab.onnxprune-part"}
    assert names(tmp_path) == {*others, *left, "new"}


def test_a_journal_moves_nothing_that_is_not_ours(tmp_path):
    """Folders come from anywhere."""
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "other").write_text("other")
    (tmp_path / "sub").mkdir()
    part = ".x.0123456789ab.onnxprune-part"
    (tmp_path / "sub" / part).write_text("evil")
    moves = f'[["../other", "a", null], ["{part}", "../victim", null], ["other", "victim", null]]'
    moves = f'{{"moves": {moves}, "leading": null, "others": ["/etc/hosts", "../victim"]}}'
    (tmp_path / "sub" / ".delivery.0123456789ab.onnxprune-journal").write_text(moves)
    write_atomic(tmp_path / "sub" / "new", b"")
    assert names(tmp_path / "sub") == {"new"}
    assert (tmp_path / "victim").read_text() == "kept"
    assert (tmp_path / "other").read_text() == "other"


def test_a_link_stays_one_and_its_target_is_written(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "m.onnx").write_bytes(b"old")
    (tmp_path / "m.onnx").symlink_to("real/m.onnx")
    save(Graph(NEW), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").is_symlink()
    assert onnx.load(tmp_path / "real" / "m.onnx") == NEW
    assert names(tmp_path) == {"m.onnx", "real"}


def test_weights_go_beside_the_file_that_a_link_leads_to(small_limit, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "m.onnx").symlink_to("real/there.onnx")
    save(Graph(NEW), tmp_path / "m.onnx")
    (data,) = external_files(tmp_path / "real" / "there.onnx")
    assert names(tmp_path / "real") == {"there.onnx", data}
    assert weights(tmp_path / "real" / "there.onnx") == of(NEW)
    assert weights(tmp_path / "m.onnx") == of(NEW)


def test_old_weights_go_unless_another_model_has_them(small_limit, tmp_path):
    save(Graph(OLD), tmp_path / "m.onnx")
    (old,) = external_files(tmp_path / "m.onnx")
    shutil.copy(tmp_path / "m.onnx", tmp_path / "copy.onnx")
    save(Graph(NEW), tmp_path / "m.onnx")
    assert weights(tmp_path / "copy.onnx") == of(OLD)
    (tmp_path / "copy.onnx").unlink()
    save(Graph(NEW), tmp_path / "m.onnx")
    assert not (tmp_path / old).exists()
    assert names(tmp_path) == {"m.onnx", *external_files(tmp_path / "m.onnx")}


def test_the_same_weights_have_the_same_name(small_limit, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(Graph(NEW), tmp_path / folder / "m.onnx")
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()
    }


@pytest.mark.parametrize("name", ["", ".", "folder", "pipe", "x" * 300, "no/where"])
def test_what_is_no_place_for_a_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError):
        save(Graph(NEW), name)
    assert names(tmp_path) == {"folder", "pipe"}


def test_a_file_that_grows_beyond_what_is_allowed_leaves_nothing(tmp_path):
    """A full disk, as the system tells it."""
    (tmp_path / "m.onnx").write_bytes(b"old")

    def task():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        try:
            save(Graph(NEW), tmp_path / "m.onnx")
        except InputError as error:
            os._exit(7 if "m.onnx: can't be written (File too large)" in str(error) else 8)

    assert in_child(task) == 7
    assert names(tmp_path) == {"m.onnx"}
    assert (tmp_path / "m.onnx").read_bytes() == b"old"


def test_signals_in_the_middle_of_renames_wait_for_the_next_run(tmp_path):
    """A real process, killed from outside while it writes."""
    program = (
        "import sys, time, onnxprune.graph.delivery as d\n"
        "from pathlib import Path\n"
        "with d.Delivery() as delivery:\n"
        "    delivery.write(Path('a'), b'x')\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    (debris,) = names(tmp_path)
    sweep(tmp_path)
    assert names(tmp_path) == {debris}, "it is still at it"
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(100):  # the system needs a moment to give locks back
        sweep(tmp_path)
        if not names(tmp_path):
            break
        time.sleep(0.05)
    assert names(tmp_path) == set()


def test_weights_that_stay_outside_are_the_same(small_limit, tmp_path):
    save(Graph(NEW), tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    assert graph.size() > 2000
    assert len(graph.model.SerializeToString()) < 2000
    for name, values in of(NEW).items():
        np.testing.assert_array_equal(graph.raw(name), np.frombuffer(values, np.uint8))
    save(graph, tmp_path / "again.onnx")
    assert weights(tmp_path / "again.onnx") == of(NEW)
