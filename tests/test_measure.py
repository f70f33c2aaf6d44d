"""One pass of statistics: what it gathers, that parts add up, and that files bring it back."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from calibration import channels, dumped, gathered, images, in_batches, residual_net, rows_of

from onnxprune import calibration
from onnxprune.calibration import files, places
from onnxprune.calibration.meter import Meter
from onnxprune.contracts.stats import Moments, Stats, total
from onnxprune.cost.macs import macs
from onnxprune.errors import InputError
from onnxprune.graph import Edits, Network
from onnxprune.reductions.channels import Channels
from onnxprune.reductions.weights import Kernels, Weights
from onnxprune.runtime import Session

EVERYTHING = frozenset({"consumers", "norms", "pooled", "zeros", "kernels"})


def gather(x, *sizes, needs=EVERYTHING, positions=0, source="test"):
    batches = in_batches({"image": x}, *sizes)
    return gathered(channels(residual_net()), needs, batches, positions=positions, source=source)


def requested(needs, **how):
    """The network, and one request for each tensor that some needs are about."""
    space = channels(residual_net())
    return space.network, calibration.requests(space.network, space.wanted(frozenset(needs)), **how)


def same(a: Stats, b: Stats, rtol=1e-4):
    assert a.fingerprint == b.fingerprint
    assert a.samples == b.samples
    assert list(a.moments) == list(b.moments)
    for key, one in a.moments.items():
        for field in fields(Moments):
            x, y = getattr(one, field.name), getattr(b.moments[key], field.name)
            assert (x is None) == (y is None), (key, field.name)
            if field.name == "pooled" and x is not None:  # a list of samples: in any order
                x, y = np.sort(x, axis=0), np.sort(y, axis=0)
            if x is not None:
                np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6, err_msg=f"{key} {field.name}")


def test_what_consumers_read():
    stats = gather(images(), 8, needs=frozenset({"consumers"}))
    assert list(stats.moments) == [("a", 1), ("b", 1), ("d", 1), ("flat", 1)]
    for (tensor, axis), moments in stats.moments.items():
        (x,) = dumped(residual_net(), {"image": images()}, tensor)
        rows = rows_of(x, axis)
        assert moments.rows == len(rows)
        np.testing.assert_allclose(moments.covariance, np.cov(rows.T, bias=True), rtol=1e-3, atol=1e-5)


def test_each_need_brings_its_own():
    for need, kinds in {
        "norms": {("norm", 1), ("body", 1), ("wide", 1), ("deep", 1), ("thin", 1)},
        "zeros": {("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)},
        "pooled": {("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)},
        "kernels": {("body.w", -1), ("wide.w", -1), ("thin.w", -1), ("head.w", -1)},
    }.items():
        assert set(gather(images(4), 4, needs=frozenset({need})).moments) == kinds, need


def test_mean_squares_alone_where_no_gram_matrix_is_asked_for():
    stats = gather(images(), 8, needs=frozenset({"inputs"}))
    assert list(stats.moments) == [("a", 1), ("b", 1), ("d", 1), ("flat", 1)]
    for (tensor, axis), moments in stats.moments.items():
        (x,) = dumped(residual_net(), {"image": images()}, tensor)
        rows = rows_of(x, axis)
        assert moments.gram is None
        np.testing.assert_allclose(moments.second, (rows**2).mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduction", [Weights(), Kernels()])
def test_layers_that_lose_values_ask_for_what_they_read(reduction):
    """The first convolution reads the model's input: its weights can go, its kernels can't."""
    space = reduction.find(Network(residual_net()))
    found = space.wanted(frozenset({"consumers"})).kinds
    assert set(found.values()) == {frozenset({"gram"})}
    first = {("image", 1), ("c", 1), ("flat", 1)} if reduction.name == "weights" else set()
    assert set(found) == {("a", 1), ("b", 1), ("d", 1), *first}
    if reduction.name == "weights":
        assert set(space.wanted(frozenset({"inputs"})).kinds.values()) == {frozenset({"sum", "squares"})}


def test_what_several_spaces_ask_for_is_joined():
    network = Network(residual_net())
    wanted = Channels().find(network).wanted(frozenset({"norms", "consumers"}))
    wanted |= Weights().find(network).wanted(frozenset({"inputs"}))
    wanted |= Kernels().find(network).wanted(frozenset({"kernels"}))
    assert wanted.kinds["a", 1] == {"gram", "sum", "squares"}
    assert wanted.kinds["norm", 1] == {"norms"}
    assert wanted.kinds["c", 1] == {"sum", "squares"}
    assert set(wanted.kernels) == {("body.w", -1), ("wide.w", -1), ("thin.w", -1)}


def test_wide_tensors_have_no_gram_matrix(monkeypatch):
    monkeypatch.setattr(places, "GRAM_LIMIT", 8)
    stats = gather(images(), 8, needs=frozenset({"consumers"}))
    assert stats.moments["a", 1].gram is not None
    wide = stats.moments["d", 1]
    assert wide.gram is None
    (d,) = dumped(residual_net(), {"image": images()}, "d")
    np.testing.assert_allclose(wide.second, (rows_of(d) ** 2).mean(0), rtol=1e-5)


def test_gram_matrices_stay_within_their_share(monkeypatch):
    monkeypatch.setattr(places, "GRAM_SHARE", 0.05)
    network, wanted = requested({"consumers"})
    found = [r.positions for r in wanted.values()]
    assert found[-1] is None, "one position is all there is behind the pool"
    (some,) = set(found[:-1])
    batch = network.facts.shapes["a"][0]
    budget = 0.05 * sum(macs(network.graph, network.facts).values())

    def cost(positions):
        return batch * (positions * (8 * 8 + 8 * 8 + 12 * 12) + 6 * 6)

    assert places.MIN_POSITIONS < some < 63
    assert cost(some) <= budget < cost(some + 1)


def test_few_samples_are_looked_at_in_more_places(monkeypatch):
    monkeypatch.setattr(places, "GRAM_SHARE", 0)

    def looked_at(samples):
        found = requested({"consumers"}, samples=samples)[1]
        return [(r.shape[r.axis], r.positions) for r in found.values() if r.positions is not None]

    assert {p for _, p in looked_at(None)} == {p for _, p in looked_at(1000)} == {places.MIN_POSITIONS}
    assert {p == -(-4 * c // 10) for c, p in looked_at(10)} == {True}
    assert {p for _, p in looked_at(1)} == {places.MAX_POSITIONS}


def test_batch_sizes_do_not_matter():
    for positions in (0, 10):
        reference = gather(images(), 40, positions=positions)
        same(reference, gather(images(), 1, positions=positions))
        same(reference, gather(images(), 7, 3, 16, positions=positions))


def test_order_does_not_matter():
    order = np.random.default_rng(0).permutation(40)
    same(gather(images(), 8, positions=10), gather(images()[order], 8, positions=10))


def test_parts_add_up():
    x = images()
    for positions in (0, 10):
        parts = [gather(p, 8, positions=positions) for p in (x[:3], x[3:30], x[30:])]
        same(total(parts), gather(x, 8, positions=positions))


def test_parts_of_different_graphs_do_not():
    a = gather(images(3), 3)
    with pytest.raises(ValueError, match="different graphs"):
        a + replace(a, fingerprint="other")


def test_no_samples():
    with pytest.raises(InputError, match="there are no samples"):
        gather(images(0), 8)


def test_progress_counts_samples():
    graph, seen = residual_net(), []
    calibration.measure(graph, {}, in_batches({"image": images(10)}, 4), progress=seen.append)
    assert seen == [4, 8, 10]


def test_warnings():
    assert gather(images(), 8).warnings() == ()
    (few,) = gather(images(5), 8).warnings()
    assert few == "few samples: 'flat' has 5 rows for 6 channels"
    assert "random" in gather(images(), 8, source="random").warnings()[0]


class TestFiles:
    def test_there_and_back(self, tmp_path):
        stats = gather(images(), 8)
        size = calibration.save(stats, tmp_path / "s.npz")
        assert size == (tmp_path / "s.npz").stat().st_size
        same(calibration.load(tmp_path / "s.npz"), stats, rtol=0)
        assert calibration.load(tmp_path / "s.npz").source == "test"

    def test_same_statistics_are_the_same_bytes(self, tmp_path):
        for name in ("a", "b"):
            calibration.save(gather(images(), 8), tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_nothing_is_pickled(self, tmp_path):
        calibration.save(gather(images(), 8), tmp_path / "s.npz")
        with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
            assert all(file[name].dtype != object for name in file)

    @pytest.mark.parametrize("text", [b"", b"nonsense", b"PK\x03\x04"])
    def test_other_files(self, tmp_path, text):
        (tmp_path / "s.npz").write_bytes(text)
        with pytest.raises(InputError, match=r"s\.npz: is not an npz file"):
            calibration.load(tmp_path / "s.npz")

    def test_other_npz(self, tmp_path):
        np.savez(tmp_path / "s.npz", image=np.zeros(3))
        np.savez(tmp_path / "t.npz", about=np.frombuffer(b"[1]", np.uint8))
        for name in ("s.npz", "t.npz"):
            with pytest.raises(InputError, match="is not a file of statistics"):
                calibration.load(tmp_path / name)

    def test_later_formats(self, tmp_path):
        about = json.dumps({"format": files.FORMAT + 1}).encode()
        np.savez(tmp_path / "s.npz", about=np.frombuffer(about, np.uint8))
        with pytest.raises(InputError, match="has format 2, not 1"):
            calibration.load(tmp_path / "s.npz")

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="no such file"):
            calibration.load(tmp_path / "none.npz")

    def test_of_another_model(self):
        graph, stats = residual_net(), gather(images(4), 4)
        calibration.require_same(stats, graph, "s.npz")
        other = graph.edited(Edits(constants={"thin.w": graph.array("thin.w") * 2}))
        with pytest.raises(InputError, match=r"s\.npz: these statistics are of another model"):
            calibration.require_same(stats, other, "s.npz")


def test_what_comes_out_does_not_grow_with_the_batch():
    """But for pooled values, one row per sample."""
    network, wanted = requested(EVERYTHING - {"pooled"}, positions=0)
    meter = Meter(network.graph, tuple(wanted.values()))
    session = Session(meter.graph.serialized())
    sizes = [
        sum(v.nbytes for v in session.run(meter.feeds({"image": images(count)})).values())
        for count in (1, 40)
    ]
    assert sizes[0] == sizes[1]
