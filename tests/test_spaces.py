"""What holds of every space: of channels, of kernels, of single values, and of kernels before channels.

The networks are those of `test_traps`. What a trace says is compared with what ONNX Runtime gives: of the
masked reference, and of the cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pytest
from msgspec.structs import replace
from nets import PRIMES, Net
from surgery import TOLERANCE
from test_traps import TRAPS

from onnxprune import plan as plans
from onnxprune.contracts.cut import without
from onnxprune.contracts.groups import Choice, Group
from onnxprune.contracts.plan import Plan, PlannedPhase
from onnxprune.contracts.reduction import Cut, Reduction, Space
from onnxprune.contracts.selection import keep_best
from onnxprune.contracts.traces import Chained, Unchanged
from onnxprune.errors import InputError, ProofFailed
from onnxprune.graph import Edits, Graph, Network, is_floating
from onnxprune.proof import prove
from onnxprune.reductions.channels import Channels
from onnxprune.reductions.weights import Kernels, Weights
from onnxprune.runtime import ExecutionOptions, Session
from onnxprune.types import Cause

KINDS: Mapping[str, Sequence[Reduction]] = {
    "channels": [Channels()],
    "kernels": [Kernels()],
    "kernels of runs": [Kernels(2)],
    "values": [Weights()],
    "values of outputs": [Weights("output")],
    "kernels, channels": [Kernels(), Channels()],
}
EVERY = pytest.mark.parametrize("kind", KINDS)
TRAP = pytest.mark.parametrize("trap", TRAPS)


def seen(graph: Graph, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors as the graph is written."""
    session = Session(graph.tapped(names).serialized(), ExecutionOptions(optimize=False))
    return session.run(dict(feeds), names)


@dataclass(frozen=True, eq=False)
class Case:
    """A network, its spaces, and a choice at random of a bit more than half."""

    network: Network
    spaces: tuple[Space, ...]
    feeds: Mapping[str, np.ndarray]

    @property
    def groups(self) -> list[Group]:
        return [group for space in self.spaces for group in space.groups]

    def some(self, group: Group, share: float = 0.6) -> np.ndarray:
        random = np.random.default_rng([len(group.id), group.size])
        return keep_best(group, random.random(group.size), round(share * group.size))

    @cached_property
    def choice(self) -> Choice:
        return Choice({group.id: self.some(group) for group in self.groups})

    @cached_property
    def cut(self) -> Cut:
        return without(self.network, self.spaces, self.choice)

    @cached_property
    def reference(self) -> Network:
        found = self.network
        for space in self.spaces:
            found = space.mask(found, self.choice)
        return found

    @cached_property
    def common(self) -> list[str]:
        """Tensors of floats that both graphs compute from inputs."""
        facts, left = self.network.facts, self.cut.network.graph
        return [
            name
            for name in self.network.graph.producer
            if name in left.producer
            and name not in facts.values
            and name in facts.dtypes
            and is_floating(facts.dtypes[name])
        ]


@cache
def network_of(trap: str) -> tuple[Network, Mapping[str, np.ndarray]]:
    net = Net(trap, PRIMES)
    result = TRAPS[trap](net)
    for tensor in result if isinstance(result, tuple | list) else [result] if result else []:
        net.read(tensor)
    return Network(Graph(net.finished())), net.feeds()[0]


@cache
def case_of(trap: str, kind: str) -> Case:
    network, feeds = network_of(trap)
    return Case(network, tuple(r.find(network) for r in KINDS[kind]), feeds)


def close(found: np.ndarray, expected: np.ndarray, name: str) -> None:
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * scale, err_msg=name)


@EVERY
@TRAP
def test_a_trace_says_what_is_left_of_tensors(trap: str, kind: str) -> None:
    case = case_of(trap, kind)
    trace = case.cut.trace
    before = seen(case.network.graph, case.common, case.feeds)
    masked = seen(case.reference.graph, case.common, case.feeds)
    after = seen(case.cut.network.graph, case.common, case.feeds)
    for name in case.common:
        part = trace.part(name, masked[name])
        close(after[name], part, name)
        entries = trace.entries(name)
        if entries is not None:
            np.testing.assert_array_equal(masked[name].take(entries[1], entries[0]), part)
            assert part.shape != before[name].shape or not np.array_equal(entries[1], range(len(entries[1])))
        if name not in trace.changed:
            close(after[name], trace.part(name, before[name]), name)
    assert trace.compared <= trace.changed
    assert all(name in trace.changed or after[name].shape != before[name].shape for name in trace.compared)


def weights_of(case: Case) -> Iterator[tuple[str, int, str, str]]:
    """(first output, input, name before, name after) of constants of floats that nodes of both read."""
    graph, left = case.network.graph, case.cut.network.graph
    for node in graph.nodes:
        output = next((name for name in node.outputs if name), "")
        if output not in left.producer or output != node.outputs[0]:
            continue
        for i, name in enumerate(node.inputs):
            new = left.producer[output].inputs[i] if i < len(left.producer[output].inputs) else ""
            floats = name in graph.constants and is_floating(graph.dtype(name)) and graph.is_weight(name)
            if floats and new in left.constants:
                yield output, i, name, new


@EVERY
@TRAP
def test_a_trace_says_what_is_left_of_weights(trap: str, kind: str) -> None:
    case = case_of(trap, kind)
    graph, left, trace = case.network.graph, case.cut.network.graph, case.cut.trace
    for output, i, name, new in weights_of(case):
        found = trace.weight(output, i, graph.array(name))
        support = trace.support(output, i)
        expected = left.array(new)
        assert found.shape == expected.shape, (name, output)
        if support is None:
            np.testing.assert_array_equal(found, expected, err_msg=name)
            continue
        assert support.dtype == bool
        assert support.shape == expected.shape
        np.testing.assert_array_equal(np.where(support, found, 0), expected, err_msg=name)
        # Whatever has the shape of the weight goes the same way: here, where each of its values was.
        places = trace.weight(output, i, np.arange(graph.count(name)).reshape(graph.shape_of_constant(name)))
        np.testing.assert_array_equal(graph.array(name).ravel()[places], found)


@EVERY
@TRAP
def test_what_is_lost_is_where_zero_is_read(trap: str, kind: str) -> None:
    """Of layers: the trace's support is what the spaces say they lost, as far as it is left."""
    case = case_of(trap, kind)
    for space in case.spaces:
        for one in space.lost(case.choice):
            if hasattr(one, "support"):
                layer = one.layer
                assert one.support.shape == case.network.graph.shape_of_constant(layer.weight)
                assert not one.support.all()
                if layer.output in case.cut.network.graph.producer:
                    left = case.cut.trace.support(layer.output, layer.input)
                    expected = case.cut.trace.weight(layer.output, layer.input, one.support)
                    np.testing.assert_array_equal(left, expected)
                assert layer.output in case.cut.trace.compared
            else:
                assert not one.kept.all()
                assert one.kept.shape == one.consumer.units.shape
                assert one.consumer.output in case.cut.trace.compared


@EVERY
@TRAP
def test_a_cut_is_proved_and_a_plan_brings_it_back(trap: str, kind: str) -> None:
    case = case_of(trap, kind)
    if not case.groups:
        assert case.cut.network is case.network
        return
    proved = prove(case.cut, case.feeds)
    assert proved.exact
    assert proved.covered == {group.id for group in case.cut.groups}
    phase = PlannedPhase(tuple(space.write(case.choice) for space in case.spaces))
    (again,) = plans.loads(plans.dumps(Plan(case.network.digest, (phase,)))).phases
    choice = Choice()
    for space, planned in zip(case.spaces, again.reductions, strict=True):
        choice |= space.read(planned)
    assert choice.digest == case.choice.digest


@EVERY
@TRAP
def test_nothing_before_the_start_of_a_group_is_another_value(trap: str, kind: str) -> None:
    case = case_of(trap, kind)
    names = [n for n in case.network.graph.producer if n in case.network.facts.dtypes]
    names = [n for n in names if is_floating(case.network.facts.dtypes[n]) and n in case.common]
    before = seen(case.network.graph, names, case.feeds)
    for space in case.spaces:
        for group in space.groups:
            alone = space.mask(case.network, Choice({group.id: case.some(group, 0.3)})).graph
            start = space.start(group)
            early = [n for n in names if case.network.graph.producer[n].index < start]
            for name, value in seen(alone, early, case.feeds).items() if early else ():
                np.testing.assert_array_equal(value, before[name])


@EVERY
@TRAP
def test_groups_that_shall_stay_are_blocked_with_the_reason(trap: str, kind: str) -> None:
    case = case_of(trap, kind)
    for space in case.spaces:
        if not space.groups:
            continue
        first, *others = space.groups
        left = space.without({first.id}, Cause(-1, "a reason", "a way out"))
        assert [group.id for group in left.groups] == [group.id for group in others]
        assert any(b.cause.reason == "a reason" for b in left.blocked)
        outputs = case.network.graph.producer
        assert first.id in space.at(first.layers)
        assert first.id not in left.at(outputs)
        states = {w.name: w for w in left.weights}
        assert all(first.id not in (*w.groups, *w.coupled) for w in states.values())
        assert {group.id for group in space.groups} >= space.at(outputs) >= left.at(outputs)


def test_most_networks_have_something_to_cut() -> None:
    """So that the tests above are about something."""
    counted = {kind: sum(bool(case_of(trap, kind).cut.groups) for trap in TRAPS) for kind in KINDS}
    assert counted["channels"] > 0.6 * len(TRAPS), counted
    assert counted["values"] > 0.9 * len(TRAPS), counted
    assert counted["kernels"] > 0.6 * len(TRAPS), counted


# ---------------------------------------------------------------- units of values

LAYERS: Mapping[str, Callable[[Net], str]] = {
    "conv": lambda n: n.conv(n.conv(), 4, (2, 3)),
    "groups": lambda n: n.conv(n.conv(out=6), 4, (2, 3), group=2),
    "depthwise": lambda n: n.conv(n.conv(out=4), 4, (3, 1), group=4),
    "transposed": lambda n: n.ConvTranspose(n.conv(), n.weight(n.C, 4, 2, 3)),
    "transposed in groups": lambda n: n.ConvTranspose(n.conv(out=6), n.weight(6, 2, 2, 3), group=2),
    "gemm": lambda n: n.Gemm(n.gemm(), n.weight(n.C, 5), alpha=0.5),
    "gemm, turned": lambda n: n.gemm(n.gemm(), 5),
    "matmul": lambda n: n.MatMul(n.dense(), n.weight(n.C, 5)),
    "matmul from the left": lambda n: n.MatMul(n.weight(5, n.H), n.dense()),
    "recurrent": lambda n: n.LSTM(n.dense(), n.weight(1, 8, n.C), n.weight(1, 8, 2), hidden_size=2),
}


@pytest.mark.parametrize("kind", ["kernels", "kernels of runs", "values", "values of outputs"])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_units_that_go_are_those_that_were_rated(layer: str, kind: str) -> None:
    """Neither the proof nor a plan would tell. Each value is of one unit; a run's are of its own outputs."""
    net = Net(layer)
    net.output(LAYERS[layer](net))
    network = Network(Graph(net.model()))
    (space,) = (r.find(network) for r in KINDS[kind])
    groups = [g for g in space.groups if network.graph.nodes[-1].outputs[0] in g.layers]
    if kind.startswith("kernels") and layer not in ("conv",):
        assert not groups
        return
    (group,) = groups
    (found,) = space.lost(Choice({group.id: np.zeros(group.size, bool)}))
    layout, array = found.layer.layout, network.graph.array(found.layer.weight)
    rated = space.summed(group, np.abs(space.weight(group)))
    taken = np.zeros(array.shape, int)
    for unit in range(group.size):
        (one,) = space.lost(Choice({group.id: np.arange(group.size) != unit}))
        gone = ~one.support
        taken += gone
        rows = layout.matrix(gone.astype(float)).reshape(-1, layout.fan_in(array.shape))
        factor = layout.matrix(np.ones(array.shape)).max()
        np.testing.assert_allclose(rated[unit], factor * np.abs(array[gone]).sum(), rtol=1e-6)
        if group.runs > 1:
            run = unit // (group.size // group.runs)
            outputs = np.array_split(np.arange(len(rows)), group.runs)[run]
            assert set(np.flatnonzero(rows.any(axis=1))) <= set(outputs)
    assert (taken == 1).all()
    assert group.runs == {"values": 1, "kernels of runs": 2}.get(kind, len(rows))


# ---------------------------------------------------------------- constants that several nodes read


def test_a_plan_of_layers_that_share_a_bias() -> None:
    """Exporters share equal constants: of such a one, a plan says something for each layer."""
    net = Net("shared bias")
    b = net.const(net.weight(8))
    x = net.Relu(net.Conv(net.input(2, 3, 5, 5), net.weight(8, 3, 1, 1), b))
    net.read(net.Relu(net.Conv(x, net.weight(8, 8, 1, 1), b)))
    space = Channels().find(Network(Graph(net.finished())))
    assert len(space.groups) == 2
    for shift in (1, 3):
        kept = {g.id: np.roll(np.arange(8) < 4, shift * k) for k, g in enumerate(space.groups)}
        planned = space.write(Choice(kept))
        assert [sum(t.name == b for t in g.tensors) for g in planned.groups] == [1, 1]
        assert space.read(planned).digest == Choice(kept).digest
    first, second = planned.groups
    odd = tuple(replace(t, kept=(0, 1, 2, 7)) if t.name == b else t for t in first.tensors)
    with pytest.raises(InputError, match=f"'{b}': index 3 is coupled with one .* treats otherwise"):
        space.read(replace(planned, groups=(replace(first, tensors=odd), second)))


@pytest.mark.parametrize(
    ("trap", "reason"),
    [
        ("weight_is_an_output", "is an output of the model, too"),
        ("weight_in_a_body", "the body of a node reads"),
        ("loop_captures_a_weight", "the body of a node reads"),
    ],
)
def test_values_that_more_than_nodes_read_stay(trap: str, reason: str) -> None:
    (space,) = case_of(trap, "values").spaces
    (blocked,) = (b for b in space.blocked if reason in b.cause.reason)
    name = blocked.cause.reason.split("'")[1]
    assert name not in {group.id for group in space.groups}
    (weight,) = (w for w in space.weights if w.name == name)
    assert weight.state == "blocked"
    assert weight.cause == blocked.cause


def test_values_that_several_nodes_read_are_zero_for_all_of_them() -> None:
    case = case_of("weight_read_by_arithmetic_of_its_values", "values")
    shared = next(g for g in case.groups if len(case.network.graph.readers[g.id]) > 1)
    readers = {node.outputs[0] for node, _ in case.network.graph.readers[shared.id]}
    assert readers <= case.cut.trace.compared
    assert case.spaces[0].start(shared) == min(case.network.graph.producer[o].index for o in readers)


# ---------------------------------------------------------------- proofs fail where they have to


@EVERY
def test_a_cut_that_is_wrong_fails(kind: str) -> None:
    """Another choice than the one that was cut; a weight that is off by a thousandth."""
    net = Net("wrong")
    net.read(net.Relu(net.conv(net.Relu(net.conv(out=8)), 8, (3, 3))))
    network = Network(Graph(net.finished()))
    spaces = tuple(r.find(network) for r in KINDS[kind])
    case = Case(network, spaces, net.feeds()[0])
    cut = case.cut
    assert prove(cut, case.feeds).exact
    group = next(g for g in cut.groups if not cut.choice.of(g).all())
    rolled = cut.choice.with_group(group, np.roll(cut.choice.of(group), 1))
    with pytest.raises(ProofFailed):
        prove(Cut(network, spaces, rolled, cut.network, cut.trace), case.feeds)
    graph = cut.network.graph
    name = next(n for n in graph.constants if graph.is_weight(n) and graph.array(n).ndim == 4)
    off = cut.network.edited(Edits(constants={name: graph.array(name) * np.float32(1.001)}))
    with pytest.raises(ProofFailed):
        prove(Cut(network, spaces, cut.choice, off, cut.trace), case.feeds)


def test_outputs_that_no_part_makes_are_compared_all_the_same() -> None:
    """Where rounding does not explain what the whole gives, parts are asked: not so of a constant."""
    net = Net("constant output")
    c = net.const(net.weight(8))
    net.output(c)
    net.read(net.Relu(net.conv(out=8)))
    case = Case((network := Network(Graph(net.finished()))), (Channels().find(network),), net.feeds()[0])
    cut = case.cut
    assert prove(cut, case.feeds).exact
    other = cut.network.edited(Edits(constants={c: 2 * cut.network.graph.array(c)}))
    with pytest.raises(ProofFailed, match=f"'{c}' differs"):
        prove(Cut(network, case.spaces, cut.choice, other, cut.trace), case.feeds)


# ---------------------------------------------------------------- traces of several cuts


def test_a_trace_of_nothing_leaves_all_as_it_is() -> None:
    value = np.arange(6).reshape(2, 3)
    trace = Unchanged()
    assert trace.part("x", value) is value
    assert trace.weight("x", 1, value) is value
    assert trace.entries("x") is None
    assert trace.support("x", 1) is None
    assert not trace.changed | trace.compared


def test_cuts_one_after_the_other() -> None:
    """Channels, then channels of what is left, then single values of that."""
    net = Net("one after the other")
    net.read(net.Relu(net.conv(net.Relu(net.conv(out=12)), 10, (3, 3))))
    network = Network(Graph(net.finished()))
    feeds = net.feeds()[0]
    cuts, base = [], network
    for reduction in (Channels(), Channels(), Weights()):
        case = Case(base, (reduction.find(base),), feeds)
        cuts.append(case.cut)
        base = case.cut.network
    first, second, third = (cut.trace for cut in cuts)
    both = Chained(first, second)
    whole = Chained(both, third)
    graph, left = network.graph, base.graph
    for node in graph.nodes:
        (name,) = node.outputs
        if node.op != "Conv":
            continue
        a, b, c = first.entries(name), second.entries(name), both.entries(name)
        if a is not None and b is not None:
            np.testing.assert_array_equal(c[1], a[1][b[1]])
        value = np.random.default_rng(0).standard_normal(network.facts.shapes[name])
        assert whole.part(name, value).shape == base.facts.shapes[name]
        weight = graph.array(node.inputs[1])
        support = whole.support(name, 1)
        np.testing.assert_array_equal(
            np.where(support, whole.weight(name, 1, weight), 0), left.array(left.producer[name].inputs[1])
        )
    assert whole.compared == first.compared | second.compared | third.compared
    assert whole.changed == first.changed | second.changed | third.changed
    then = Chained(third, Unchanged())
    (conv, *_) = (node.outputs[0] for node in graph.nodes if node.op == "Conv")
    np.testing.assert_array_equal(then.support(conv, 1), third.support(conv, 1))
