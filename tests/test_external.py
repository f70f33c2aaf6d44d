"""External data: where it may be, and what is said of data that isn't there."""

from __future__ import annotations

import os
import shutil

import numpy as np
import onnx
import pytest
from projects import Project, network

from onnxprune.errors import InputError
from onnxprune.graph import data_files, load


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, capsys)


@pytest.fixture
def cache(tmp_path):
    """A model as the cache of Hugging Face has it: names are links to contents."""
    project = tmp_path / "models--org--name"
    blobs, snapshot = project / "blobs", project / "snapshots" / "0123abcd" / "onnx"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    onnx.save(network(), tmp_path / "m", save_as_external_data=True, location="m.onnx_data", size_threshold=0)
    (tmp_path / "m").rename(blobs / "aaaa")
    (tmp_path / "m.onnx_data").rename(blobs / "bbbb")
    (snapshot / "m.onnx").symlink_to("../../../blobs/aaaa")
    (snapshot / "m.onnx_data").symlink_to("../../../blobs/bbbb")
    return snapshot / "m.onnx"


def values(graph):
    return {name: graph.array(name).tolist() for name in graph.constants}


def test_the_cache_of_hugging_face_is_read(cache, project):
    assert values(load(cache)) == values(load(cache, weights=False)) != {}
    assert data_files(cache) == (cache.with_name("m.onnx_data"),)
    project.model("plain.onnx")
    for command in (
        ("inspect", str(cache), "--json"),
        ("check", str(cache), "--measure", "latency", "--measure", "dead-channels"),
        ("diff", str(cache), "plain.onnx"),
        ("bench", str(cache), "plain.onnx", "--seconds", "0"),
        ("validate", str(cache), "plain.onnx", "--rtol", "0"),
        ("prune", str(cache), "-o", "small.onnx", "--ratio", "0.5", "--force", "--quiet"),
    ):
        done = project.run(*command)
        assert done.code == 0, done.err
    diff = project.run("diff", str(cache), "plain.onnx", "--json").json
    assert diff["relation"] == "identical"


def replaced(cache, name, target):
    (cache.parent / name).unlink()
    (cache.parent / name).symlink_to(target)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../elsewhere", "../../../snapshots/other"])
def test_links_lead_to_the_contents_of_the_model_only(cache, project, target):
    shutil.copy(cache.parent.parent.parent.parent / "blobs" / "bbbb", project.root / "elsewhere")
    (cache.parents[2] / "other").write_bytes(bytes(4000))
    replaced(cache, "m.onnx_data", target)
    for command in (("inspect", str(cache)), ("check", str(cache))):
        done = project.run(*command)
        assert done.code == 2
        assert "external data 'm.onnx_data' of tensor 'w1' lies outside the model's folder" in done.err


def test_links_in_a_circle(cache):
    replaced(cache, "m.onnx_data", "m.onnx_data")
    with pytest.raises(
        InputError, match=r"external data file 'm\.onnx_data' of tensor 'w1' (can't be read|is missing)"
    ):
        load(cache)


def test_hard_links_are_files_like_others(tmp_path):
    onnx.save(network(), tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    os.link(tmp_path / "w", tmp_path / "another name")
    assert values(load(tmp_path / "m.onnx"))
    assert values(load(tmp_path / "m.onnx", weights=False))


def stored(path, **entries):
    """A model of which one tensor says where it is in these words; `None` leaves an entry out."""
    onnx.save(network(), path, save_as_external_data=True, location="w", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    known = {e.key: e.value for e in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in known.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "x" * 5000}, r"of tensor 'w1' can't be read \(File name too long\)"),
        ({"location": ""}, "of tensor 'w1' has no place"),
        ({"location": None}, "of tensor 'w1' has no place"),
        ({"location": "a\0b"}, "of tensor 'w1' has no place"),
        ({"location": "/etc/passwd"}, "lies outside the model's folder"),
        ({"location": "../w"}, "lies outside the model's folder"),
        ({"location": "folder"}, "is missing"),
        ({"location": "w/w"}, "is missing"),
        ({"offset": "-8"}, "of tensor 'w1' has no place"),
        ({"offset": "1" * 5000}, "of tensor 'w1' has no place"),
        ({"offset": str(2**61)}, "is truncated"),
        ({"length": "-1"}, "of tensor 'w1' has no place"),
        ({"length": "12"}, "of tensor 'w1' has 12 bytes, and its shape 864"),
        ({"length": "1e3"}, "of tensor 'w1' has no place"),
        ({"offset": "200"}, "is truncated: tensor 'w1' ends at byte 1064 of 1024"),
    ],
)
def test_places_that_are_none(entries, message, tmp_path, project):
    path = tmp_path / "m.onnx"
    stored(path, **entries)
    (tmp_path / "folder").mkdir()
    for weights in (True, False):
        with pytest.raises(InputError, match=message) as caught:
            load(path, weights=weights)
        assert len(str(caught.value)) < 2100
    for command in (("check", "m.onnx"), ("diff", "m.onnx", "m.onnx")):
        assert project.run(*command).err.count("\n") == 1


def test_a_place_without_a_length_is_as_long_as_the_shape(tmp_path):
    stored(tmp_path / "m.onnx", length=None, offset=None)
    np.testing.assert_array_equal(
        load(tmp_path / "m.onnx").array("w1"), load(tmp_path / "m.onnx", weights=False).array("w1")
    )


def test_a_pointer_in_the_place_of_data(tmp_path):
    onnx.save(network(), tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    (tmp_path / "w").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 1024\n"
    )
    with pytest.raises(InputError, match="is a git-lfs pointer, not the file; run 'git lfs pull'"):
        load(tmp_path / "m.onnx")


def test_a_device_in_the_place_of_data(tmp_path):
    onnx.save(network(), tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    (tmp_path / "w").unlink()
    os.mkfifo(tmp_path / "w")
    with pytest.raises(InputError, match="is missing"):
        load(tmp_path / "m.onnx")
