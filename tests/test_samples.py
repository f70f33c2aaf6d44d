"""Samples from every kind of source, in every kind of batch, and every way to get them wrong."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from onnx.helper import (
    make_graph,
    make_model,
    make_node,
    make_opsetid,
    make_tensor_sequence_value_info,
    make_tensor_value_info,
)

import onnxprune.runtime.memory
from onnxprune import samples
from onnxprune.errors import InputError, UsageError
from onnxprune.graph import Graph, Npz
from onnxprune.samples import Preprocessing


def model(**inputs):
    """A graph with these inputs: name=(type, shape)."""
    infos = [make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    nodes = [make_node("Identity", [i.name], [f"{i.name}_out"]) for i in infos]
    outputs = [make_tensor_value_info(f"{i.name}_out", i.type.tensor_type.elem_type, None) for i in infos]
    graph = make_graph(nodes, "inputs", infos, outputs)
    return Graph(make_model(graph, ir_version=8, opset_imports=[make_opsetid("", 17)]))


ONE = model(x=(TensorProto.FLOAT, ["N", 3, 4]))
TWO = model(ids=(TensorProto.INT64, ["N", "T"]), mask=(TensorProto.FLOAT, ["N", "T"]))
X = np.random.default_rng(0).standard_normal((10, 3, 4)).astype(np.float32)


def all_of(found, size=4, name="x"):
    return np.concatenate([b[name] for b in found.batches(size)])


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=X)
    return path


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz(tmp_path, write, named, order):
    array = np.array(X, order=order)
    path = tmp_path / "a.npz"
    write(path, **({"x": array} if named else {"arr_0": array}))
    found = samples.load(path, ONE)
    assert found.count == 10
    assert found.source == str(path)
    for _ in range(2):  # again and again
        np.testing.assert_array_equal(all_of(found), X)


def test_labels_in_an_npz_are_no_input(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, labels=np.arange(10))
    np.testing.assert_array_equal(all_of(samples.load(tmp_path / "a.npz", ONE)), X)


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", X)
    np.testing.assert_array_equal(all_of(samples.load(tmp_path / "a.npy", ONE)), X)


def test_folder_of_arrays(tmp_path):
    """Files of one sample with or without a batch axis, or of several; in the order of their names."""
    np.save(tmp_path / "a.npy", X[0])
    np.save(tmp_path / "b.npy", X[1:2])
    np.savez(tmp_path / "c.npz", x=X[2:])
    (tmp_path / "notes.txt").touch()
    found = samples.load(tmp_path, ONE)
    assert found.count == 10
    np.testing.assert_array_equal(all_of(found, 3), X)
    first, rest = found.split(0.4, 0)
    np.testing.assert_array_equal(all_of(first), X[first.indices])
    np.testing.assert_array_equal(all_of(rest), X[rest.indices])


def test_folder_of_one_file_for_each_input(tmp_path):
    ids, mask = np.arange(12).reshape(4, 3), np.ones((4, 3), np.float32)
    np.save(tmp_path / "ids.npy", ids)
    np.save(tmp_path / "mask.npy", mask)
    (batch,) = samples.load(tmp_path, TWO).batches(8)
    np.testing.assert_array_equal(batch["ids"], ids)
    np.testing.assert_array_equal(batch["mask"], mask)


def test_several_inputs(tmp_path):
    ids, mask = np.arange(12).reshape(4, 3), np.ones((4, 3), np.float32)
    np.savez(tmp_path / "a.npz", ids=ids, mask=mask)
    (batch,) = samples.load(tmp_path / "a.npz", TWO).batches(8)
    np.testing.assert_array_equal(batch["ids"], ids)
    assert batch["ids"].dtype == np.int64
    assert batch["mask"].shape == (4, 3)


def test_scalar_inputs_are_the_same_for_all_samples(tmp_path):
    graph = model(x=(TensorProto.FLOAT, ["N", 4]), rate=(TensorProto.INT64, []))
    np.savez(tmp_path / "a.npz", x=np.ones((3, 4), np.float32), rate=np.int64(16000))
    (batch,) = samples.load(tmp_path / "a.npz", graph).batches(8)
    assert batch["rate"].shape == ()
    assert batch["x"].shape == (3, 4)


def write_test_data(folder, arrays, named=True):
    folder.mkdir()
    for k, (name, array) in enumerate(arrays.items()):
        proto = numpy_helper.from_array(array, name if named else "")
        (folder / f"input_{k}.pb").write_bytes(proto.SerializeToString())
    (folder / "output_0.pb").write_bytes(b"not read")


@pytest.mark.parametrize("named", [True, False])
def test_onnx_test_data(tmp_path, named):
    for k in range(3):
        ids, mask = np.full((1, 2 + k), k), np.ones((1, 2 + k), np.float32)
        write_test_data(tmp_path / f"test_data_set_{k}", {"ids": ids, "mask": mask}, named)
    for path, count in ((tmp_path, 3), (tmp_path / "test_data_set_1", 1)):
        found = list(samples.load(path, TWO).batches(8))
        assert len(found) == count, "samples of different lengths don't go together"
    assert [b["ids"].shape for b in samples.load(tmp_path, TWO).batches(8)] == [(1, 2), (1, 3), (1, 4)]


def test_test_data_with_ten_inputs_is_in_numerical_order(tmp_path):
    names = [f"v{k}" for k in range(11)]
    graph = model(**{n: (TensorProto.FLOAT, ["N"]) for n in names})
    arrays = {n: np.full(1, k, np.float32) for k, n in enumerate(names)}
    write_test_data(tmp_path / "test_data_set_0", arrays, named=False)
    (batch,) = samples.load(tmp_path, graph).batches()
    assert [float(batch[n][0]) for n in names] == list(range(11))


def test_bfloat16_test_data(tmp_path):
    graph = model(x=(TensorProto.BFLOAT16, ["N", 3]))
    write_test_data(tmp_path / "test_data_set_0", {"x": np.ones((2, 3), ml_dtypes.bfloat16)})
    (batch,) = samples.load(tmp_path, graph).batches(8)
    assert batch["x"].dtype == ml_dtypes.bfloat16


def test_bfloat16_in_npz_which_does_not_know_it(tmp_path):
    graph = model(x=(TensorProto.BFLOAT16, ["N", 3]))
    np.savez(tmp_path / "a.npz", x=np.full((2, 3), 1.5, ml_dtypes.bfloat16))
    (batch,) = samples.load(tmp_path / "a.npz", graph).batches(8)
    assert batch["x"].dtype == ml_dtypes.bfloat16
    assert (batch["x"] == 1.5).all()
    with pytest.raises(InputError, match="needs float32, the array has"):
        samples.load(tmp_path / "a.npz", model(x=(TensorProto.FLOAT, ["N", 3])))


# ---------------------------------------------------------------- images


@pytest.fixture
def photos(tmp_path):
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = 255, 51, 0
    image.fromarray(pixels).save(folder / "a.png")
    image.fromarray(pixels[..., 0]).save(folder / "b.png")  # grey becomes colour
    return folder


def test_images(photos):
    graph = model(x=(TensorProto.FLOAT, ["N", 3, 6, 5]))
    (batch,) = samples.load(photos, graph).batches()
    assert batch["x"].shape == (2, 3, 6, 5)
    np.testing.assert_allclose(batch["x"][0, :, 2, 2], [1, 0.2, 0], atol=1e-6)
    np.testing.assert_allclose(batch["x"][1, :, 2, 2], [1, 1, 1])


def test_image_presets(photos):
    graph = model(x=(TensorProto.FLOAT, ["N", 3, 6, 6]))
    how = Preprocessing("imagenet")
    (batch,) = samples.load(photos, graph, preprocessing=how).batches()
    expected = (np.array([1, 0.2, 0]) - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(batch["x"][0, :, 3, 3], expected, rtol=1e-5)
    (raw,) = samples.load(photos, graph, preprocessing=Preprocessing("raw")).batches()
    np.testing.assert_allclose(raw["x"][0, :, 3, 3], [255, 51, 0])


def test_images_with_colours_last_or_as_integers(photos):
    graph = model(x=(TensorProto.UINT8, ["N", 6, 5, 3]))
    (batch,) = samples.load(photos, graph, preprocessing=Preprocessing("raw")).batches()
    assert batch["x"].dtype == np.uint8
    assert batch["x"][0, 2, 2].tolist() == [255, 51, 0]


def test_images_as_integers_are_not_squeezed_into_zero_and_one(photos):
    graph = model(x=(TensorProto.UINT8, ["N", 3, 6, 5]))
    (batch,) = samples.load(photos, graph).batches()
    assert batch["x"][0, :, 2, 2].tolist() == [255, 51, 0]
    with pytest.raises(UsageError, match=r"pixels would go from -2.*try --preset raw"):
        samples.load(photos, graph, preprocessing=Preprocessing("imagenet"))


def test_three_means_for_grey_images(photos):
    graph = model(x=(TensorProto.FLOAT, ["N", 1, 4, 4]))
    with pytest.raises(UsageError, match=r"--mean: 3 numbers for images of one colour"):
        samples.load(photos, graph, preprocessing=Preprocessing("imagenet"))


def test_colours_come_first_where_both_ends_could_be_colours(photos):
    graph = model(x=(TensorProto.FLOAT, ["N", 3, 8, 3]))
    (batch,) = samples.load(photos, graph).batches()
    np.testing.assert_allclose(batch["x"][0, :, 4, 1], [1, 0.2, 0], atol=1e-6)


def test_images_lie_as_their_camera_held_them(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, 4:] = 255  # bright at the right
    exif = image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it: then bright at the bottom
    image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    graph = model(x=(TensorProto.FLOAT, ["N", 1, 8, 4]))
    (batch,) = samples.load(tmp_path, graph).batches()
    np.testing.assert_array_equal(batch["x"][0, 0, :, 0], [0, 0, 0, 0, 1, 1, 1, 1])


def test_images_with_alpha_palettes_or_sixteen_bits(tmp_path):
    image = pytest.importorskip("PIL.Image")
    colour = np.zeros((4, 4, 4), np.uint8)
    colour[...] = 255, 51, 0, 128
    image.fromarray(colour).save(tmp_path / "a.png")
    image.fromarray(colour).convert("RGB").convert("P").save(tmp_path / "b.gif")
    image.fromarray(np.full((4, 4), 51 * 257, np.uint16)).save(tmp_path / "c.png")
    image.fromarray(np.full((4, 4), 0.2, np.float32)).save(tmp_path / "d.tiff")
    graph = model(x=(TensorProto.FLOAT, ["N", 3, 4, 4]))
    first = samples.load(tmp_path, graph).first(3)
    (batch,) = first.batches()
    np.testing.assert_allclose(batch["x"][:, :, 1, 1], [[1, 0.2, 0], [1, 0.2, 0], [0.2, 0.2, 0.2]], atol=1e-6)
    with pytest.raises(InputError, match=r"d\.tiff.*its pixels are floats"):
        list(samples.load(tmp_path, graph).batches())


def test_images_for_a_model_of_several_inputs(photos):
    graph = model(x=(TensorProto.FLOAT, ["N", 3, 6, 5]), size=(TensorProto.FLOAT, ["N", 2]))
    with pytest.raises(InputError, match="images are for one input, the model has x, size"):
        samples.load(photos, graph)


def test_grey_images(photos):
    graph = model(x=(TensorProto.FLOAT, ["N", 1, 4, 4]))
    (batch,) = samples.load(photos, graph).batches()
    assert batch["x"].shape == (2, 1, 4, 4)


def test_images_of_any_size_need_one(photos):
    graph = model(x=(TensorProto.FLOAT, ["N", 3, "H", "W"]))
    with pytest.raises(UsageError, match="--image-size"):
        samples.load(photos, graph)
    (batch,) = samples.load(photos, graph, preprocessing=Preprocessing(size=(4, 5))).batches()
    assert batch["x"].shape == (2, 3, 4, 5)


def test_a_crop_takes_the_middle(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 6:10] = 255
    image.fromarray(pixels).save(tmp_path / "wide.png")
    graph = model(x=(TensorProto.FLOAT, ["N", 3, 4, 4]))
    (batch,) = samples.load(tmp_path, graph, preprocessing=Preprocessing(crop=2.0)).batches()
    assert (batch["x"] > 0.9).all()


def test_a_broken_image_is_named(photos):
    (photos / "c.png").write_bytes(b"no image")
    graph = model(x=(TensorProto.FLOAT, ["N", 3, 6, 5]))
    with pytest.raises(InputError, match=r"c\.png: is not an image"):
        list(samples.load(photos, graph).batches())


# ---------------------------------------------------------------- Python


class Reader:
    """As ONNX Runtime's CalibrationDataReader."""

    def __init__(self, feeds):
        self._feeds = iter(feeds)

    def get_next(self):
        return next(self._feeds, None)


@pytest.mark.parametrize("limit", [0, 1 << 20])
@pytest.mark.parametrize("wrap", [list, iter, Reader, lambda feeds: (f for f in feeds)])
def test_python_objects_even_if_they_can_be_read_only_once(monkeypatch, wrap, limit):
    monkeypatch.setattr(samples.objects, "SPOOL_LIMIT", limit)
    found = samples.load(wrap([{"x": X[:1]}, {"x": X[1:6]}, {"x": X[6:]}]), ONE)
    assert found.count == 10
    for _ in range(2):
        np.testing.assert_array_equal(all_of(found), X)


def test_arrays_by_name_and_an_array_for_the_only_input():
    np.testing.assert_array_equal(all_of(samples.load({"x": X}, ONE)), X)
    np.testing.assert_array_equal(all_of(samples.load(X, ONE)), X)


def test_readers_of_onnx_runtime():
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Own(quantization.CalibrationDataReader):
        def __init__(self):
            self._left = [{"x": X[k : k + 1]} for k in range(10)]

        def get_next(self):
            return self._left.pop(0) if self._left else None

    np.testing.assert_array_equal(all_of(samples.load(Own(), ONE)), X)


def test_two_parts_of_one_iterable_can_be_read_in_turns():
    first, rest = samples.load(iter([{"x": X}]), ONE).split(0.5, 0)
    turns = [(a["x"], b["x"]) for a, b in zip(first, rest, strict=True)]
    np.testing.assert_array_equal(np.concatenate([a for a, _ in turns]), X[first.indices])
    np.testing.assert_array_equal(np.concatenate([b for _, b in turns]), X[rest.indices])


def test_sequences_of_different_lengths_are_batched_with_their_like():
    feeds = [{"ids": np.zeros((1, n), np.int64), "mask": np.ones((1, n), np.float32)} for n in (3, 3, 5, 3)]
    found = samples.load(feeds, TWO)
    assert [b["ids"].shape for b in found.batches(8)] == [(2, 3), (1, 5), (1, 3)]


def test_random_samples_are_the_same_in_any_batches():
    found = samples.random(ONE, 6, seed=3)
    assert found.source == "random"
    np.testing.assert_array_equal(all_of(found, 2), all_of(found, 6))
    assert not np.array_equal(all_of(found), all_of(samples.random(ONE, 6, seed=4)))


# ---------------------------------------------------------------- batches and parts


def test_batches_of_a_model_fixed_to_one():
    graph = model(x=(TensorProto.FLOAT, [1, 3, 4]))
    found = samples.load([{"x": X}], graph)
    assert not found.joinable
    assert [len(b["x"]) for b in found.batches(4)] == [1] * 10


def test_batches_of_a_model_fixed_to_four():
    """Four rows are one sample; what is left over is none, and told."""
    graph = model(x=(TensorProto.FLOAT, [4, 3, 4]))
    found = samples.load({"x": X}, graph)
    assert (found.count, found.rows) == (2, 8)
    assert found.notes == ("the last 2 samples are left out: the model takes 4 at a time",)
    assert samples.load({"x": X[:8]}, graph).notes == ()
    found = samples.load([{"x": X}], graph)
    assert found.count == 2
    assert [len(b["x"]) for b in found.batches(32)] == [4, 4]
    with pytest.raises(InputError, match=r"holds no samples; the model takes 4 at a time"):
        samples.load({"x": X[:3]}, graph)


RECURRENT = model(
    x=(TensorProto.FLOAT, ["N", "T"]), state=(TensorProto.FLOAT, [2, "N", 3]), rate=(TensorProto.INT64, [])
)


def test_inputs_whose_first_axes_are_no_batch(tmp_path):
    """With a recurrent state (2, N, 3), a sample is all inputs as they are; one more axis counts samples."""
    one = {"x": np.ones((1, 5), np.float32), "state": np.ones((2, 1, 3), np.float32), "rate": np.int64(8000)}
    (batch,) = samples.load([one], RECURRENT).batches(8)
    assert {n: a.shape for n, a in batch.items()} == {"x": (1, 5), "state": (2, 1, 3), "rate": ()}
    many = {"x": np.arange(20).reshape(4, 1, 5) / 1.0, "state": one["state"], "rate": np.arange(4)}
    np.savez(tmp_path / "a.npz", **many)
    found = samples.load(tmp_path / "a.npz", RECURRENT)
    assert found.count == 4
    batches = list(found.batches(8))
    assert [b["x"][0, 0] for b in batches] == [0, 5, 10, 15]
    assert [b["rate"] for b in batches] == [0, 1, 2, 3]
    assert all(b["state"].shape == (2, 1, 3) for b in batches)


def test_samples_with_different_scalars_do_not_run_together():
    graph = model(x=(TensorProto.FLOAT, ["N", 4]), rate=(TensorProto.INT64, []))
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(3, 4), "rate": np.array([8, 8, 16])}
    assert [(len(b["x"]), int(b["rate"])) for b in samples.load(feeds, graph).batches()] == [(2, 8), (1, 16)]


def test_first(npz):
    found = samples.load(npz, ONE)
    np.testing.assert_array_equal(all_of(found.first(3)), X[:3])
    assert found.first(99).count == 10


def test_some_are_drawn_from_all(npz):
    found = samples.load(npz, ONE).some(4, seed=1)
    assert found.count == 4
    assert found.indices.tolist() != [0, 1, 2, 3]
    np.testing.assert_array_equal(all_of(found), X[found.indices])
    assert samples.load(npz, ONE).some(99).count == 10


def test_parts_are_disjoint_random_and_whole(npz):
    found = samples.load(npz, ONE)
    a, b = found.split(0.3, seed=1)
    assert (a.count, b.count) == (3, 7)
    assert sorted([*a.indices, *b.indices]) == list(range(10))
    assert a.indices.tolist() != list(range(3))
    assert a.indices.tolist() == found.split(0.3, seed=1)[0].indices.tolist()
    assert a.indices.tolist() != found.split(0.3, seed=2)[0].indices.tolist()
    assert [p.count for p in found.split(0.001)] == [1, 9]
    with pytest.raises(InputError, match="can't be split"):
        found.first(1).split(0.5)


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": X}, "the model has no input 'y'; it has: x"),
        ({"x": X.astype(np.int64)}, "input 'x' needs float32, the array has int64"),
        ({"x": X[:, :2]}, "input 'x' needs shape (N, 3, 4), the samples have (1, 2, 4)"),
        ({"x": X[:, 0]}, "input 'x' needs shape (N, 3, 4), the samples have (1, 10, 4)"),
        ({"x": X[:0]}, "holds no samples"),
        ({}, "holds no arrays"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, message):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError) as caught:
        samples.load(path, ONE)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_input_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", ids=np.zeros((2, 3), np.int64))
    with pytest.raises(InputError, match="no array for input 'mask'"):
        samples.load(tmp_path / "a.npz", TWO)


def test_unequal_numbers_of_samples(tmp_path):
    np.savez(tmp_path / "a.npz", ids=np.zeros((2, 3), np.int64), mask=np.ones((3, 3), np.float32))
    with pytest.raises(InputError, match="'ids' 2, 'mask' 3"):
        samples.load(tmp_path / "a.npz", TWO)


def test_integers_too_large_for_the_model():
    graph = model(x=(TensorProto.UINT8, ["N", 2]))
    with pytest.raises(InputError, match="needs uint8, a value is too large"):
        samples.load({"x": np.array([[1, 256]])}, graph)
    (batch,) = samples.load({"x": np.array([[1, 255]])}, graph).batches()
    assert batch["x"].dtype == np.uint8


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_refused_once_it_is_read(tmp_path, write):
    path = tmp_path / "a.npz"
    write(path, x=np.random.default_rng(0).standard_normal((5000, 3, 4)).astype(np.float32))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.npz: is damaged"):
        list(samples.load(path, ONE).batches(64))


def test_an_array_without_a_name_for_several_inputs(tmp_path):
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(InputError, match="several inputs; name arrays: ids, mask"):
        samples.load(tmp_path / "a.npy", TWO)


def test_files_that_are_something_else(tmp_path):
    for name in ("a.npz", "a.npy", "a.txt", "a.pb"):
        (tmp_path / name).write_bytes(b"\xff nonsense")
        with pytest.raises(InputError, match=name):
            samples.load(tmp_path / name, ONE)
    with pytest.raises(InputError, match="no such file or folder"):
        samples.load(tmp_path / "none.npz", ONE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no samples in the folder"):
        samples.load(tmp_path / "empty", ONE)


class Trap:
    """Says so if it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_nothing_is_unpickled(tmp_path):
    array = np.empty(1, object)
    array[0] = Trap()
    np.savez(tmp_path / "a.npz", x=array)
    np.save(tmp_path / "a.npy", array)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("a.npz", "a.npy", "b.npy"):
        with pytest.raises(InputError, match="Python objects"):
            samples.load(tmp_path / name, ONE)


def test_an_iterable_of_something_else():
    with pytest.raises(InputError, match="gives ndarray, not dicts"):
        samples.load([X], ONE)
    with pytest.raises(InputError, match="holds no samples"):
        samples.load([], ONE)


def test_samples_on_an_axis_of_their_own_are_not_joined(tmp_path):
    """The first axis of an input may be time: 64 clips of 100 steps are 64 samples, and not 6,400."""
    graph = model(x=(TensorProto.FLOAT, ["T", 5]))
    np.save(tmp_path / "clips.npy", np.zeros((64, 100, 5), np.float32))
    found = samples.load(tmp_path / "clips.npy", graph)
    assert (found.count, found.rows, found.joinable) == (64, 64, False)
    assert {b["x"].shape for b in found.batches(32)} == {(100, 5)}
    batches_of_one = samples.load({"x": np.zeros((64, 1, 5), np.float32)}, graph)
    assert [len(b["x"]) for b in batches_of_one.batches(32)] == [32, 32]


# ---------------------------------------------------------------- files that claim too much


def npy(shape, data, fortran=False):
    """An npy file whose header says what it likes."""
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


def zipped(path, content, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", content)


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize(
    ("shape", "data", "message"),
    [
        ((200_000_000, 3, 4), b"1234", r"array 'x' has 4 bytes, and float32 of shape .* takes 9600000000"),
        ((-2, 3, 4), b"", r"array 'x' has 0 bytes, and float32 of shape \(-2, 3, 4\)"),
        ((10, 3, 4), bytes(500), r"array 'x' has 500 bytes"),
        ((2**40, 2**40), b"", r"array 'x' has 0 bytes"),
    ],
)
def test_headers_that_claim_what_is_not_there(tmp_path, shape, data, message, fortran):
    zipped(tmp_path / "a.npz", npy(shape, data, fortran))
    with pytest.raises(InputError, match=message):
        samples.load(tmp_path / "a.npz", ONE)
    (tmp_path / "a.npy").write_bytes(npy(shape, data, fortran))
    if len(data) < 500:
        with pytest.raises(InputError, match="is not an npy file"):
            samples.load(tmp_path / "a.npy", ONE)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_make_anything_out_of_nothing(tmp_path, compression):
    zipped(tmp_path / "a.npz", npy((1_000_000, 3, 4), bytes(48_000_000), fortran=True), compression)
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    with pytest.raises(InputError, match="compressed in a way that NumPy doesn't write"):
        samples.load(tmp_path / "a.npz", ONE)


def test_only_what_is_an_input_is_read(tmp_path, monkeypatch):
    """What doesn't fit the model is told from its header."""
    read = []
    monkeypatch.setattr(Npz, "read", lambda self, name: read.append(name))
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(X[:, :2]), labels=np.asfortranarray(X))
    with pytest.raises(InputError, match=r"input 'x' needs shape \(N, 3, 4\), the samples have \(1, 2, 4\)"):
        samples.load(tmp_path / "a.npz", ONE)
    np.savez(tmp_path / "b.npz", x=X, y=np.asfortranarray(X))
    with pytest.raises(InputError, match="the model has no input 'y'"):
        samples.load(tmp_path / "b.npz", ONE)
    assert not read


def test_an_array_larger_than_memory_is_not_read(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(X))
    monkeypatch.setattr(onnxprune.runtime.memory, "physical", lambda: X.nbytes - 1)
    with pytest.raises(InputError, match=r"array 'x': an array of shape \(10, 3, 4\) takes"):
        samples.load(tmp_path / "a.npz", ONE)


def damaged_zip(change):
    """A damaged npz: bytes of its directory are changed."""

    def write(path):
        np.savez(path, x=X)
        data = bytearray(path.read_bytes())
        change(data, data.rfind(b"PK\x01\x02"), data.find(b"PK\x03\x04"))
        path.write_bytes(data)

    return write


def flag(data, end, start):
    data[end + 8] |= 1
    data[start + 6] |= 1


def method(data, end, start):
    data[end + 10] = data[start + 8] = 97


def version(data, end, start):
    data[end + 6] = data[start + 4] = 99


@pytest.mark.parametrize("change", [flag, method, version], ids=["encrypted", "method", "version"])
def test_zips_that_cannot_be_read(tmp_path, change):
    damaged_zip(change)(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"a\.npz: (is not an npz file|array 'x' is compressed)"):
        samples.load(tmp_path / "a.npz", ONE)


@pytest.mark.parametrize(
    "header",
    [b"(" * 3000, b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"(" * 500, b"\xff" * 90, b"{}"],
)
def test_headers_that_are_none(tmp_path, header):
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    zipped(tmp_path / "a.npz", data)
    (tmp_path / "a.npy").write_bytes(data)
    for name in ("a.npz", "a.npy"):
        with pytest.raises(InputError, match=name):
            samples.load(tmp_path / name, ONE)


def test_an_npz_that_calls_itself_npy(tmp_path, npz):
    npz.rename(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"a\.npy: is not an npy file"):
        samples.load(tmp_path / "a.npy", ONE)


def test_tensors_in_other_files_are_not_followed(tmp_path):
    tensor = numpy_helper.from_array(X[:1], "x")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "input_0.pb").write_bytes(tensor.SerializeToString())
    with pytest.raises(InputError, match="its values are in another file"):
        samples.load(tmp_path / "input_0.pb", ONE)


@pytest.mark.parametrize("name", ["pipe.npz", "pipe.npy", "pipe.pb", "pipe.png"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="is a device, not a file"):
        samples.load(tmp_path / name, ONE)


def test_images_for_a_model_that_takes_opacity(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (4, 4, 4), np.uint8)
    image.fromarray(pixels).save(tmp_path / "a.png")
    image.fromarray(pixels[..., :3]).save(tmp_path / "b.png")
    graph = model(x=(TensorProto.UINT8, ["N", 4, 4, 4]))
    (batch,) = samples.load(tmp_path, graph).batches()
    np.testing.assert_array_equal(batch["x"][0], pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(batch["x"][1, 3], 255)
    with pytest.raises(UsageError, match=r"3 numbers for images of three colours and opacity; .* or 4"):
        samples.load(tmp_path, graph, preprocessing=Preprocessing("imagenet"))
    last = model(x=(TensorProto.FLOAT, ["N", 6, 5, 4]))
    assert [b["x"].shape for b in samples.load(tmp_path, last).batches()] == [(2, 6, 5, 4)]


def test_inputs_that_no_sample_can_be_for():
    graph = model(x=(TensorProto.FLOAT, ["N"]))
    graph.model.graph.input[0].CopyFrom(make_tensor_sequence_value_info("x", TensorProto.FLOAT, ["N"]))
    with pytest.raises(InputError, match="'x' is no tensor"):
        samples.random(graph, 1)


STRINGS = model(x=(TensorProto.STRING, ["N", 2]))
TEXTS = np.array([["a", "b"], ["ü", "long"], ["", "c"]])


@pytest.mark.parametrize("kind", ["U", "S", "O"])
def test_strings(tmp_path, kind):
    texts = {"U": TEXTS, "S": np.char.encode(TEXTS, "utf-8"), "O": TEXTS.astype(object)}[kind]
    if kind != "O":  # Python objects are never loaded
        np.savez(tmp_path / "a.npz", x=texts)
    source = {"x": texts} if kind == "O" else tmp_path / "a.npz"
    (batch,) = samples.load(source, STRINGS).batches()
    assert batch["x"].dtype == object
    assert batch["x"].tolist() == TEXTS.tolist()
    (again,) = samples.load(iter([{"x": batch["x"]}]), STRINGS).batches()
    assert again["x"].tolist() == TEXTS.tolist()
    with pytest.raises(InputError, match="needs strings, the array has float64"):
        samples.load({"x": np.zeros((3, 2))}, STRINGS)


def test_random_strings():
    (batch,) = samples.random(STRINGS, 3).batches()
    assert batch["x"].shape == (3, 2)
    assert all(isinstance(text, str) for text in batch["x"].flat)


def test_npz_files_are_read_as_streams(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=X)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("the file was loaded as a whole"))
    assert [b["x"].nbytes for b in samples.load(path, ONE).batches(4)] == [4 * 48, 4 * 48, 2 * 48]
