"""Budgets as people mean them, met by `prune` on a small classifier whose labels are its own answers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from nets import Net

from onnxprune import pipeline
from onnxprune.cli import run
from onnxprune.contracts.groups import Choice
from onnxprune.contracts.selection import keep_best
from onnxprune.contracts.timing import Timing
from onnxprune.cost import quantities
from onnxprune.cost.macs import macs
from onnxprune.cost.memory import peak
from onnxprune.cost.sizes import sizes
from onnxprune.errors import CheckFailed, Infeasible, UsageError
from onnxprune.graph import Graph, Network, infer
from onnxprune.pipeline import pareto, prune
from onnxprune.pipeline.latency import profiled
from onnxprune.reductions.channels import Channels
from onnxprune.runtime import Session
from onnxprune.runtime.latency import Timings


def classifier() -> onnx.ModelProto:
    """Convolutions with a residual connection, and a head of five classes."""
    n = Net("budgets")
    x = n.Relu(n.conv(n.input("batch", 3, 4, 4), 32, kernel=(3, 3), pads=[1] * 4))
    y = n.Relu(n.conv(x, 48, kernel=(3, 3), pads=[1] * 4))
    x = n.Relu(n.Add(n.conv(y, 32, kernel=(1, 1)), x))
    x = n.Relu(n.conv(x, 40, kernel=(3, 3), strides=[2, 2], pads=[1] * 4))
    n.output(n.gemm(n.Flatten(x), 5))
    return n.finished()


MODEL = classifier()
GRAPH = Graph(MODEL)
INPUT = MODEL.graph.input[0].name
OUTPUT = MODEL.graph.output[0].name


def samples(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 4, 4)).astype(np.float32)


def answers(graph: Graph, x: np.ndarray) -> np.ndarray:
    return Session(graph.serialized()).run({INPUT: x})[OUTPUT].argmax(axis=1)


CALIB = [{INPUT: part} for part in np.array_split(samples(120, 1), 4)]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """400 samples that the original classifies rightly, but for 20."""
    x = samples(400, 2)
    labels = answers(GRAPH, x)
    labels[:20] = (labels[:20] + 1) % 5
    path = tmp_path_factory.mktemp("held") / "held.npz"
    np.savez(path, **{INPUT: x, "labels": labels})
    return path


def cut(**options):
    """Prune, without measuring latency unless that is what the test is about."""
    return prune(GRAPH, **{"measure_latency": False, "evaluations": 0, **options})


def total_macs(graph: Graph) -> int:
    return sum(macs(graph, infer(graph, {"batch": 1})).values())


def peak_memory(graph: Graph) -> int:
    return peak(graph, infer(graph, {"batch": 1})).total


COSTS = {"macs": total_macs, "params": Graph.parameters, "size": Graph.size, "memory_peak": peak_memory}


class TestCosts:
    @pytest.mark.parametrize("name", COSTS)
    @pytest.mark.parametrize("share", [0.6, "45%"])
    def test_a_share(self, name, share):
        result = cut(**{name: share})
        found = COSTS[name](result.graph) / COSTS[name](GRAPH)
        limit = 0.45 if share == "45%" else share
        assert limit - 0.1 < found <= limit
        assert result.plan.options[name] == share

    def test_an_amount(self, tmp_path):
        result = cut(size="60kB")
        path = tmp_path / "small.onnx"
        result.save(path)
        assert 55_000 < path.stat().st_size <= 60_000
        assert any("--size" in note and "60 kB" in note for note in result.verdict.warnings)

    def test_several_together(self):
        result = cut(macs="0.2 MMACs", params=0.6, memory_peak=0.95)
        assert total_macs(result.graph) <= 0.2e6
        assert result.graph.parameters() <= 0.6 * GRAPH.parameters()
        assert peak_memory(result.graph) <= 0.95 * peak_memory(GRAPH)

    @pytest.mark.parametrize("mode", ["none", "bias", "fold", "reuse"])
    def test_what_repair_adds_counts(self, mode):
        result = cut(size=0.5, calib=CALIB, repair=mode)
        assert 0.35 < result.graph.size() / GRAPH.size() <= 0.5

    def test_a_batch_multiplies_amounts_of_macs(self):
        timing = Timing(batch=4)
        result = cut(macs=f"{2 * total_macs(GRAPH)}e-6 MMACs", timing=timing)
        assert 0.4 < total_macs(result.graph) / total_macs(GRAPH) <= 0.5

    def test_below_the_floor(self):
        with pytest.raises(Infeasible) as caught:
            cut(size="1kB")
        assert caught.value.where == "--size"
        assert "kB is the least, with every group as narrow as it may be (most in '" in str(caught.value)
        with pytest.raises(Infeasible, match=r"can't be reached: at least .* \(most in 'Conv"):
            cut(macs=0.001)

    def test_within_already(self):
        with pytest.raises(Infeasible, match="is within --size 10 MB already: nothing has to be removed"):
            cut(size="10MB")

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({}, "no budget is given; give --ratio, --macs"),
            ({"ratio": 0.5, "macs": 0.5}, "--ratio: can't be combined with --macs"),
            ({"macs": 1.5}, "--macs: 1.5 is not between 0 and 1"),
            ({"size": "8 apples"}, "--size: .*no unit"),
            ({"macs": 0.5, "metric": "accuracy"}, "--metric: has no effect without --max-drop"),
            ({"macs": 0.5, "round_to": 0}, "--round-to: 0 is not above zero"),
            ({"macs": 0.5, "steps": 0}, "--steps: 0 is not above zero"),
            ({"select": "count:3", "steps": 2}, "--steps: goes with a share, not with --select"),
            ({"macs": 0.5, "timing": Timing(dims={"width": 3})}, "no input has a dimension 'width'"),
        ],
    )
    def test_wrong_usage(self, options, words):
        with pytest.raises(UsageError, match=words):
            cut(**options)


class TestWidths:
    def test_auto_keeps_multiples_of_sixteen(self):
        before = cut(macs=0.5, round_to=16).verdict
        result = cut(macs=before.after.macs / before.before.macs + 0.01)
        assert {g.kept % 16 for g in result.plan.groups} == {0}
        assert result.plan.options["multiple"] == 16

    def test_a_number_is_kept_to(self):
        result = cut(macs=0.5, round_to=16)
        sizes = {g.size for g in result.plan.groups if g.kept % 16}
        assert not sizes

    def test_one_lets_widths_be_odd(self):
        assert any(g.kept % 8 for g in cut(macs=0.5, round_to=1).plan.groups)


class FakeClock:
    """Kernels and whole models that take as long as their MACs say; channels in blocks of 16."""

    def kernels(self, models, feeds, options):
        return np.array([[self.seconds(Graph(onnx.load_from_string(m)))] * 6 for m in models])

    def latency(self, sessions, feeds, **_):
        return Timings(np.array([[s.seconds] * 6 for s in sessions]))

    def seconds(self, graph: Graph) -> float:
        total = 1e-6
        for index, count in macs(graph, infer(graph, {"batch": 1})).items():
            out = graph.shape_of_constant(graph.nodes[index].inputs[1])[0]
            total += 1e-9 * count * np.ceil(out / 16) * 16 / out
        return float(total)


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """A latency table of the model on a fake machine, and latency measured on it."""
    fake = FakeClock()

    class Timed(Session):
        def __init__(self, data, options=None):
            super().__init__(data, options)
            self.seconds = fake.seconds(Graph(onnx.load_from_string(data)))

    timed = lambda graph, options=None: Timed(graph.serialized(), options)  # noqa: E731
    monkeypatch.setattr(quantities, "open_session", timed)
    monkeypatch.setattr(quantities, "latency", fake.latency)
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path / "cache"))
    ready = pipeline.prepare(GRAPH)
    timing = Timing(threads=1, table_out=tmp_path / "table.json")
    profiled(ready.channels, timing, measure=fake.kernels)
    return fake, Timing(threads=1, table_in=tmp_path / "table.json")


class TestLatency:
    def test_it_lands_just_within(self, clock):
        fake, timing = clock
        result = cut(latency=0.6, timing=timing)
        assert 0.5 <= fake.seconds(result.graph) / fake.seconds(GRAPH) <= 0.6
        assert result.plan.options["multiple"] == 16

    def test_an_amount_of_time(self, clock):
        fake, timing = clock
        wanted = 0.6 * fake.seconds(GRAPH)
        result = cut(latency=f"{wanted * 1e6:.3f}us", timing=timing)
        assert 0.8 * wanted < fake.seconds(result.graph) <= wanted

    def test_the_same_table_gives_the_same_bytes(self, clock):
        _, timing = clock
        first, second = (cut(latency=0.6, timing=timing, calib=CALIB) for _ in range(2))
        assert first.graph.serialized() == second.graph.serialized()

    def test_a_table_says_which_widths_are_liked_for_other_budgets(self, clock):
        _, timing = clock
        assert cut(macs=0.5, timing=timing).plan.options["multiple"] == 16

    def test_what_is_surely_too_slow_is_refused(self, clock, monkeypatch):
        _, timing = clock
        slow = lambda sessions, feeds, **_: Timings(np.array([[2.0] * 6, [1.0] * 6]))  # noqa: E731
        monkeypatch.setattr("onnxprune.pipeline.judge.latency", slow)
        with pytest.raises(CheckFailed, match=r"takes 2 of the latency, more than 0.6 of the latency"):
            cut(latency=0.6, timing=timing, measure_latency=True)
        assert cut(latency=0.6, timing=timing, measure_latency=True, force=True).verdict.speed.ratio == 2


class TestDrop:
    def test_the_most_that_keeps_the_promise(self, held):
        result = cut(max_drop="5%", calib=CALIB, labels=held, round_to=8)
        drop = result.verdict.drop
        assert drop.metric == "accuracy"
        assert drop.samples == 200
        assert drop.value <= 0.05
        assert drop.low <= drop.value <= drop.high
        before, after = result.verdict.accuracy
        assert before.value - after.value <= 0.05
        assert total_macs(result.graph) < 0.8 * total_macs(GRAPH)
        less = cut(max_drop="2%", calib=CALIB, labels=held, round_to=8)
        assert total_macs(less.graph) > total_macs(result.graph)

    def test_without_labels_by_agreement(self):
        result = cut(max_drop=0.1, calib=CALIB)
        assert result.verdict.drop.metric == "agreement"
        assert result.verdict.drop.before == 1
        assert result.verdict.drop.value <= 0.1
        assert result.verdict.drop.samples == 30

    def test_a_function_of_ones_own(self, held):
        def margin(outputs, labels):
            scores = np.sort(outputs[OUTPUT], axis=1)
            assert len(labels) == len(scores)
            return float((scores[:, -1] - scores[:, -2]).mean())

        result = cut(max_drop=0.05, metric=margin, calib=CALIB, labels=held)
        assert result.verdict.drop.metric == "margin"
        assert result.verdict.drop.value <= 0.05
        assert result.verdict.drop.low is None

    def test_even_the_smallest_cut_is_too_much(self):
        originals = []

        def same(outputs, _):
            """Whether outputs are exactly those of the original, which is marked first, on both parts."""
            if len(originals) < 2:
                originals.append(outputs[OUTPUT])
            return float(any(np.array_equal(outputs[OUTPUT], known) for known in originals))

        words = r"even the smallest cut, to 0\.\d+ of the .*, loses 100 points: 99 points more than the 1"
        with pytest.raises(Infeasible, match=words):
            cut(max_drop="1%", metric=same, calib=CALIB)

    def test_with_a_cost_both_hold_or_it_is_said(self, held):
        result = cut(macs=0.8, max_drop="6%", calib=CALIB, labels=held)
        assert 0.7 < total_macs(result.graph) / total_macs(GRAPH) <= 0.8
        assert result.verdict.drop.value <= 0.06
        with pytest.raises(Infeasible, match=r"the other budgets cost .* points of accuracy"):
            cut(macs=0.2, max_drop="1%", calib=CALIB, labels=held, repair="none")

    def test_a_pool_of_workers_changes_nothing(self, held):
        options = {"max_drop": "5%", "calib": CALIB, "labels": held}
        with ThreadPoolExecutor(2) as pool:
            pooled = cut(**options, executor=pool)
        assert pooled.graph.serialized() == cut(**options).graph.serialized()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({}, "can't be judged without samples; give --labels or --calib"),
            ({"metric": "accuracy", "calib": CALIB}, "accuracy needs --labels"),
            ({"metric": "f1", "calib": CALIB}, "no such metric"),
        ],
    )
    def test_wrong_usage(self, options, words):
        with pytest.raises(UsageError, match=words):
            cut(max_drop="5%", **options)


class TestSteps:
    def test_units_are_found_again(self):
        """A cut network has the same groups, under the same names, with the filters that were kept."""
        space = Channels().find(Network(GRAPH))
        random = np.random.default_rng(3)
        choice = Choice({g.id: keep_best(g, random.random(g.size), g.size // 2) for g in space.groups})
        after = Channels().find(space.cut(space.network, choice)[0])
        assert [(g.id, g.size) for g in after.groups] == [
            (g.id, int(choice.of(g).sum())) for g in space.groups
        ]
        compared = 0
        for old, new in zip(space.groups, after.groups, strict=True):
            number = np.cumsum(choice.of(old)) - 1
            for before, left in zip(space.makers(old), after.makers(new), strict=True):
                stays = choice.of(old)[before.units]
                np.testing.assert_array_equal(left.units, number[before.units[stays]])
                if before.rows.shape[1] == left.rows.shape[1]:
                    np.testing.assert_array_equal(left.rows, before.rows[stays])
                    compared += 1
        assert compared

    def test_statistics_are_refreshed(self):
        seen = []
        result = cut(macs=0.4, steps=3, schedule="cubic", calib=CALIB, progress=seen.append)
        assert 0.3 < total_macs(result.graph) / total_macs(GRAPH) <= 0.4
        steps = [text for text in seen if text.startswith("Step")]
        assert [text[:14] for text in steps] == ["Step 1 of 3: t", "Step 2 of 3: t"]
        assert result.verdict.exact
        assert result.choice.digest != cut(macs=0.4, calib=CALIB).choice.digest

    def test_without_samples(self):
        result = cut(params=0.5, steps=2)
        assert result.graph.parameters() <= 0.5 * GRAPH.parameters()


class TestPareto:
    def test_models_along_the_curve(self, held):
        found = pareto(GRAPH, 3, evaluations=0, calib=CALIB, labels=held)
        assert found.quality == "accuracy"
        costs = [choice.cost for choice in found.choices]
        assert costs == sorted(costs, reverse=True)
        assert costs[-1] <= 0.2
        for choice in found.choices:
            graph = choice.candidate.graph
            assert choice.cost == pytest.approx(total_macs(graph) / total_macs(GRAPH), abs=1e-6)
            assert choice.candidate.verdict.exact

    def test_the_budget_is_where_it_ends(self):
        with ThreadPoolExecutor(2) as pool:
            found = pareto(GRAPH, 2, params=0.5, evaluations=0, calib=CALIB, executor=pool)
        assert found.quality == "agreement"
        assert [0.6 < c.cost <= 0.75 for c in found.choices] == [True, False]
        assert 0.4 < found.choices[1].cost <= 0.5

    def test_not_along_a_ratio(self):
        with pytest.raises(UsageError, match="--pareto: needs a cost budget"):
            pareto(GRAPH, 2, ratio=0.5, calib=CALIB)


class TestCommand:
    @pytest.fixture
    def here(self, tmp_path, monkeypatch, held):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("COLUMNS", "160")
        onnx.save(MODEL, "m.onnx")
        np.savez("calib.npz", **{INPUT: samples(120, 1)})
        self.labels = str(held)
        return tmp_path

    def run(self, *options):
        return run(["prune", "m.onnx", "-o", "s.onnx", "--evals", "0", *options])

    def test_a_promise(self, here, capsys):
        options = ["--max-drop", "5pt", "--calib", "calib.npz", "--labels", self.labels]
        assert self.run(*options, "--report", "r.json", "--plan-out", "p.json") == 0
        assert "accuracy on 200 held-out samples" in capsys.readouterr().out
        report = json.loads((here / "r.json").read_text())
        assert report["verdict"]["drop"]["value"] <= 0.05
        assert run(["apply", "m.onnx", "p.json", "-o", "again.onnx", "--calib", "calib.npz"]) == 0
        assert (here / "again.onnx").read_bytes() == (here / "s.onnx").read_bytes()

    def test_a_metric_of_ones_own(self, here, capsys):
        (here / "mine_of_budgets.py").write_text(
            f"def top(outputs, labels):\n    return outputs['{OUTPUT}'].argmax(axis=1) == labels\n"
        )
        options = ["--calib", "calib.npz", "--labels", self.labels, "--metric", "mine_of_budgets:top"]
        assert self.run("--max-drop", "5%", *options) == 0
        assert "mine_of_budgets:top on 200 held-out" in capsys.readouterr().out

    def test_a_curve(self, here, capsys):
        pytest.importorskip("matplotlib")
        options = ["--calib", "calib.npz", "--report", "r.json", "--plan-out", "p.json"]
        assert self.run("--pareto", "2", "--macs", "0.4", *options) == 0
        assert "s-2.onnx" in capsys.readouterr().out
        made = {p.name for p in here.iterdir()} - {"m.onnx", "calib.npz", "cache"}
        assert made == {"s-1.onnx", "s-2.onnx", "s-pareto.svg", "p-1.json", "p-2.json", "r.json"}
        report = json.loads((here / "r.json").read_text())
        assert [m["model"] for m in report["models"]] == ["s-1.onnx", "s-2.onnx"]

    @pytest.mark.parametrize(
        ("options", "code", "words"),
        [
            (["--size", "1kB"], 3, "is the least"),
            (["--macs", "0.5", "--round-to", "some"], 2, "Invalid value for --round-to"),
            (["--latency", "5 miles"], 2, "no unit of latency"),
            (["--macs", "0.5", "--provider", "Nope"], 2, "Nope"),
            (["--latency", "0.5", "--profile-in", "nowhere.json"], 2, "nowhere.json: no such file"),
            (["--macs", "0.5", "--dim", "n"], 2, "--dim: 'n' is not NAME=SIZE"),
            ([], 2, "no budget is given"),
        ],
    )
    def test_what_is_refused(self, here, capsys, options, code, words):
        assert self.run(*options) == code
        err = capsys.readouterr().err.splitlines()[-1]
        assert words in err
        assert not (here / "s.onnx").exists()


def narrow(width: int) -> Graph:
    n = Net("narrow")
    x = n.input("batch", 3, 6, 6)
    for _ in range(3):
        x = n.Relu(n.conv(x, width, kernel=(3, 3), pads=[1] * 4))
    n.output(n.conv(x, 10))
    return Graph(n.finished())


@pytest.mark.parametrize("width", [16, 32, 40])
@pytest.mark.parametrize("share", [0.15, 0.1, 0.05])
@pytest.mark.parametrize("cost", ["macs", "params", "size"])
def test_rounding_alone_stands_in_no_budgets_way(width, share, cost):
    """Widths that kernels like leave more than a sixth: below them there are halves, and a word on it."""
    if cost == "size":
        share += 0.15  # the file is more than its weights
    result = prune(narrow(width), measure_latency=False, **{cost: share})
    kept = [int(result.choice.of(g).sum()) for s in result.solved[0].search.spaces for g in s.groups]
    assert any("channels that kernels like: nothing wider meets" in w for w in result.verdict.warnings) == (
        min(kept) < 16 if width > 16 else min(kept) < 8
    )
    if cost == "macs":
        assert 0.6 * share < result.verdict.after.macs / result.verdict.before.macs <= share


def test_narrower_than_kernels_like_only_where_it_must_be():
    result = prune(narrow(32), measure_latency=False, macs=0.3)
    assert {int(result.choice.of(g).sum()) for s in result.solved[0].search.spaces for g in s.groups} == {16}
    assert not any("kernels like" in w for w in result.verdict.warnings)


def test_multiples_that_are_asked_for_are_kept():
    with pytest.raises(Infeasible, match="lower --min-channels or --round-to"):
        prune(narrow(32), measure_latency=False, macs=0.15, round_to=16)
    with pytest.raises(Infeasible, match="lower --min-channels or --round-to"):
        prune(narrow(32), measure_latency=False, macs=0.05, min_channels=8)


def test_sizes_are_of_one_sample():
    assert sizes(GRAPH) == {"batch": 1}


@pytest.mark.parametrize(
    ("option", "settings"),
    [("--inbound-groups", {"inbound_groups": 2}), ("--sparsity-among", {"sparsity_among": "layer"})],
)
def test_an_option_that_says_nothing_with_a_budget_is_refused(option, settings):
    with pytest.raises(UsageError, match=f"^{option}: has no effect without"):
        prune(GRAPH, macs=0.7, **settings)


def test_criteria_of_weights_alone_have_groups_measured_on_samples():
    """Filter norms say which channels of a layer go; what layers are worth is seen at the outputs."""
    norms, guessed = (
        prune(GRAPH, macs=0.6, calib=CALIB, criterion="l1", evaluations=n, measure_latency=False, force=True)
        for n in (200, 0)
    )
    widths = [[group.kept for group in made.plan.groups] for made in (norms, guessed)]
    assert widths[0] != widths[1]
