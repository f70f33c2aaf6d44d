"""`--sparsity`: single weights that become zero, against the formulas in plain numpy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import Net
from onnx import numpy_helper
from test_cli_prune import classifier

import onnxprune
from onnxprune import pipeline
from onnxprune.cli import run
from onnxprune.contracts.budget import Uniform
from onnxprune.contracts.groups import Group
from onnxprune.errors import OnnxpruneError, UsageError
from onnxprune.graph import Graph
from onnxprune.runtime import Session
from onnxprune.samples import load as load_samples
from onnxprune.strategies.uniform import by_rank, chosen
from onnxprune.strategies.widths import Widths

RANDOM = np.random.default_rng(7)


def weights(model) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def every_kind() -> onnx.ModelProto:
    """Convolutions with groups, depthwise and transposed, and products from either side."""
    n = Net("single weights")
    x = n.Relu(n.Conv(n.input("batch", 4, 6, 6), n.weight(6, 4, 3, 3), n.weight(6)))
    x = n.Conv(x, n.weight(8, 3, 1, 1), n.weight(8), group=2)
    x = n.Relu(n.Conv(x, n.weight(8, 1, 3, 3), group=8, pads=[1, 1, 1, 1]))
    x = n.ConvTranspose(x, n.weight(8, 5, 2, 2), n.weight(10), group=2)
    x = n.MatMul(n.weight(4, 10), n.Reshape(x, np.array([0, 10, 25])))
    x = n.Flatten(n.MatMul(n.Tanh(x), n.weight(25, 3)))
    x = n.Gemm(n.Gemm(x, n.weight(7, 12), n.weight(7), transB=1), n.weight(7, 5), n.weight(5))
    n.output(x)
    return n.finished()


def lowest(scores: np.ndarray, share: float) -> np.ndarray:
    """Where the lowest of a flat array are."""
    gone = np.zeros(scores.size, bool)
    gone[np.argsort(scores.ravel(), kind="stable")[: round(share * scores.size)]] = True
    return gone.reshape(scores.shape)


def prune(model, sparsity=0.5, **options):
    options = {"simplify": False, "force": True, "measure_latency": False, "repair": "none", **options}
    return onnxprune.prune(Graph(model), sparsity=sparsity, **options)


def matrices(model) -> dict[str, np.ndarray]:
    return {name: array for name, array in weights(model).items() if array.ndim > 1}


class TestMagnitude:
    def test_of_the_model(self):
        old, new = matrices(every_kind()), matrices(prune(every_kind(), 0.6).model)
        everything = np.concatenate([a.ravel() for a in old.values()])
        limit = np.sort(np.abs(everything))[round(0.6 * everything.size)]
        assert len(old) == 8
        for name, array in old.items():
            np.testing.assert_array_equal(new[name], np.where(np.abs(array) < limit, 0, array))

    def test_of_each_layer(self):
        new = matrices(prune(every_kind(), 0.3, sparsity_among="layer").model)
        for name, array in matrices(every_kind()).items():
            np.testing.assert_array_equal(new[name], np.where(lowest(np.abs(array), 0.3), 0, array))

    def test_biases_and_shapes_stay(self):
        old, new = weights(every_kind()), weights(prune(every_kind()).model)
        assert {n: a.shape for n, a in old.items()} == {n: a.shape for n, a in new.items()}
        for name, array in old.items():
            if array.ndim == 1:
                np.testing.assert_array_equal(new[name], array)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_wanda_goes_by_what_weights_meet_output_by_output(share):
    """Equation 1, with loops over outputs; all samples are the same, so that any split of them is, too."""
    model = every_kind()
    sample = RANDOM.standard_normal((1, 4, 6, 6)).astype(np.float32)
    sample[:, 1] *= 9
    x = {model.graph.input[0].name: sample}
    new = matrices(prune(model, share, calib=[x] * 12).model)
    graph = Graph(model)
    read = [n.inputs[0] for n in graph.nodes if n.op in ("Conv", "ConvTranspose", "Gemm")]
    products = [n for n in graph.nodes if n.op == "MatMul"]
    seen = Session(graph.tapped([*read, products[0].inputs[1], products[1].inputs[0]]).serialized()).run(x)
    seen |= x
    checked = 0
    for node in graph.nodes:
        weight = next(
            (i for i in node.inputs[:2] if graph.constants.get(i) and len(graph.array(i).shape) > 1), ""
        )
        if node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        w = graph.array(weight).astype(float)
        data = seen[next(i for i in node.inputs[:2] if i != weight)].astype(float)
        g = node.attrs.get("group", 1)
        channels = {"Gemm": 1, "MatMul": 1 if weight == node.inputs[0] else data.ndim - 1}.get(node.op, 1)
        norm = np.sqrt((np.moveaxis(data, channels, 0).reshape(data.shape[channels], -1) ** 2).sum(axis=1))
        expected = graph.array(weight).copy()
        if node.op == "Conv":
            for m in range(len(w)):
                first = m // (len(w) // g) * w.shape[1]
                scores = np.abs(w[m]) * norm[first : first + w.shape[1], None, None]
                expected[m][lowest(scores, share)] = 0
        elif node.op == "ConvTranspose":
            block = len(w) // g
            for k in range(g):
                for m in range(w.shape[1]):
                    mine = slice(k * block, (k + 1) * block)
                    scores = np.abs(w[mine, m]) * norm[mine, None, None]
                    expected[mine, m][lowest(scores, share)] = 0
        else:
            by_row = node.attrs.get("transB", 0) or weight == node.inputs[0]
            rows = expected if by_row else expected.T
            for row in rows:
                row[lowest(np.abs(row) * norm, share)] = 0
        np.testing.assert_array_equal(new[weight], expected, err_msg=node.op)
        checked += 1
    assert checked == 8
    assert any((new[n] != a).any() for n, a in matrices(prune(model, share).model).items())


@pytest.mark.parametrize("among", ["model", "layer", "output"])
def test_of_equal_weights_the_first_stay_and_the_share_is_met(among):
    runs = {"a": 4, "b": 2} if among == "output" else {"a": 1, "b": 1}
    groups = [Group(id=k, name=k, kind="weight", size=n, runs=runs[k]) for k, n in (("a", 40), ("b", 20))]
    scores = tuple(np.ones(g.size) for g in groups)
    uniform = Uniform("--sparsity", keep=0.7)
    if among == "model":
        choice = by_rank(groups, scores, 0.7)
    else:
        choice = chosen(groups, scores, uniform, 0.7, Widths())
    kept = [choice.of(g) for g in groups]
    assert sum((~m).sum() for m in kept) == 18
    rows = {
        "model": [np.concatenate(kept)],
        "layer": kept,
        "output": [*kept[0].reshape(4, 10), *kept[1].reshape(2, 10)],
    }
    for row in rows[among]:
        np.testing.assert_array_equal(row, np.arange(row.size) < 0.7 * row.size - 1e-9)


def perceptron() -> onnx.ModelProto:
    """Three layers of one tap each: a convolution of 1x1, and two products."""
    n = Net("perceptron")
    pooled = n.Flatten(n.GlobalAveragePool(n.Relu(n.conv(n.input("batch", 3, 5, 3), 12))))
    n.output(n.gemm(n.Relu(n.gemm(pooled, 10)), 6))
    return n.finished()


class TestRepair:
    """Weights that are left are solved again on their support, towards the original's outputs."""

    def samples(self, model, count: int = 48) -> list:
        name = model.graph.input[0].name
        return [{name: RANDOM.standard_normal((1, 3, 5, 3)).astype(np.float32)} for _ in range(count)]

    def test_outputs_lose_less_and_zeros_stay(self):
        model = classifier()
        samples = self.samples(model)
        plain, fitted = (prune(model, 0.5, calib=samples, repair=mode) for mode in ("none", "auto"))
        before, after = (next(iter(r.verdict.drift.relative.values())) for r in (plain, fitted))
        assert after < 0.8 * before
        for name, array in matrices(plain.model).items():
            assert not matrices(fitted.model)[name][array == 0].any()

    def test_taps_are_not_repaired_from_statistics_of_channels(self):
        """A 3x3 kernel: how its taps go together is in no sum over channels."""
        model = classifier()
        samples = load_samples(self.samples(model), Graph(model))
        stats = pipeline.calibrated(pipeline.loaded(Graph(model), simplify=False), samples, ["wanda"])
        with pytest.raises(UsageError, match="can't be repaired from statistics of channels; give --calib"):
            prune(model, 0.5, criterion="l1", repair="auto", stats=stats)
        assert prune(model, 0.5, criterion="l1", repair="none", stats=stats).repaired.mode == "none"

    def test_from_statistics(self):
        model = perceptron()
        samples = self.samples(model)
        stats = pipeline.calibrated(
            pipeline.loaded(Graph(model), simplify=False), load_samples(samples, Graph(model)), ["wanda"]
        )
        plain = prune(model, 0.5, criterion="l1")
        fitted = prune(model, 0.5, criterion="l1", repair="auto", stats=stats)
        assert fitted.repaired.mode == "stats"
        judged = [onnxprune.compare(Graph(model), r.graph, calib=samples) for r in (plain, fitted)]
        before, after = (next(iter(v.drift.relative.values())) for v in judged)
        assert after < 0.9 * before
        for name, array in matrices(plain.model).items():
            assert not matrices(fitted.model)[name][array == 0].any()


def test_step_by_step():
    """Scores are taken again of what is left, repaired; in the end the share is what was asked for."""
    model = classifier()
    samples = TestRepair().samples(model)
    once, often = (prune(model, 0.7, calib=samples, repair="auto", steps=n) for n in (1, 3))
    other = False
    for name, array in matrices(once.model).items():
        now = matrices(often.model)[name]
        assert (array == 0).sum() == (now == 0).sum()
        other |= not np.array_equal(array == 0, now == 0)
    assert other


def test_after_channels_went():
    """Two phases: the second starts from the repaired result of the first, and aims at the original."""
    model = classifier()
    samples = TestRepair().samples(model)
    both = prune(model, 0.5, macs=0.6, calib=samples, repair="auto")
    alone = prune(model, None, macs=0.6, calib=samples, repair="auto")
    assert both.verdict.after.macs == alone.verdict.after.macs <= 0.6 * both.verdict.before.macs
    assert len(both.verdict.proofs) == 2
    assert both.verdict.exact
    assert [r.reduction for p in both.plan.phases for r in p.reductions] == ["channels", "weights"]
    for array in matrices(both.model).values():
        assert (array == 0).mean() == pytest.approx(0.5, abs=0.1)
    again = onnxprune.apply(Graph(model), both.plan, calib=samples, measure_latency=False)
    assert again.model == both.model


def test_layers_to_keep():
    first, *rest = matrices(classifier())
    new = matrices(prune(classifier(), keep=[first]).model)
    assert new[first].all()
    assert not any(new[name].all() for name in rest)


def test_a_model_without_removable_channels_is_no_obstacle():
    n = Net("no groups")
    n.output(n.conv(n.input("batch", 3, 5, 3), 8))
    assert (matrices(prune(n.finished()).model)[next(iter(matrices(n.finished())))] == 0).mean() == 0.5


X = {classifier().graph.input[0].name: np.zeros((1, 3, 5, 3), np.float32)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "obs"}, "obs can't rate single weights; l1, l2, wanda, random can"),
        ({"criterion": "wanda"}, "'wanda' needs samples"),
        ({"masked": True}, "has no effect without"),
        ({"masked": True, "ratio": 0.5}, "in place already"),
        ({"granularity": "head"}, "--granularity: has no effect without"),
        ({"round_to": 8}, "--round-to: has no effect without"),
        ({"sparsity": 1.0}, "not between 0 and 1"),
        ({"keep": ["nobody"]}, "no node or weight has such a name"),
    ],
)
def test_what_does_not_go_together(options, message):
    with pytest.raises(OnnxpruneError, match=message) as caught:
        onnxprune.prune(Graph(classifier()), **{"sparsity": 0.5, **options})
    assert isinstance(caught.value, UsageError)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(classifier(), "model.onnx")
    command = ["prune", "model.onnx", "-o", "out.onnx", "--sparsity", "0.5", "--plan-out", "plan.json"]
    assert run(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "(50.0%)" in said
    assert "ONNX Runtime computes with zeros as with other numbers" in said
    again = onnxprune.apply("model.onnx", "plan.json", measure_latency=False)
    assert again.model == onnx.load("out.onnx")
    assert run([*command, "--pareto", "2"]) == 2
    assert "--pareto" in capsys.readouterr().err
