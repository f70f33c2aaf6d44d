"""Plans on other weights: those of an earlier checkpoint, and random ones to train from scratch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import Net
from onnx import numpy_helper
from test_cli_prune import classifier

import onnxprune
from onnxprune.cli import run
from onnxprune.errors import InputError
from onnxprune.graph import Graph
from onnxprune.repair.initial import drawn
from onnxprune.runtime import Session

MODELS = Path(__file__).parent.parent / "models"


def weights(model) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def with_weights(model, value) -> onnx.ModelProto:
    """The same architecture with other floats: `value(name, array)`."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for t in other.graph.initializer:
        array = numpy_helper.to_array(t)
        if array.dtype == np.float32 and array.size > 1:
            t.CopyFrom(numpy_helper.from_array(value(t.name, array).astype(np.float32), t.name))
    return other


def at_start(name, array):
    """As frameworks initialise: many weights are equal, all of them ones or zeros."""
    if array.ndim > 1:
        return np.random.default_rng(len(name)).standard_normal(array.shape) * 0.1
    return np.ones(array.shape) if name.endswith(("bn.weight", "running_var")) else np.zeros(array.shape)


def in_training(name, array):
    return np.random.default_rng(len(name)).uniform(0.5, 1.5, array.shape)


def prune(model, **options):
    options = {"ratio": 0.5, "criterion": "l1", "repair": "none", "measure_latency": False, **options}
    return onnxprune.prune(model, force=True, **options)


class TestRewound:
    @pytest.mark.parametrize("simplify", [False, True])
    @pytest.mark.parametrize("checkpoint", [at_start, in_training])
    def test_weights_are_those_of_the_checkpoint_at_the_indices_that_stay(self, checkpoint, simplify):
        """Also where cleaning folds normalisations into them, and where many of them are equal."""
        trained = onnx.load(MODELS / "digits-residual-bn.onnx")
        early = with_weights(trained, checkpoint)
        made = prune(Graph(trained), simplify=simplify)
        rewound = onnxprune.apply(Graph(early), made.plan, measure_latency=False)
        before = rewound.prepared.graph.model if simplify else early
        expected = weights(before)
        seen = {(t.name, t.axes): t for g in made.plan.groups for t in g.tensors}
        assert len(seen) > 20
        for t in seen.values():
            expected[t.name] = np.take(expected[t.name], t.kept, *t.axes)
        found = weights(rewound.model)
        assert {n: a.shape for n, a in found.items()} == {n: a.shape for n, a in weights(made.model).items()}
        common = found.keys() & expected.keys()  # readers of a shared vector that part get copies
        assert len(common) >= len(found) - 4
        for name in common:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        assert rewound.plan.groups == made.plan.groups
        x = {"image": np.random.default_rng(0).random((2, 1, 28, 28), np.float32)}
        a, b = (next(iter(Session(m.SerializeToString()).run(x).values())) for m in (before, early))
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())

    def test_a_repair_without_samples_is_of_the_checkpoint(self):
        trained = classifier()
        plan = prune(Graph(trained), repair="auto").plan
        early = with_weights(trained, in_training)
        assert (
            weights(onnxprune.apply(Graph(early), plan, measure_latency=False).model).keys()
            == weights(trained).keys()
        )


def every_kind() -> onnx.ModelProto:
    n = Net("kinds")
    x = n.input("batch", 4, 8, 8)
    x = n.Conv(x, n.weight(6, 4, 3, 3), n.weight(6))
    x = n.BatchNormalization(x, n.weight(6), n.weight(6), n.weight(6), n.positive(6))
    x = n.Conv(n.PRelu(x, n.weight(6, 1, 1)), n.weight(6, 3, 1, 1), n.weight(6), group=2)
    x = n.ConvTranspose(x, n.weight(6, 4, 2, 2), n.weight(8), group=2)
    x = n.Flatten(n.GlobalAveragePool(x))
    x = n.Gemm(x, n.weight(9, 8), n.weight(9), transB=1)
    x = n.Add(n.MatMul(x, n.weight(9, 5)), n.weight(5))
    n.output(n.LayerNormalization(n.Mul(x, n.weight(5)), n.weight(5), n.weight(5)))
    return n.finished()


class TestRandom:
    def test_weights_are_he_normal_by_fan_in_and_the_rest_neutral(self):
        """Against the formulas, draw by draw; what no rule is for stays and is named."""
        model = every_kind()
        graph, stay = drawn(Graph(model), seed=3)
        old, new = weights(model), weights(graph.model)
        r = np.random.default_rng(3)
        fan_ins = iter([4 * 9, 3, 3 * 4, 8, 9])
        shapes = [(6, 4, 3, 3), (6, 3, 1, 1), (6, 4, 2, 2), (9, 8), (9, 5)]
        drawn_ = [a for a in new.values() if a.shape in shapes]
        for shape, array in zip(shapes, drawn_, strict=True):
            expected = r.standard_normal(shape) * math.sqrt(2 / next(fan_ins))
            np.testing.assert_allclose(array, expected, rtol=1e-6)
        assert len(stay) == 2
        for name in stay:
            np.testing.assert_array_equal(new[name], old[name])
        rest = [a for n, a in new.items() if n not in stay and a.shape not in shapes]
        values = [float(a.ravel()[0]) for a in rest]
        assert all((a == a.ravel()[0]).all() for a in rest)
        assert values == [0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0]

    @pytest.mark.parametrize(
        ("build", "fan_in"),
        [
            (lambda n: n.MatMul(n.input(3, 5, 40), n.weight(3, 40, 60)), 40),
            (lambda n: n.MatMul(n.weight(3, 60, 40), n.input(3, 40, 5)), 40),
            (lambda n: n.MatMul(n.input(5, 2000), n.weight(2000)), 2000),
        ],
        ids=["a stack", "a stack on the left", "a vector"],
    )
    def test_matrices_that_are_no_layer(self, build, fan_in):
        n = Net("stack")
        n.output(build(n))
        graph, stay = drawn(Graph(n.finished()), seed=0)
        (array,) = weights(graph.model).values()
        assert stay == ()
        assert array.std() == pytest.approx(math.sqrt(2 / fan_in), rel=0.1)

    def test_recurrent_layers(self):
        n = Net("lstm")
        y, _, _ = n.LSTM(
            n.input(3, 2, 4),
            n.weight(1, 20, 4),
            n.weight(1, 20, 5),
            n.weight(1, 40),
            hidden_size=5,
            outputs=3,
        )
        n.output(n.Squeeze(y, np.array([1])))
        new = [a for a in weights(drawn(Graph(n.finished()), 0)[0].model).values() if a.ndim > 1]
        r = np.random.default_rng(0)
        np.testing.assert_allclose(new[0], r.standard_normal((1, 20, 4)) * math.sqrt(2 / 4), rtol=1e-6)
        np.testing.assert_allclose(new[1], r.standard_normal((1, 20, 5)) * math.sqrt(2 / 5), rtol=1e-6)
        assert not new[2].any()

    def test_a_model_without_weights_is_refused(self):
        n = Net("none")
        n.output(n.Relu(n.input(2, 3)))
        with pytest.raises(InputError, match="no weights"):
            drawn(Graph(n.finished()), 0)

    def test_the_command(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        onnx.save(classifier(), "model.onnx")
        assert (
            run(["prune", "model.onnx", "-o", "kept.onnx", "--ratio", "0.5", "--plan-out", "plan.json"]) == 0
        )
        capsys.readouterr()
        apply = ["apply", "model.onnx", "plan.json", "--weights", "random", "-o"]
        assert run([*apply, "a.onnx"]) == 0
        assert "has to be trained" in " ".join(capsys.readouterr().out.split())
        assert run([*apply, "b.onnx", "-q"]) == run([*apply, "c.onnx", "--seed", "1", "-q"]) == 0
        kept, a, b, c = (weights(onnx.load(f"{f}.onnx")) for f in ("kept", "a", "b", "c"))
        assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in kept.items()}
        matrices = [name for name, array in kept.items() if array.ndim > 1]
        assert all(
            (a[m] == b[m]).all() and (a[m] != c[m]).all() and (a[m] != kept[m]).all() for m in matrices
        )
