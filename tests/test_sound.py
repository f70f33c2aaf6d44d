"""Statistics out of a file: what can't be sums over a model's activations is refused, and says why."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from calibration import channels, gathered, images, residual_net

from onnxprune import calibration
from onnxprune.calibration.sound import TOLERANCE
from onnxprune.errors import InputError
from onnxprune.graph import infer
from onnxprune.reductions.weights import Kernels

NEEDS = frozenset({"consumers", "norms", "pooled", "zeros", "kernels"})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file with everything that can be in one, as a mapping of arrays and what they are about."""
    space = channels(residual_net())
    kernels = Kernels().find(space.network).wanted(NEEDS)
    requests = calibration.requests(space.network, space.wanted(NEEDS) | kernels)
    found = calibration.measure(space.network.graph, requests, [{"image": images(64)}], source="test")
    path = tmp_path_factory.mktemp("stats") / "s.npz"
    calibration.save(replace(found, sensitivities={"a": ((4, 0.5),)}), path)
    with np.load(path) as file:
        arrays = dict(file)
    return arrays, json.loads(arrays.pop("about").tobytes())


def first(arrays, field):
    """The key of the first array of a kind."""
    return next(name for name in arrays if name.endswith(f".{field}") and arrays[name].shape[0] > 3)


def put(field, change):
    def damage(arrays, about):
        name = first(arrays, field)
        arrays[name] = change(arrays[name].copy())

    return damage


def at(index, value):
    def change(array):
        array[index] = value
        return array

    return change


def said(**values):
    def damage(arrays, about):
        about.update(values)

    return damage


def entry(**values):
    def damage(arrays, about):
        about["tensors"][int(first(arrays, "gram").partition(".")[0])].update(values)

    return damage


def exchanged(array):
    """Channels in another order."""
    order = np.argsort(-np.diagonal(array))
    return array[order][:, order]


DAMAGES = {
    "a Gram matrix with NaN": (put("gram", at((0, 0), np.nan)), "gram holds NaN or infinity"),
    "sums with infinity": (put("sum", at(0, np.inf)), "sum holds NaN or infinity"),
    "an asymmetric Gram matrix": (put("gram", at((0, 1), 1e6)), "gram is not symmetric"),
    "rows of a Gram matrix in another order": (put("gram", lambda a: a[::-1]), "can't be of the same"),
    "channels in another order": (put("gram", exchanged), "sum"),
    "a Gram matrix of no squares": (put("gram", lambda a: a - 2 * np.diag(np.diagonal(a))), "below zero"),
    "a transposed shape": (put("gram", lambda a: a[:, :-1]), "gram has shape"),
    "another rank": (put("gram", lambda a: a[None]), "gram has shape"),
    "another type": (put("gram", lambda a: a.astype(np.float32)), "gram is of float32"),
    "a channel too few": (put("sum", lambda a: a[:-1]), "different numbers of channels"),
    "sums of other rows": (put("sum", lambda a: a * 100), "sum and squares can't be of the same numbers"),
    "negative zeros": (put("zeros", lambda a: a - 1e6), "zeros holds numbers below zero"),
    "more zeros than rows": (put("zeros", lambda a: a + 1e9), "zeros are more than the"),
    "negative norms": (put("norms", lambda a: -a), "norms holds numbers below zero"),
    "norms of other samples": (put("norms", lambda a: a * 10), "norms and norm_squares can't be"),
    "norms of other kernels": (put("kernel_norms", lambda a: a * 10), "kernel_norms and kernel_squares"),
    "pooled values of fewer samples": (put("pooled", lambda a: a[1:]), "pooled has 63 rows for 64 samples"),
    "no rows": (entry(rows=0), "is of no rows"),
    "negative rows": (entry(rows=-4), "the numbers of rows and samples are -4"),
    "rows in words": (entry(rows="x"), "the numbers of rows and samples are 'x'"),
    "rows that are true": (entry(rows=True), "the numbers of rows and samples are True"),
    "rows beyond counting": (entry(rows=10**30), "the numbers of rows and samples are"),
    "an axis in words": (entry(axis="x"), "is not a file of statistics"),
    "a tensor without a name": (entry(tensor=None), "is not a file of statistics"),
    "no samples": (said(samples=0), "the number of samples is 0"),
    "samples in words": (said(samples="x"), "the number of samples is 'x'"),
    "an unknown source": (said(source=7), "is not a file of statistics"),
    "a fingerprint that is none": (said(fingerprint=None), "is not a file of statistics"),
    "no tensors": (said(tensors=7), "is not a file of statistics"),
    "losses that are none": (said(sensitivities={"a": [[4, float("nan")]]}), "is no curve of losses"),
    "losses in words": (said(sensitivities={"a": "x"}), "is not a file of statistics"),
    "arrays without entry": (said(tensors=[{"tensor": "a", "axis": 1, "rows": 1, "samples": 1}] * 99), ""),
}


def write(path, arrays, about):
    np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)


@pytest.mark.parametrize("name", DAMAGES)
def test_statistics_that_are_none(name, saved, tmp_path):
    damage, message = DAMAGES[name]
    arrays, about = dict(saved[0]), json.loads(json.dumps(saved[1]))
    damage(arrays, about)
    write(tmp_path / "bad.npz", arrays, about)
    with pytest.raises(InputError) as caught:
        calibration.load(tmp_path / "bad.npz")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/bad.npz: ")


def test_statistics_as_they_are_pass(saved, tmp_path):
    write(tmp_path / "good.npz", *saved)
    assert calibration.load(tmp_path / "good.npz").samples == 64


def test_rounding_passes(saved, tmp_path):
    """Sums of products in 32 bits are neither symmetric nor positive to the last digit."""
    rng = np.random.default_rng(0)
    arrays = {
        name: a * (1 + TOLERANCE / 50 * rng.standard_normal(a.shape)) if name.endswith("gram") else a
        for name, a in saved[0].items()
    }
    write(tmp_path / "good.npz", arrays, saved[1])
    calibration.load(tmp_path / "good.npz")


def test_statistics_of_other_widths_than_the_model(saved, tmp_path):
    """A fingerprint that was copied from elsewhere."""
    arrays, about = dict(saved[0]), json.loads(json.dumps(saved[1]))
    key = int(first(arrays, "gram").partition(".")[0])
    for name in [n for n in arrays if n.startswith(f"{key}.")]:
        cut = arrays[name][..., :-1]
        arrays[name] = cut[:-1] if name.endswith("gram") else cut
    write(tmp_path / "s.npz", arrays, about)
    graph = residual_net()
    stats = calibration.load(tmp_path / "s.npz")
    calibration.require_same(stats, graph, "s.npz")
    with pytest.raises(InputError, match=r"don't fit the model: of '.*', \w+ is of \d+ channels"):
        calibration.require_same(stats, graph, "s.npz", infer(graph))


def test_samples_too_large_to_be_squared():
    huge = [{"image": images(8) * np.float32(1e19)}]
    with pytest.raises(InputError, match=r"too large to be squared|NaN or infinity"):
        gathered(channels(residual_net()), {"consumers"}, huge)
