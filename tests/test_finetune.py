"""Fine-tuning: what is trained, how, who judges; never worse than the start, and the same again."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from calibration import build, dumped, images, residual_net
from onnx import helper, numpy_helper
from onnx.helper import make_node

from onnxprune import apply, finetune, prune
from onnxprune.errors import Infeasible, InputError, UsageError
from onnxprune.graph import Edits, Graph, infer
from onnxprune.samples import load as samples_of
from onnxprune.tuning import FinetuneOptions, Pull, trainable
from onnxprune.tuning.augment import augmented
from onnxprune.tuning.checkpoint import load as read_state
from onnxprune.tuning.deck import Deck
from onnxprune.tuning.optimiser import Stepper, share, sizes

QUICK = {"updates": 40, "rate": 1e-2}


@pytest.fixture(scope="module")
def small():
    """The residual net without some of its channels, nothing repaired."""
    how = {"repair": "none", "evaluations": 0, "criterion": "l1", "force": True, "measure_latency": False}
    return prune(residual_net(), macs=0.6, **how).graph


def error(graph, x, teacher=None):
    """Relative squared error of the logits."""
    (y,) = dumped(teacher or residual_net(), {"image": x}, "logits")
    (z,) = dumped(graph, {"image": x}, "logits")
    return np.square(y - z).sum() / np.square(y - y.mean(0)).sum()


def spoilt(graph, seed=0, by=0.1):
    """The same network with noise on its weights."""
    r = np.random.default_rng(seed)
    edits = Edits()
    for name in graph.constants:
        w = graph.array(name)
        if w.dtype == np.float32 and w.ndim > 1:
            edits.constants[name] = (w + by * w.std() * r.standard_normal(w.shape)).astype(np.float32)
    return graph.edited(edits)


# ---------------------------------------------------------------- it learns


def test_learns_what_the_teacher_says(small):
    seen, other = images(200), images(64, seed=9)
    result = finetune(small, residual_net(), {"image": seen}, updates=150, rate=1e-2)
    before, after = error(small, other), error(result.graph, other)
    assert after < 0.7 * before, "on samples that were not given"
    assert result.found.after < result.found.before
    assert result.found.best > 0


def test_learns_by_gradient_descent(small):
    result = finetune(
        small, residual_net(), {"image": images(200)}, updates=150, rate=1e-2, optimiser="sgd", augment=()
    )
    other = images(64, seed=9)
    assert error(result.graph, other) < 0.9 * error(small, other)


def classes_of(graph, x):
    return dumped(graph, {"image": x}, "logits")[0].argmax(1)


def centred(graph):
    """The same network with the mean of its logits taken off, so that all classes occur."""
    (mean,) = dumped(residual_net(), {"image": images(200, seed=3)}, "logits")
    model = onnx.ModelProto.FromString(graph.serialized())
    model.graph.node[-1].output[0] = "raw"
    model.graph.initializer.append(numpy_helper.from_array(mean.mean(0).astype(np.float32), "mean"))
    model.graph.node.append(helper.make_node("Sub", ["raw", "mean"], ["logits"], "centre"))
    return Graph(model)


@pytest.mark.parametrize("towards", ["labels", "both", "auto"])
def test_learns_labels(small, towards, tmp_path):
    x, other = images(240), images(200, seed=9)
    student, teacher = centred(small), centred(residual_net())
    np.savez(tmp_path / "l.npz", image=x, labels=classes_of(teacher, x))
    result = finetune(
        student,
        teacher if towards != "labels" else None,
        labels=tmp_path / "l.npz",
        towards=towards,
        updates=120,
        rate=1e-2,
    )
    right = classes_of(teacher, other)
    before = (classes_of(student, other) == right).mean()
    assert (classes_of(result.graph, other) == right).mean() > before + 0.04


def test_learns_values(tmp_path):
    """Labels that are no classes: the squared error."""
    r = np.random.default_rng(0)
    weights = {"a.w": r.standard_normal((6, 4, 1, 1)), "b.w": r.standard_normal((5, 6, 1, 1))}
    nodes = [
        make_node("Conv", ["x", "a.w"], ["a"], "first"),
        make_node("Relu", ["a"], ["s"]),
        make_node("Conv", ["s", "b.w"], ["y"], "second"),
    ]
    weights = {name: w.astype(np.float32) for name, w in weights.items()}
    graph = build(nodes, {"x": ["N", 4, 3, 3]}, {"y": ["N", 5, 3, 3]}, weights)
    x = r.standard_normal((80, 4, 3, 3)).astype(np.float32)
    (y,) = dumped(graph, {"x": x}, "y")
    np.savez(tmp_path / "l.npz", x=x, labels=y.astype(np.float32))
    result = finetune(spoilt(graph), labels=tmp_path / "l.npz", updates=100, rate=1e-2)
    assert result.found.after < 0.3 * result.found.before


# ---------------------------------------------------------------- never worse


def test_what_is_no_better_is_the_start():
    """The teacher itself can't get better."""
    graph = residual_net()
    result = finetune(graph, graph, {"image": images(60)}, **QUICK)
    assert result.found.best == 0
    assert result.graph.serialized() == graph.serialized()
    assert result.found.before == result.found.after
    assert any("nothing better than the start" in note for note in result.notes)


def test_steps_that_are_too_long_do_no_harm(small):
    result = finetune(small, residual_net(), {"image": images(60)}, updates=40, rate=0.9, clip=0)
    assert result.found.after <= result.found.before
    assert np.isfinite(error(result.graph, images(20, seed=9)))


def test_a_rate_is_found(small):
    result = finetune(small, residual_net(), {"image": images(120)}, updates=60)
    assert 0 < result.found.rate < 1
    assert result.found.after < result.found.before


def test_judges_on_samples_that_are_not_fitted(small, monkeypatch):
    room = sys.modules["onnxprune.pipeline.finetuning"]
    parts = {}
    made = room.split

    def split(data, shares, seed):
        parts["found"] = made(data, shares, seed)
        return parts["found"]

    monkeypatch.setattr(room, "split", split)
    finetune(small, residual_net(), {"image": images(200)}, updates=2, rate=1e-3)
    found = parts["found"]
    used = [set(part.indices.tolist()) for part in (found.fit, found.choose, found.judge)]
    assert sum(map(len, used)) == len(set.union(*used)) == 200


# ---------------------------------------------------------------- the same again


def test_is_deterministic(small):
    how = {"calib": {"image": images(100)}, **QUICK}
    one, two = (finetune(small, residual_net(), **how).graph.serialized() for _ in range(2))
    assert one == two
    assert finetune(small, residual_net(), **how, seed=1).graph.serialized() != one


def test_what_a_run_has_found_makes_it_again(small):
    how = {"calib": {"image": images(100)}}
    first = finetune(small, residual_net(), **how, time=0.02)
    again = finetune(small, residual_net(), **how, options=first.options)
    assert first.options.updates == first.found.updates
    assert first.options.time is None
    assert again.graph.serialized() == first.graph.serialized()


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_bytes(small, tmp_path):
    how = {"calib": {"image": images(100)}, "updates": 40, "rate": 1e-2}
    whole = finetune(small, residual_net(), **how).graph.serialized()
    file = tmp_path / "run.ckpt"

    def killing(text):
        if "update 22 of" in text:
            raise Killed

    with pytest.raises(Killed):
        finetune(small, residual_net(), **how, resume=file, progress=killing)
    assert file.exists()
    with pytest.raises(InputError, match="is of another run"):
        finetune(small, residual_net(), **{**how, "rate": 2e-2}, resume=file)
    resumed = finetune(small, residual_net(), **how, resume=file)
    assert resumed.graph.serialized() == whole
    assert not file.exists(), "a run that has come to its end leaves nothing"


def test_a_file_that_is_no_checkpoint_is_refused(small, tmp_path):
    np.savez(tmp_path / "c.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="is no checkpoint"):
        read_state(tmp_path / "c.npz", "key")
    assert read_state(tmp_path / "none.npz", "key") is None


# ---------------------------------------------------------------- what is trained


def names_of(graph):
    return trainable(graph, infer(graph))


def test_parameters_are_weights_biases_and_scales():
    found = names_of(residual_net())
    assert set(found.weights) == {"stem.w", "body.w", "wide.w", "deep.w", "thin.w", "head.w"}
    assert set(found.vectors) == {"stem.scale", "stem.shift", "wide.b"}, "and no statistics"


def test_grids_and_tables_are_none():
    r = np.random.default_rng(0)
    weights = {
        "w": r.standard_normal((5, 4, 1, 1)).astype(np.float32),
        "grid": r.standard_normal((1, 5, 3, 3)).astype(np.float32),
        "scale": r.standard_normal((1, 5, 1, 1)).astype(np.float32),
        "mask": np.asarray([0, -np.inf, 0], np.float32),
    }
    nodes = [
        make_node("Conv", ["x", "w"], ["a"], "first"),
        make_node("Add", ["a", "grid"], ["b"]),
        make_node("Mul", ["b", "scale"], ["c"]),
        make_node("Add", ["c", "mask"], ["y"]),
    ]
    graph = build(nodes, {"x": ["N", 4, 3, 3]}, {"y": ["N", 5, 3, 3]}, weights)
    assert names_of(graph).all == ("w", "scale")


def test_only_vectors_change_where_samples_are_few(small):
    result = finetune(small, residual_net(), {"image": images(40)}, updates=40, rate=1e-2)
    assert any("only scales and biases" in note for note in result.notes)
    for name in result.graph.constants:
        if name.endswith(".w"):
            np.testing.assert_array_equal(result.graph.array(name), small.array(name))


def test_zeros_stay_zeros():
    graph = residual_net()
    sparse = prune(graph, sparsity=0.5, criterion="l1", force=True, measure_latency=False).graph
    result = finetune(sparse, graph, {"image": images(200)}, updates=60, rate=1e-2)
    assert result.found.best > 0
    for name in sparse.constants:
        if name.endswith(".w"):
            np.testing.assert_array_equal(result.graph.array(name) == 0, sparse.array(name) == 0)
    assert any("zeros" in note for note in result.notes)


def test_float16_is_trained_in_float32_and_stored_as_it_was():
    model = onnx.ModelProto.FromString(residual_net().serialized())
    for tensor in model.graph.initializer:
        narrow = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = 10
    teacher = Graph(model)
    r = np.random.default_rng(0)
    edits = Edits()
    for name in ("wide.w", "thin.w"):
        w = teacher.array(name)
        edits.constants[name] = (w + 0.05 * r.standard_normal(w.shape)).astype(np.float16)
    student = teacher.edited(edits)
    result = finetune(student, teacher, {"image": images(120).astype(np.float16)}, updates=80, rate=1e-2)
    assert result.found.after < result.found.before
    assert {str(result.graph.dtype(n)) for n in result.graph.constants} == {"float16"}


def test_integers_are_refused():
    weight = helper.make_node("DequantizeLinear", ["q", "s"], ["w"])
    nodes = [weight, make_node("Conv", ["x", "w"], ["y"], "first")]
    weights = {"q": np.ones((5, 4, 1, 1), np.int8), "s": np.float32(0.1)}
    graph = build(nodes, {"x": ["N", 4, 3, 3]}, {"y": ["N", 5, 3, 3]}, weights)
    x = np.random.default_rng(0).standard_normal((9, 4, 3, 3)).astype(np.float32)
    with pytest.raises(Infeasible, match=r"none of its weights.*before quantising"):
        finetune(graph, graph, {"x": x})


# ---------------------------------------------------------------- steps


def test_steps_are_relative_to_the_size_of_each_tensor():
    weights = {"large": np.full((4, 4), 100, np.float32), "little": np.full((4, 4), 0.01, np.float32)}
    gradients = {name: np.ones((4, 4), np.float32) for name in weights}
    for kind in ("adam", "sgd"):
        moved = {name: w.copy() for name, w in weights.items()}
        Stepper(kind, sizes(weights)).take(moved, gradients, 1e-3)
        for name, w in weights.items():
            np.testing.assert_allclose((w - moved[name]) / w, 1e-3, rtol=1e-2)


def test_tensors_of_zeros_move():
    found = sizes({"a": np.zeros(4, np.float32), "b": np.ones(4, np.float32), "c": np.ones(4, np.float32)})
    assert found == {"a": pytest.approx(0.1), "b": 1, "c": 1}


def test_the_rate_grows_and_falls():
    shares = [share(k, 100, 20) for k in range(100)]
    assert shares[0] < 0.06
    assert max(shares) == shares[int(np.argmax(shares))] > 0.85
    assert shares[-1] < 1e-3
    assert share(0, 1, 20) > 0


def test_long_gradients_are_shortened():
    weights = {"w": np.ones(8, np.float32)}
    stepper = Stepper("sgd", sizes(weights), clip=2.0)
    usual = {"w": np.ones(8, np.float32)}
    for _ in range(10):
        stepper.take({"w": np.ones(8, np.float32)}, usual, 0.0)
    mean = stepper.first["w"].copy()
    stepper.take({"w": np.ones(8, np.float32)}, {"w": np.full(8, 1000, np.float32)}, 0.0)
    assert np.abs(stepper.first["w"] - mean).max() < 0.2


def test_weights_decay():
    weights = {"w": np.ones(8, np.float32)}
    moved = {"w": weights["w"].copy()}
    Stepper("adam", sizes(weights), decay=0.5).take(moved, {"w": np.zeros(8, np.float32)}, 0.1)
    np.testing.assert_allclose(moved["w"], 0.95)


# ---------------------------------------------------------------- samples


def deck_of(x, **how):
    return Deck(samples_of({"image": x}, residual_net()), None, None, **how)


def test_every_sample_is_seen_once_before_any_is_seen_twice():
    x = images(40)
    x[:, 0, 0, 0] = np.arange(40)
    seen = []
    for update in range(5):
        for feeds, count in deck_of(x).batches(update, 16):
            assert count == len(feeds["image"])
            seen += feeds["image"][:, 0, 0, 0].astype(int).tolist()
    assert sorted(seen[:32] + seen[32:40]) == list(range(40)) or len(set(seen[:32])) == 32
    assert len(seen) == 80
    counts = np.bincount(seen, minlength=40)
    assert (counts == 2).all()


def test_samples_that_do_not_fit_in_memory_are_read():
    x = images(40)
    for update in range(3):
        held = list(deck_of(x).batches(update, 16))
        read = list(deck_of(x, memory=0).batches(update, 16))
        for (a, _), (b, _) in zip(held, read, strict=True):
            np.testing.assert_array_equal(a["image"], b["image"])


@pytest.mark.parametrize("way", ["shift", "flip", "mix", "noise"])
def test_augmentation_changes_images_as_it_says(way):
    x = np.random.default_rng(0).standard_normal((6, 3, 16, 16)).astype(np.float32)
    feeds = {"image": x, "size": np.full((6, 1), 3, np.int64)}
    found = augmented(feeds, [way], np.random.default_rng(1))
    assert found["image"].shape == x.shape
    assert found["image"].dtype == x.dtype
    assert not np.array_equal(found["image"], x)
    np.testing.assert_array_equal(found["size"], feeds["size"])
    if way == "flip":
        for one, before in zip(found["image"], x, strict=True):
            assert np.array_equal(one, before) or np.array_equal(one, before[:, :, ::-1])
    if way == "shift":
        inner = found["image"][0, 0, 4:12, 4:12]
        assert any(
            np.array_equal(inner, x[0, 0, 4 + a : 12 + a, 4 + b : 12 + b])
            for a in (-1, 0, 1)
            for b in (-1, 0, 1)
        )


def test_what_is_no_image_is_not_shifted():
    x = np.random.default_rng(0).standard_normal((6, 64, 5, 5)).astype(np.float32)
    found = augmented({"x": x}, ["shift", "flip"], np.random.default_rng(1))
    np.testing.assert_array_equal(found["x"], x)


def fixed(graph, batch):
    """The same network for so many samples at a time."""
    model = onnx.ModelProto.FromString(graph.serialized())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return Graph(model)


def test_samples_that_run_alone_are_learned_from_together(small):
    """Of a model whose batch is fixed; gradients of an update add up."""
    how = {"calib": {"image": images(100)}, "updates": 30, "rate": 1e-2, "augment": ()}
    joined = finetune(small, residual_net(), **how)
    alone = finetune(fixed(small, 1), fixed(residual_net(), 1), **how)
    for name in names_of(small).weights:
        moved = np.abs(joined.graph.array(name) - small.array(name)).max()
        apart = np.abs(joined.graph.array(name) - alone.graph.array(name)).max()
        assert apart < 0.1 * moved


def test_a_network_that_ends_in_probabilities(small):
    def ended(graph):
        model = onnx.ModelProto.FromString(graph.serialized())
        model.graph.node.append(helper.make_node("Softmax", ["logits"], ["p"], axis=1))
        model.graph.output[0].name = "p"
        return Graph(model)

    x, other = images(200), images(64, seed=9)
    student, teacher = ended(small), ended(residual_net())
    result = finetune(student, teacher, {"image": x}, updates=100, rate=1e-2)
    assert error(result.graph, other, teacher) < 0.8 * error(student, other, teacher)


# ---------------------------------------------------------------- options and errors


def test_options_are_checked():
    with pytest.raises(UsageError, match="--updates"):
        FinetuneOptions(updates=3, epochs=2)
    with pytest.raises(UsageError, match="not between 0 and 1"):
        FinetuneOptions(rate=2.0)
    with pytest.raises(UsageError, match="--batch"):
        FinetuneOptions(batch=0)


def test_schedules_are_for_prune(small):
    with pytest.raises(UsageError, match="--order: is about what pruning removes"):
        finetune(small, residual_net(), {"image": images(20)}, order="layers")


def test_epochs_are_turned_into_updates(small):
    result = finetune(small, residual_net(), {"image": images(100)}, epochs=2, rate=1e-3)
    assert result.found.updates == int(np.ceil(2 * 70 / 16))


def test_there_must_be_something_to_learn_from(small):
    with pytest.raises(UsageError, match="no teacher"):
        finetune(small, None, {"image": images(20)})
    with pytest.raises(UsageError, match="no labels"):
        finetune(small, residual_net(), {"image": images(20)}, towards="both")


def test_a_teacher_of_another_kind_is_refused(small):
    other = build([make_node("Relu", ["image"], ["y"])], {"image": ["N", 3, 9, 7]}, {"y": ["N", 3, 9, 7]}, {})
    with pytest.raises(UsageError, match="inputs or outputs are not those of"):
        finetune(small, other, {"image": images(20)})


# ---------------------------------------------------------------- in prune


HOW = {"macs": 0.6, "evaluations": 0, "criterion": "l2", "force": True, "measure_latency": False}


def test_prune_fine_tunes_what_it_has_repaired():
    x = images(200)
    tuned, how = FinetuneOptions(updates=100, rate=1e-2), {**HOW, "repair": "bias"}
    plain = prune(residual_net(), calib={"image": x}, **how)
    result = prune(residual_net(), calib={"image": x}, finetune=tuned, **how)
    assert result.verdict.exact
    assert result.choice.digest == plain.choice.digest
    other = images(64, seed=9)
    assert error(result.graph, other) < error(plain.graph, other)
    assert any(note.startswith("fine-tuned: 100 updates") for note in result.verdict.warnings)
    assert result.plan.options["finetune"] == {"updates": 100, "rate": 1e-2, "towards": "outputs"}
    assert "finetune" in result.plan.needs_samples


def test_a_plan_replays_it_to_the_same_bytes():
    x = images(120)
    result = prune(residual_net(), calib={"image": x}, finetune=FinetuneOptions(updates=30), **HOW)
    again = apply(residual_net(), result.plan, calib={"image": x}, measure_latency=False)
    assert again.graph.serialized() == result.graph.serialized()
    assert again.plan == result.plan
    without = apply(residual_net(), result.plan, measure_latency=False)
    assert any("fine-tuning was fitted to samples" in note for note in without.verdict.warnings)


def test_prune_learns_from_half_of_the_labels(tmp_path):
    x = images(120)
    np.savez(tmp_path / "l.npz", image=x, labels=classes_of(residual_net(), x))
    result = prune(
        residual_net(),
        calib={"image": x},
        labels=tmp_path / "l.npz",
        finetune=FinetuneOptions(updates=10, rate=1e-3, towards="both"),
        **HOW,
    )
    assert result.verdict.accuracy[0].total == 60
    assert any("are learned from" in note for note in result.verdict.warnings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"calib": None}, "no samples to learn from"),
        ({"masked": True, "repair": "none"}, "masked is not fine-tuned"),
        ({"finetune": FinetuneOptions(towards="labels")}, "no labels to learn from"),
    ],
)
def test_prune_refuses_what_makes_no_sense(given, message):
    how = {"calib": {"image": images(40)}, "finetune": FinetuneOptions(), **HOW, **given}
    with pytest.raises(UsageError, match=message):
        prune(residual_net(), **how)


# ---------------------------------------------------------------- schedules


def widths(result):
    return {g.id: int(result.choice.of(g).sum()) for one in result.solved for g in one.search.rated.groups}


def test_layer_by_layer_reaches_the_same_widths():
    x, told = images(200), []
    how = {"ratio": 0.4, "criterion": "l2", "repair": "bias", "force": True, "measure_latency": False}
    tuned = FinetuneOptions(updates=60, rate=1e-2)
    once = prune(residual_net(), calib={"image": x}, finetune=tuned, **how)
    tuned = replace(tuned, order="layers")
    result = prune(residual_net(), calib={"image": x}, finetune=tuned, progress=told.append, **how)
    assert widths(result) == widths(once)
    assert result.verdict.exact
    steps = [text for text in told if text.startswith("Layer ")]
    assert [text.split(": ")[1] for text in steps] == ["stem", "wide", "thin"], "from the input on"
    assert {n: result.graph.shape_of_constant(n) for n in result.graph.constants} == {
        n: once.graph.shape_of_constant(n) for n in once.graph.constants
    }
    again = apply(residual_net(), result.plan, calib={"image": x}, measure_latency=False)
    assert again.graph.serialized() == result.graph.serialized()


def test_layer_by_layer_is_for_channels():
    tuned = FinetuneOptions(updates=5, order="layers")
    with pytest.raises(UsageError, match="where channels go alone"):
        prune(residual_net(), sparsity=0.5, criterion="l1", calib={"image": images(60)}, finetune=tuned)


@pytest.mark.parametrize("between", [0.0, 1.0])
def test_what_is_left_is_tuned_between_steps(between):
    told = []
    tuned = FinetuneOptions(updates=20, rate=1e-2, between=between)
    how = {**HOW, "repair": "bias", "steps": 3, "progress": told.append}
    result = prune(residual_net(), calib={"image": images(120)}, finetune=tuned, **how)
    assert result.verdict.exact
    ends = [text for text in told if text.startswith("Fine-tuning: update") and _is_last(text)]
    assert len(ends) == (3 if between else 1)


def _is_last(text):
    done, _, count = text.split("update ")[1].split(",")[0].partition(" of ")
    return done == count


@pytest.mark.parametrize("kind", ["l1", "group-l2"])
def test_a_growing_penalty_ends_at_zero(kind):
    r = np.random.default_rng(0)
    weights = {"w": r.standard_normal((8, 4)).astype(np.float32)}
    start, mask = weights["w"].copy(), np.zeros((8, 4), bool)
    mask[3:5] = True
    pull, norms = Pull(kind, {"w": mask}), []
    for update in range(50):
        pull.apply(weights, update, 50)
        norms.append(float(np.abs(weights["w"][mask]).sum()))
    assert norms[-1] < 2e-3 * np.abs(start[mask]).sum()
    lost = -np.diff([np.abs(start[mask]).sum(), *norms])
    assert lost[0] < lost[10], "it grows"
    np.testing.assert_array_equal(weights["w"][~mask], start[~mask])
    if kind == "group-l2":
        early = np.abs(start[mask]).sum() / norms[-1]
        np.testing.assert_allclose(weights["w"][mask] * early, start[mask], rtol=1e-3)


@pytest.mark.parametrize("kind", ["l1", "group-l2"])
def test_what_goes_is_pulled_to_zero_before(kind):
    """The network is cut when it has learned to do without: nothing is lost with the cut."""
    x = images(200)
    how = {"ratio": 0.4, "criterion": "l2", "repair": "none", "force": True, "measure_latency": False}
    tuned = FinetuneOptions(updates=1, rate=1e-3, between=20, regularize=kind)
    result = prune(residual_net(), calib={"image": x}, finetune=tuned, **how)
    plain = prune(residual_net(), **how)
    assert result.verdict.exact
    assert result.choice.digest == plain.choice.digest
    cut = result.solved[-1].candidate.cut
    (whole,) = dumped(cut.base.graph, {"image": x}, "logits")
    (small,) = dumped(cut.network.graph, {"image": x}, "logits")
    np.testing.assert_allclose(small, whole, atol=2e-2 * np.abs(whole).max())
    other = images(64, seed=9)
    assert error(result.graph, other) < 0.7 * error(plain.graph, other)
    again = apply(residual_net(), result.plan, calib={"image": x}, measure_latency=False)
    assert again.graph.serialized() == result.graph.serialized()


# ---------------------------------------------------------------- rewinding


def test_weights_are_set_back():
    """At the units that stay, as if the plan were applied to the earlier network."""
    trained, earlier = residual_net(), residual_net(seed=1)
    how = {"ratio": 0.4, "criterion": "l2", "measure_latency": False}
    result = prune(trained, rewind=earlier, calib={"image": images(60)}, **how)
    assert result.verdict.exact
    again = apply(earlier, result.plan, measure_latency=False)
    assert result.graph.serialized() == again.graph.serialized()
    assert any("weights are those of" in note for note in result.verdict.warnings)


def test_single_weights_are_set_back_and_trained_again(tmp_path):
    """The lottery ticket: what is left of a trained network, from its beginning, learns labels."""
    trained, earlier = residual_net(), residual_net(seed=1)
    x = images(240)
    np.savez(tmp_path / "l.npz", image=x, labels=classes_of(centred(trained), x))
    tuned = FinetuneOptions(updates=150, rate=1e-2, towards="labels")
    how = {"sparsity": 0.5, "criterion": "l1", "calib": {"image": x}, "labels": tmp_path / "l.npz"}
    result = prune(trained, rewind=earlier, finetune=tuned, measure_latency=False, **how)
    ticket = prune(trained, rewind=earlier, measure_latency=False, **how)
    other = images(200, seed=9)
    right = classes_of(centred(trained), other)
    before, after = ((classes_of(r.graph, other) == right).mean() for r in (ticket, result))
    assert after > before + 0.05
    for name in names_of(result.graph).weights:
        assert ((result.graph.array(name) == 0) == (ticket.graph.array(name) == 0)).all()
    assert "finetune" not in result.plan.options


def test_another_network_is_no_earlier_one():
    other = build(
        [make_node("Relu", ["image"], ["logits"])], {"image": ["N", 3, 9, 7]}, {"logits": ["N", 3, 9, 7]}, {}
    )
    with pytest.raises(InputError, match="another network than"):
        prune(residual_net(), ratio=0.4, rewind=other, measure_latency=False)


def test_rewinding_and_schedules_do_not_go_together():
    tuned = FinetuneOptions(updates=2, order="layers")
    with pytest.raises(UsageError, match="at the end alone"):
        prune(
            residual_net(),
            ratio=0.4,
            rewind=residual_net(seed=1),
            finetune=tuned,
            calib={"image": images(40)},
        )
