"""Profiles, with a measure that computes times from shapes instead of taking them."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import pytest
from nets import Net

from onnxprune.contracts.groups import Choice
from onnxprune.contracts.timing import Timing
from onnxprune.cost.latency import latency_model
from onnxprune.cost.macs import macs
from onnxprune.cost.rate import Rate, fitting
from onnxprune.cost.sizes import sizes
from onnxprune.errors import InputError
from onnxprune.graph import Graph, Network, infer
from onnxprune.pipeline.latency import latency_cost, profiled
from onnxprune.profile import MachineSetting, Stopwatch, Table, cached, layers, load, profile, remember
from onnxprune.profile.fit import Point, bound, fitted, follows
from onnxprune.profile.widths import Offset, preferred_multiple, rounded, variants
from onnxprune.reductions.channels import Channels
from onnxprune.runtime import ExecutionOptions, Session, kernel_seconds
from onnxprune.runtime.kernels import _totals

HERE = MachineSetting("CPUExecutionProvider", 1, True, "1.0", "a fake")


def network(width: int = 64) -> Graph:
    """Conv, SiLU, Conv with a residual, a depthwise Conv, a head."""
    n = Net("profile")
    x = n.conv(n.input("batch", 3, 8, 8), width, kernel=(3, 3), pads=[1] * 4)
    x = n.Mul(x, n.Sigmoid(x))
    y = n.Relu(n.conv(x, width, kernel=(3, 3), pads=[1] * 4))
    z = n.Relu(n.Add(n.conv(y, width, kernel=(1, 1)), x))
    z = n.conv(z, width, kernel=(3, 3), pads=[1] * 4, group=width)
    n.output(n.gemm(n.Flatten(n.GlobalAveragePool(z)), 10))
    return Graph(onnx.shape_inference.infer_shapes(n.finished()))


class Fake:
    """Seconds that follow MACs as a kernel would that works on blocks of channels; it counts."""

    def __init__(self, block: int = 16, per_mac: float = 1e-9, fixed: float = 0.0, broken: str = "?"):
        self.block, self.per_mac, self.fixed, self.broken = block, per_mac, fixed, broken
        self.measured = 0

    def __call__(self, models, feeds, options):
        self.measured += len(models)
        return np.array([[self.seconds(model)] * 5 for model in models])

    def seconds(self, data: bytes) -> float:
        graph = Graph(onnx.load_from_string(data))
        if any(node.op == self.broken for node in graph.nodes):
            raise InputError(f"{self.broken} is broken")
        total = self.fixed
        for index, count in macs(graph, infer(graph)).items():
            node = graph.nodes[index]
            slots = 1.0
            out, *inside = graph.shape_of_constant(node.inputs[1])
            for channels in (out, *inside[:1]):
                if channels >= self.block:
                    slots *= math.ceil(channels / self.block) * self.block / channels
            total += self.per_mac * count * slots
        return total


def narrowed(space, choice) -> Graph:
    return space.cut(space.network, choice)[0].graph


def profile_of(
    graph: Graph, fake: Fake, table: Table | None = None, multiple: int | None = None, frozen: bool = False
):
    space = Channels().find(Network(graph))
    stopwatch = Stopwatch(table or Table(HERE), ExecutionOptions(threads=1), measure=fake, frozen=frozen)
    dims = sizes(graph, batch=2)
    found = profile(
        graph,
        space.effect,
        lambda choice: narrowed(space, choice),
        stopwatch,
        dims,
        multiple=multiple,
    )
    return found, stopwatch


class TestLayers:
    def test_what_is_timed_together(self):
        graph = network()
        found = [layer.ops for layer in layers(graph, infer(graph))]
        assert found == [
            "Conv+Sigmoid+Mul",
            "Conv+Relu",
            "Conv+Add+Relu",
            "Conv",
            "GlobalAveragePool+Flatten",
            "Gemm",
        ]

    def test_every_running_node_is_in_one_layer(self):
        graph = network()
        indices = [node.index for layer in layers(graph, infer(graph)) for node in layer.nodes]
        assert sorted(indices) == [node.index for node in graph.nodes]

    def test_a_layer_runs_alone(self):
        graph = network()
        facts = infer(graph, {"batch": 2})
        for layer in layers(graph, facts):
            alone = onnx.load_from_string(layer.alone(graph, facts))
            assert len(alone.graph.node) == len(layer.nodes)
            Session(alone.SerializeToString())

    def test_equal_layers_have_equal_keys(self):
        n = Net("twins")
        x = n.input(1, 8, 4, 4)
        x = n.Relu(n.conv(n.Relu(n.conv(x, 8)), 8))
        n.output(n.Relu(n.conv(x, 8, strides=[2, 2])))
        graph = Graph(n.finished())
        first, second, third = (layer.key for layer in layers(graph, infer(graph)))
        assert first == second != third

    def test_batch_is_in_the_key(self):
        graph = network()
        one, two = (layers(graph, infer(graph, {"batch": b}))[0].key for b in (1, 2))
        assert one != two


class TestFit:
    def test_a_line_is_recovered(self):
        points = [
            Point(m, t, 1e-5 + 2e-9 * m + 3e-10 * t) for m, t in [(9000, 5000), (4000, 3000), (1000, 2500)]
        ]
        rate = fitted((3,), points)
        assert rate.nodes == (3,)
        assert (rate.fixed, rate.per_mac, rate.per_byte) == pytest.approx((1e-5, 2e-9, 3e-10), rel=1e-3)

    def test_parts_are_never_negative(self):
        random = np.random.default_rng(0)
        for _ in range(20):
            points = [
                Point(*map(int, random.integers(1, 9999, 2)), float(random.random() + 0.01)) for _ in range(6)
            ]
            rate = fitted((0,), points)
            assert min(rate.fixed, rate.per_mac, rate.per_byte) >= 0

    @pytest.mark.parametrize("macs", [0, 500])
    def test_one_width_is_put_down_to_the_work(self, macs):
        rate = fitted((0,), [Point(macs, 100, 0.5)])
        assert rate.seconds(macs, 100) == pytest.approx(0.5)
        assert rate.seconds(macs / 2, 50) == pytest.approx(0.25)

    def test_what_does_not_run_costs_nothing(self):
        assert fitted((0,), [Point(9, 9, 0.0)]) == Rate((0,), 0.0, 0.0, 0.0)

    @pytest.mark.parametrize(
        ("seconds", "kind"), [(0.5, "compute"), (0.54, "compute"), (0.6, "memory"), (1.0, "memory")]
    )
    def test_bound(self, seconds, kind):
        assert bound(Point(100, 10, 1.0), Point(50, 7, seconds)) == kind

    def test_no_macs_is_memory_and_no_change_is_fixed(self):
        assert bound(Point(0, 10, 1.0), Point(0, 5, 0.5)) == "memory"
        assert bound(Point(9, 10, 1.0), Point(9, 10, 1.0)) == "fixed"
        assert follows(Point(9, 10, 1.0), Point(9, 10, 1.0)) is None


class TestWidths:
    @pytest.mark.parametrize(
        ("size", "unit"), [(512, 16), (48, 16), (32, 16), (31, 8), (12, 4), (3, 1), (2, 1)]
    )
    def test_small_groups_have_finer_steps(self, size, unit):
        assert fitting(16, size) == unit

    def test_rounding_stays_inside(self):
        assert rounded(30, 64, 16) == 32
        assert rounded(1, 64, 16) == 16
        assert rounded(100, 50, 16) == 50

    def test_variants_are_the_same_each_time(self):
        graph = network()
        groups = Channels().find(Network(graph)).groups
        first, second = list(variants(groups, 16)), list(variants(groups, 16))
        assert [a.digest for a in first] == [b.digest for b in second]
        assert all(choice.of(group).any() for choice in first for group in groups)

    @pytest.mark.parametrize(
        ("per_mac", "multiple"),
        [
            ({0: 1, 1: 1.3, 2: 1.3, 4: 1.2, 8: 1.1, 16: 1.0}, 16),
            ({0: 1, 1: 1.3, 2: 1.3, 4: 1.2, 8: 1.02, 16: 1.0}, 8),
            ({0: 1, 1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0, 16: 1.0}, 1),
            ({0: 1, 1: 1.0, 2: 1.3, 4: 1.0}, 4),  # a lucky odd width doesn't count
            ({0: 1, 1: 1.4}, 2),
        ],
    )
    def test_liked(self, per_mac, multiple):
        assert preferred_multiple([Offset(1.0, per_mac)]) == multiple

    def test_heavy_layers_decide(self):
        picky, easy = {0: 1.0, 8: 1.5, 16: 1.0}, {0: 1.0, 8: 1.0, 16: 1.0}
        assert preferred_multiple([Offset(10.0, picky), Offset(1.0, easy)]) == 16
        assert preferred_multiple([Offset(0.1, picky), Offset(10.0, easy)]) == 1
        assert preferred_multiple([]) == 1


class TestProfile:
    @pytest.mark.parametrize("block", [1, 4, 16])
    def test_the_blocks_of_the_kernels_are_found(self, block):
        found, _ = profile_of(network(), Fake(block))
        assert found.multiple == block

    def test_what_follows_the_macs(self):
        found, _ = profile_of(network(), Fake())
        assert found.share("compute") > 0.8
        assert found.seconds == pytest.approx(sum(layer.seconds for layer in found.layers))
        assert sum(layer.share for layer in found.layers) == pytest.approx(1)
        assert json.dumps(found.data())

    def test_what_does_not(self):
        found, _ = profile_of(network(), Fake(per_mac=0.0, fixed=1e-3))
        assert found.share("compute") == 0

    def test_a_given_multiple_stays(self):
        assert profile_of(network(), Fake(16), multiple=4)[0].multiple == 4

    def test_equal_layers_are_measured_once(self):
        fake = Fake()
        _, stopwatch = profile_of(network(), fake)
        assert fake.measured == len(stopwatch.table.seconds)

    def test_a_table_makes_it_reproducible(self):
        fake = Fake()
        first, stopwatch = profile_of(network(), fake)
        again, _ = profile_of(network(), Fake(per_mac=1.0), stopwatch.used, frozen=True)
        assert again == first

    def test_a_frozen_table_of_another_model(self):
        _, stopwatch = profile_of(network(64), Fake())
        with pytest.raises(InputError, match="doesn't know layer"):
            profile_of(network(48), Fake(), stopwatch.used, frozen=True)

    def test_what_does_not_run_alone_is_said(self):
        found, _ = profile_of(network(), Fake(broken="GlobalAveragePool"))
        assert found.notes == ("a layer doesn't run on its own: GlobalAveragePool is broken",)
        assert [layer.seconds == 0 for layer in found.layers] == [False] * 4 + [True, False]

    def test_predictions_of_whole_candidates(self):
        graph, fake = network(), Fake(per_mac=1e-6)
        space = Channels().find(Network(graph))
        found, _ = profile_of(graph, fake)
        model = latency_cost(space, found)
        for choice in [Choice(), *variants(space.groups, 16)]:
            narrow = narrowed(space, choice)
            own = infer(narrow, {"batch": 2})
            truth = sum(fake.seconds(layer.alone(narrow, own)) for layer in layers(narrow, own))
            assert model(choice) * 1e-9 == pytest.approx(truth, rel=0.1)

    def test_the_model_follows_rates(self):
        """Sums over nodes and tensors of the graph as it is, and as it would be."""
        graph = network()
        facts = infer(graph, {"batch": 2})
        space = Channels().find(Network(graph))
        parts = layers(graph, facts)
        rates = [Rate(tuple(n.index for n in p.nodes), 1e-3, 1e-6, 1e-5) for p in parts]
        model = latency_model(graph, facts, space.effect, rates)
        assert model.total * 1e-9 == pytest.approx(
            sum(1e-3 + 1e-6 * p.macs + 1e-5 * p.traffic for p in parts)
        )
        choice = next(variants(space.groups, 16))
        narrow = narrowed(space, choice)
        expected = sum(
            1e-3 + 1e-6 * p.macs + 1e-5 * p.traffic for p in layers(narrow, infer(narrow, {"batch": 2}))
        )
        assert model(choice) * 1e-9 == pytest.approx(expected)


class TestTable:
    def test_there_and_back(self, tmp_path):
        table = Table(HERE, {"Conv": 1.5e-5, "Relu": 2e-7})
        table.save(tmp_path / "t.json")
        assert load(tmp_path / "t.json") == table

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "not JSON"),
            ("[]", "not a latency table"),
            ("{}", "not a latency table"),
            ('{"version": 2}', "version 2"),
            ('{"version": 1, "setting": {}, "seconds": {}}', "not a latency table"),
            ('{"version": 1, "setting": {}, "seconds": {"a": "b"}}', "not a latency table"),
        ],
    )
    def test_what_is_no_table(self, tmp_path, text, words):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(InputError, match=words):
            load(tmp_path / "t.json")

    def test_no_file(self, tmp_path):
        with pytest.raises(InputError, match="no such file"):
            load(tmp_path / "t.json")

    def test_the_cache_grows_and_survives_damage(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path / "cache"))
        remember(Table(HERE, {"a": 1.0}))
        remember(Table(HERE, {"b": 2.0}))
        assert cached(HERE) == Table(HERE, {"a": 1.0, "b": 2.0})
        elsewhere = MachineSetting("CPUExecutionProvider", 2, True, "1.0", "a fake")
        assert cached(elsewhere) == Table(elsewhere)
        next((tmp_path / "cache" / "latency").iterdir()).write_text("{")
        assert cached(HERE) == Table(HERE)

    def test_a_cache_that_cant_be_written(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path / "file"))
        remember(Table(HERE, {"a": 1.0}))
        assert cached(HERE) == Table(HERE)

    def test_profiled_reads_and_writes(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path / "cache"))
        graph, fake = network(), Fake()
        space = Channels().find(Network(graph))
        first = profiled(space, Timing(table_out=tmp_path / "t.json"), measure=fake)
        count = fake.measured
        assert profiled(space, measure=fake) == first
        assert profiled(space, Timing(table_in=tmp_path / "t.json"), measure=fake) == first
        assert fake.measured == count
        profiled(space, Timing(batch=3), measure=fake)
        assert fake.measured > count


class TestKernels:
    def test_a_run_is_the_sum_of_its_kernels(self):
        def kernel(ts, dur, op="Conv"):
            return {"cat": "Node", "name": "n_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": op}}

        run = {"cat": "Session", "name": "model_run"}
        fence = {"cat": "Node", "name": "n_fence_before", "ts": 0, "dur": 99, "args": {"op_name": "Conv"}}
        events = [run | {"name": "session_initialization"}, fence]
        events += [kernel(1, 5, "ReorderInput"), kernel(7, 20), kernel(28, 3), run]
        events += [kernel(40, 2), kernel(52, 3), kernel(56, 4), kernel(50, 20, "Loop"), run]
        assert _totals(events) == pytest.approx([23e-6, 22e-6])

    def test_real_kernels(self):
        graph = network(8)
        facts = infer(graph, {"batch": 1})
        parts = [layer.alone(graph, facts) for layer in layers(graph, facts)[:2]]
        feeds = [
            {
                v.name: np.ones([d.dim_value for d in v.type.tensor_type.shape.dim], np.float32)
                for v in onnx.load_from_string(p).graph.input
            }
            for p in parts
        ]
        measured = kernel_seconds(parts, feeds, rounds=3)
        assert measured.shape == (2, 3)
        assert (measured >= 0).all()
        with pytest.raises(InputError):
            kernel_seconds([parts[0], b"nonsense"], [feeds[0], {}], rounds=1)
