"""The Python API: what `prune` gives, what it leaves alone, and that its stages can be used one by one."""

from __future__ import annotations

import inspect

import numpy as np
import onnx
import pytest
from nets import Net
from test_cli_prune import WIDTH, classifier

import onnxprune
from onnxprune import pipeline
from onnxprune.contracts.proof import Comparison
from onnxprune.contracts.timing import Timing
from onnxprune.errors import Infeasible, ProofFailed, UsageError
from onnxprune.graph import Edits, Graph, load
from onnxprune.pipeline.evidence import HELD_BACK, measured, split
from onnxprune.pipeline.options import BudgetOptions, Options
from onnxprune.proof.compare import allowed, relative_error
from onnxprune.quality.loss import SQUASHED
from onnxprune.reductions.channels.cut import recorded
from onnxprune.runtime import Session


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline") / "model.onnx"
    onnx.save(classifier(), path)
    return path


def draw(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Samples of the classifier's input."""
    random = np.random.default_rng(seed)
    name = classifier().graph.input[0].name
    return [{name: random.standard_normal((1, 3, 5, 3)).astype(np.float32)} for _ in range(count)]


def prune(model, **options):
    return onnxprune.prune(model, **{"ratio": 0.5, "measure_latency": False, **options})


def data(result) -> bytes:
    return result.model.SerializeToString(deterministic=True)


class TestResult:
    def test_it_has_the_model_the_plan_and_the_verdict(self, file, tmp_path):
        result = prune(file)
        onnx.checker.check_model(result.model, full_check=True)
        assert {(g.size, g.kept) for g in result.plan.groups} == {(WIDTH, WIDTH // 2), (10, 5)}
        assert result.verdict.exact
        assert result.verdict.after.params < result.verdict.before.params
        assert (result.verdict.speed, result.verdict.drift, result.verdict.accuracy) == (None, None, None)
        assert result.save(tmp_path / "out.onnx") == (tmp_path / "out.onnx").stat().st_size
        assert onnx.load(tmp_path / "out.onnx") == result.model

    def test_a_path_its_text_and_a_graph_are_the_same(self, file):
        assert data(prune(file)) == data(prune(str(file))) == data(prune(load(file)))

    def test_the_graph_that_was_given_stays_as_it_was(self):
        graph = Graph(classifier())
        before = graph.model.SerializeToString()
        prune(graph, calib=draw(60))
        assert graph.model.SerializeToString() == before

    def test_sizes_are_those_of_the_models(self, file):
        result = prune(file, simplify=False)
        for size, model in ((result.verdict.before, onnx.load(file)), (result.verdict.after, result.model)):
            assert size.params == sum(int(np.prod(t.dims)) for t in model.graph.initializer)
            assert size.bytes == model.ByteSize()

    def test_progress_is_told(self, file):
        said = []
        prune(file, progress=said.append)
        assert "Finding channels" in said
        assert len(said) == len([text for text in said if text])


class TestNothingToRemove:
    def test_the_model_comes_back_unchanged(self, file):
        result = prune(file, ratio=0.01, force=True)
        assert result.model == onnx.load(file)
        assert result.plan.groups == ()
        assert result.verdict.before == result.verdict.after

    def test_it_is_refused_unless_it_is_forced(self, file):
        with pytest.raises(Infeasible, match="nothing would be removed"):
            prune(file, ratio=0.01)

    def test_so_it_is_where_groups_are_too_small(self, file):
        result = prune(file, min_channels=100, force=True)
        assert result.model == onnx.load(file)


class TestEvidence:
    def test_labels_measure_and_decide_nothing(self, file, tmp_path):
        name = classifier().graph.input[0].name
        x = np.concatenate([s[name] for s in draw(40, seed=1)])
        np.savez(tmp_path / "held.npz", **{name: x, "labels": np.arange(40) % 6})
        without, marked = (
            prune(file, calib=draw(60)),
            prune(file, calib=draw(60), labels=tmp_path / "held.npz"),
        )
        assert data(without) == data(marked)
        assert without.verdict.accuracy is None
        assert marked.verdict.accuracy[0].total == 40

    def test_samples_that_judge_are_not_fitted_to(self, file):
        """Each sample is worth a different number, so that those of each use can be told apart."""
        name = classifier().graph.input[0].name
        numbered = [{name: np.full((1, 3, 5, 3), i, np.float32)} for i in range(200)]
        ready = pipeline.prepare(file)
        calib = pipeline.opened(numbered, ready.graph)
        wanted = ready.channels.wanted(frozenset({"consumers"}))
        evidence = measured(split(calib, HELD_BACK, 0), ready.network, wanted)
        uses = [
            {float(row.flat[0]) for batch in part.batches(32) for row in batch[name]}
            for part in (evidence.fit, evidence.choose, evidence.judge)
        ]
        assert sum(map(len, uses)) == len(set.union(*uses)) == 200
        assert len(uses[0]) > 100
        assert evidence.stats.samples == len(uses[0])

    def test_more_samples_repair_better(self, file):
        """Drift is measured on samples that were not fitted to, so overfitting would show."""
        few, many = (prune(file, calib=draw(n)).verdict.drift.relative for n in (12, 400))
        (name,) = few
        assert many[name] < few[name]

    def test_the_same_samples_give_the_same_bytes_and_others_don_t(self, file):
        made = [data(prune(file, calib=draw(60, seed=s))) for s in (0, 0, 1)]
        assert made[0] == made[1] != made[2]

    def test_repair_changes_values_and_never_shapes(self, file):
        none, fold = (prune(file, calib=draw(60), repair=mode, force=True) for mode in ("none", "fold"))
        shapes = [{t.name: tuple(t.dims) for t in r.model.graph.initializer} for r in (none, fold)]
        assert shapes[0] == shapes[1]
        assert none.plan.groups == fold.plan.groups
        assert data(none) != data(fold)


class TestBudget:
    @pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 1.5])
    def test_a_ratio_is_a_share(self, file, share):
        with pytest.raises(UsageError, match="is not between 0 and 1"):
            prune(file, ratio=share)

    def test_there_must_be_one(self, file):
        with pytest.raises(UsageError, match="no budget is given"):
            prune(file, ratio=None)

    @pytest.mark.parametrize(("kind", "unit"), [("macs", "kMACs"), ("params", "k"), ("size", "kB")])
    def test_amounts_and_shares(self, file, kind, unit):
        field = "bytes" if kind == "size" else kind
        whole = getattr(onnxprune.compare(file, file, measure_latency=False).before, field)
        for limit in (0.8, f"{0.8 * whole / 1000} {unit}"):
            result = prune(file, **{"ratio": None, kind: limit})
            assert 0.4 * whole < getattr(result.verdict.after, field) <= 0.8 * whole


class TestApi:
    def test_what_is_exported_is_documented_and_typed(self):
        for name in onnxprune.__all__:
            thing = getattr(onnxprune, name)
            assert inspect.getdoc(thing), name
            if inspect.isfunction(thing):
                signature = inspect.signature(thing)
                assert signature.return_annotation is not inspect.Signature.empty, name
                untyped = [
                    p for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty
                ]
                assert not untyped, name
                documented = (
                    f"{inspect.getdoc(thing)}\n{inspect.getdoc(BudgetOptions)}\n{inspect.getdoc(Options)}"
                )
                undocumented = [p for p in signature.parameters if f"{p}:" not in documented]
                assert not undocumented, name

    def test_compare_judges_any_two_models(self, file):
        verdict = onnxprune.compare(file, prune(file).graph, calib=draw(10), measure_latency=False)
        assert verdict.surgery_error is None
        assert verdict.drift.samples == 10
        same = onnxprune.compare(file, file, measure_latency=False)
        assert set(same.drift.relative.values()) == {0.0}


@pytest.mark.parametrize(
    ("squash", "told"), [(lambda n, x: n.Softmax(x, axis=-1), True), (lambda n, x: n.Relu(x), False)]
)
def test_the_top_class_of_each_position(squash, told):
    """Probabilities tell it of any shape, as those of text recognisers: (samples, positions, classes)."""
    n = Net("positions")
    n.output(squash(n, n.dense(n.Relu(n.dense(n.input("batch", 5, 3), 16)), 6)))
    graph = Graph(n.finished())
    (name,), (output,) = graph.inputs, graph.outputs
    feeds = {name: np.random.default_rng(0).standard_normal((50, 5, 3)).astype(np.float32)}
    result = prune(graph, ratio=0.5, calib=[feeds], measure_latency=False, force=True)
    found = onnxprune.compare(graph, result.graph, calib=[feeds], measure_latency=False).drift.top1
    a, b = (Session(g.serialized()).run(feeds)[output].argmax(-1) for g in (graph, result.graph))
    assert found == ({output: (a == b).mean()} if told else {})
    assert not told or 0.5 < found[output] < 1


class TestSaturation:
    """Sigmoids that give next to nothing: rounding is no error, and what they are taken of tells one."""

    @pytest.fixture
    def model(self):
        n = Net("saturated")
        y = n.Relu(n.conv(n.input("batch", 3, 5, 3), 16))
        n.output(n.Sigmoid(n.Sub(n.conv(y, 6), 16.0)))
        return n.finished()

    def test_rounding_is_no_error(self, model):
        right, rounded, wrong = (np.asarray([value], np.float32) for value in (6e-8, 9e-8, 2e-3))
        bound = allowed(right.dtype)
        assert relative_error(right, rounded, SQUASHED) <= bound < relative_error(right, wrong, SQUASHED)
        assert relative_error(right, rounded) > bound
        assert prune(Graph(model), force=True).verdict.exact

    def test_an_error_is_found(self, model, monkeypatch):
        """The output alone would not show it: it is below 1e-5 whatever goes in."""

        def wrong(*arguments):
            graph, record = recorded(*arguments)
            name = graph.nodes[-3].inputs[1]
            scaled = graph.array(name) * np.float32(1.05)
            return graph.edited(Edits(constants={name: scaled})), record

        monkeypatch.setattr("onnxprune.reductions.channels.space.recorded", wrong)
        with pytest.raises(ProofFailed, match="the surgery is not exact"):
            prune(Graph(model))


def test_cleaning_declares_nothing_of_its_own():
    """Its names of symbolic sizes differ from process to process, and so would the bytes."""
    n = Net("declared")
    n.output(n.conv(n.Relu(n.conv(n.input("batch", 3, 5, 3), 16)), 6))
    model = n.finished()
    graph = pipeline.prepare(Graph(model)).graph
    assert list(graph.model.graph.value_info) == list(model.graph.value_info) == []
    declared = onnx.shape_inference.infer_shapes(model)
    graph = pipeline.prepare(Graph(declared)).graph
    assert 0 < len(graph.model.graph.value_info) <= len(declared.graph.value_info)
    assert all(v in declared.graph.value_info for v in graph.model.graph.value_info)


def test_cleaning_does_not_believe_a_declared_shape_that_is_wrong():
    """As some exporters write: what is declared here would make a constant of the last Reshape's shape."""
    n = Net("lies")
    x = n.Relu(n.conv(n.input(1, 3, 5, "wide"), 16))
    shape = n.Concat(n.Slice(n.Shape(x), [0], [1]), np.array([16]), np.array([-1]), axis=0)
    n.output(n.Reshape(n.conv(x, 16), shape))
    model = n.finished()
    (output,) = model.graph.output
    declared = onnx.helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, [1, "length"])
    output.CopyFrom(declared)
    ready = pipeline.prepare(Graph(model))
    assert ready.notes == ()
    assert [*ready.graph.model.graph.output] == [declared]


def test_what_would_make_the_file_much_larger_is_not_computed_beforehand():
    n = Net("grows")
    x = n.Relu(n.dense(n.input("batch", 5, 4), 300))
    weight = n.Mul(n.Cast(n.const(np.arange(90000, dtype=np.int8).reshape(300, 300)), to=1), 0.01)
    n.output(n.MatMul(n.Relu(n.MatMul(x, weight)), n.weight(300, 2)))
    graph = Graph(n.finished())
    ready = pipeline.prepare(graph)
    assert ready.graph.size() < 1.1 * graph.size()
    assert ready.notes == ()
    assert [group.size for group in ready.analysis.groups] == [300, 300]


def test_kernels_for_integers_are_not_taken_for_a_wrong_surgery(file, monkeypatch):
    """They cut sums off, on processors without VNNI: the graph runs as it is written, and then in parts."""
    calls = []

    def compared(*_):
        calls.append(len(calls) + 1)
        return Comparison(1, 0.1 / len(calls), 0.5 if len(calls) == 2 else 2.0, "'y'")

    monkeypatch.setattr("onnxprune.proof.whole._compared", compared)
    monkeypatch.setattr("onnxprune.proof.whole.by_parts", compared)
    assert prune(file).verdict.surgery_error == 0.05
    with pytest.raises(ProofFailed, match="not exact: 'y' differs from the masked original"):
        prune(file)
    assert len(calls) == 5, "whole, as written, and part by part"


class TestSizes:
    """A length that the model leaves open: it can't run at the length that would be guessed."""

    @staticmethod
    def model() -> onnx.ModelProto:
        n = Net("open")
        n.symbols["time"] = 64
        x = n.Conv(n.input("batch", 2, "time"), n.weight(8, 2, 40))
        n.output(n.Conv(n.Relu(x), n.weight(4, 8, 1)))
        return n.finished()

    def samples(self, length: int = 64):
        return np.random.default_rng(0).standard_normal((60, 2, length)).astype(np.float32)

    def test_they_are_those_of_the_samples(self):
        result = prune(Graph(self.model()), calib=self.samples())
        assert result.verdict.before.macs == 8 * 2 * 40 * 25 + 4 * 8 * 25
        again = pipeline.compare(
            Graph(self.model()), result.graph, calib=self.samples(), measure_latency=False
        )
        assert (again.before, again.after) == (result.verdict.before, result.verdict.after)

    def test_what_is_said_comes_first(self):
        timing = Timing(dims={"time": 50})
        result = prune(Graph(self.model()), calib=self.samples(), timing=timing)
        assert result.verdict.before.macs == (8 * 2 * 40 + 4 * 8) * 11

    def test_a_plan_is_replayed_at_those_of_its_samples(self):
        result = prune(Graph(self.model()), calib=self.samples())
        again = onnxprune.apply(Graph(self.model()), result.plan, calib=self.samples(), measure_latency=False)
        assert data(again) == data(result)
