"""What holds of any surgery: nothing to do changes nothing, the same twice, random graphs; mistakes show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nets import PRIMES, SQUARE, Dims, Net
from onnx import TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from surgery import check, operate
from test_ops import ROWS, Row, build, group_norm, judge, pixel_shuffle, shuffle, squeeze_excite

from onnxprune.errors import OnnxpruneError
from onnxprune.graph import Graph, infer
from onnxprune.ops import RULES
from onnxprune.ops.label import Block, Label
from onnxprune.ops.op import Op, Rule
from onnxprune.ops.record import Selection
from onnxprune.ops.walk import Walk
from onnxprune.reductions.channels.cut import recorded
from onnxprune.reductions.channels.find import analyze

NEWEST = [pytest.param(row, id=f"{row.op}-{row.variant}".replace(" ", "-")) for row in ROWS]


@pytest.mark.parametrize("row", NEWEST)
def test_nothing_removed_changes_nothing(row: Row) -> None:
    net = build(row, PRIMES, row.opsets[-1])
    graph = Graph(net.finished())
    facts = infer(graph, net.symbols)
    analysis = analyze(graph, facts)
    everything = np.ones(analysis.count, bool)
    assert recorded(graph, facts, analysis, everything)[0].serialized() == graph.serialized()
    walked = Walk(graph, facts, RULES, Selection(everything[analysis.unit], analysis.unit)).run()
    assert not walked.edits


@pytest.mark.parametrize("row", NEWEST[::3])
def test_same_bytes_twice(row: Row) -> None:
    model = build(row, PRIMES, row.opsets[-1]).finished()
    before = model.SerializeToString()
    first, second = (
        operate(onnx.ModelProto.FromString(before), seed=5).pruned.serialized() for _ in range(2)
    )
    assert first == second


# ---------------------------------------------------------------- mistakes


class Deaf(Op):
    """Constants that hold a width stay as they are."""

    def set_value(self, i: int, wanted: object, *, lengths: bool = False) -> None:
        self.answer(i)


class Rigid(Op):
    """Attributes stay as they are."""

    def set_attr(self, name: str, value: object) -> None:
        pass


class Silent(Op):
    """Doesn't say where removed channels are dropped."""

    def mask(self, *arguments: object) -> None:
        pass


class Loose(Op):
    """Channels that meet are not one."""

    def join(self, a: Block, b: Block) -> None:
        pass


def by(kind: type[Op], op: str) -> Rule:
    """The rule of an operator, seeing its node through a broken `Op`."""

    def broken(node: Op) -> object:
        other = kind(node.walk, node.node)
        labels = RULES[op](other)
        node._answered |= other._answered
        return labels

    return broken  # type: ignore[return-value]


def passes(op: Op) -> list[Label]:
    return [op.label(0)] * len(op.node.outputs)


def turned(function: Callable[[np.ndarray], np.ndarray], op: str) -> Rule:
    """The rule, with the ids of its first output rearranged."""

    def broken(node: Op) -> list[Label]:
        first, *rest = RULES[op](node)
        return [tuple(b.map(b.axes, function) for b in first), *rest]

    return broken


def swapped(op: str) -> Rule:
    return lambda node: list(RULES[op](node))[::-1]


def tiled(ids: np.ndarray) -> np.ndarray:
    """Runs of the same id, dealt out in turns."""
    return np.resize(np.unique(ids), ids.size)


def uncoupled(op: Op) -> list[Label]:
    """Output channels of any convolution have nothing to do with its input."""
    if op.attr("group", 1) == 1:
        return list(RULES["Conv"](op))
    block = op.walk.fresh(op.node, (op.out_shape(0)[1],), (1,))  # type: ignore[index]
    op.produce(block)
    return [(block,)]


def wrong_way(op: Op) -> list[Label]:
    """Transpose with the inverse permutation."""
    perm = list(op.attr("perm") or reversed(range(len(op.shape(0)))))  # type: ignore[arg-type]
    return [tuple(b.moved([perm[a] for a in b.axes]) for b in op.label(0))]


@dataclass(frozen=True)
class Mistake:
    """A broken rule, and the row that must notice."""

    name: str
    op: str
    rule: Rule
    row: tuple[str, str]


MISTAKES = [
    Mistake("perm ignored", "Transpose", passes, ("Transpose", "")),
    Mistake("perm inverted", "Transpose", wrong_way, ("Transpose", "")),
    Mistake("inputs in another order", "Concat", turned(lambda a: np.roll(a, 2), "Concat"), ("Concat", "")),
    Mistake("ids reversed", "Concat", turned(lambda a: a[::-1], "Concat"), ("Concat", "")),
    Mistake("parts swapped", "Split", swapped("Split"), ("Split", "equal")),
    Mistake(
        "part off by one", "Split", turned(lambda a: np.roll(a, 1), "Split"), ("Split", "sizes as input")
    ),
    Mistake("sizes kept", "Split", by(Deaf, "Split"), ("Split", "sizes as input")),
    Mistake("ends kept", "Slice", by(Deaf, "Slice"), ("Slice", "two halves that meet")),
    Mistake("part off by one", "Slice", turned(lambda a: np.roll(a, 1), "Slice"), ("Slice", "")),
    Mistake("indices kept", "Gather", by(Deaf, "Gather"), ("Gather", "permutes")),
    Mistake("order ignored", "Gather", passes, ("Gather", "permutes")),
    Mistake("target kept", "Reshape", by(Deaf, "Reshape"), ("Reshape", "to rows")),
    Mistake("tiles, not repeats", "Flatten", turned(tiled, "Flatten"), ("Flatten", "")),
    Mistake("ids reversed", "Reshape", turned(lambda a: a[::-1], "Reshape"), ("Reshape", "channel shuffle")),
    Mistake("target kept", "Expand", by(Deaf, "Expand"), ("Expand", "to channels")),
    Mistake("parameters kept", "BatchNormalization", passes, ("BatchNormalization", "")),
    Mistake("elementwise", "Softmax", passes, ("Softmax", "")),
    Mistake("elementwise", "LpNormalization", passes, ("LpNormalization", "of channels")),
    Mistake("scale kept", "LayerNormalization", passes, ("LayerNormalization", "")),
    Mistake("elementwise", "CumSum", passes, ("CumSum", "of channels")),
    Mistake("elementwise", "LRN", passes, ("LRN", "")),
    Mistake("one branch", "Add", passes, ("Add", "")),
    Mistake("joined to nothing", "Add", by(Loose, "Add"), ("Add", "residual stream")),
    Mistake("joined to nothing", "Mul", by(Loose, "Mul"), ("Mul", "squeeze and excitation")),
    Mistake("slopes kept", "PRelu", passes, ("PRelu", "")),
    Mistake("not coupled", "Conv", uncoupled, ("Conv", "depthwise")),
    Mistake("group kept", "Conv", by(Rigid, "Conv"), ("Conv", "depthwise")),
    Mistake("joined to nothing", "Conv", by(Loose, "Conv"), ("Conv", "")),
    Mistake("drops channels unsaid", "Conv", by(Silent, "Conv"), ("Relu", "")),
    Mistake("drops channels unsaid", "Gemm", by(Silent, "Gemm"), ("Gemm", "")),
    Mistake("drops channels unsaid", "MatMul", by(Silent, "MatMul"), ("MatMul", "")),
    Mistake("hidden size kept", "LSTM", by(Rigid, "LSTM"), ("LSTM", "")),
    Mistake("directions swapped", "LSTM", turned(lambda a: a[::-1], "LSTM"), ("LSTM", "both ways")),
    Mistake("recurrence unsaid", "GRU", by(Silent, "GRU"), ("GRU", "")),
    Mistake(
        "positions for channels",
        "DepthToSpace",
        turned(lambda a: np.roll(a, 1), "DepthToSpace"),
        ("DepthToSpace", ""),
    ),
    Mistake("groups kept", "GroupNormalization", by(Rigid, "GroupNormalization"), ("GroupNormalization", "")),
    Mistake("repeats, not tiles", "Tile", turned(np.sort, "Tile"), ("Tile", "of channels")),
    Mistake("nothing joined", "Where", passes, ("Where", "")),
]

CAUGHT = (
    AssertionError,
    OnnxpruneError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    *(e for e in vars(ort_errors).values() if isinstance(e, type) and issubclass(e, Exception)),
)


def _judge_thrice(row, dims, rules: Mapping[str, Rule]) -> None:
    for seed in range(3):
        judge(row, row.opsets[-1], dims, rules, seed)


@pytest.mark.parametrize(
    "mistake", [pytest.param(m, id=f"{m.op} {m.name}".replace(" ", "-")) for m in MISTAKES]
)
def test_mistakes_are_caught(mistake: Mistake) -> None:
    row = next(r for r in ROWS if (r.op, r.variant) == mistake.row)
    rules: Mapping[str, Rule] = {**RULES, mistake.op: mistake.rule}
    for dims in (PRIMES, SQUARE):
        # The same positions may go by chance where they had to.
        with pytest.raises(CAUGHT):
            _judge_thrice(row, dims, rules)


# ---------------------------------------------------------------- random graphs


def _pick_pair(n: Net, draw: st.DataObject, tensors: list[str]) -> tuple[str, str]:
    """Two tensors of the same shape; the second is made so, if need be."""
    x = draw.draw(st.sampled_from(tensors))
    same = [t for t in tensors if t != x and n.shape(t) == n.shape(x)]
    return x, draw.draw(st.sampled_from(same)) if same else n.conv(x, n.shape(x)[1])


def _halves(n: Net, x: str) -> list[str]:
    half = n.shape(x)[1] // 2
    return list(n.Split(x, [half, n.shape(x)[1] - half], outputs=2, axis=1))


def _batch_norm(n: Net, x: str) -> str:
    c = n.shape(x)[1]
    return str(n.BatchNormalization(x, n.positive(c), n.weight(c), n.weight(c), n.positive(c)))


def _grouped(n: Net, x: str) -> str:
    c = n.shape(x)[1]
    groups = next(g for g in (4, 3, 2, 1) if c % g == 0)
    return n.conv(x, c * 2 if c < 8 else c, group=groups)


def _upscaled(n: Net, x: str) -> str:
    c = n.shape(x)[1]
    large = pixel_shuffle(n, x) if c % 4 == 0 else n.Resize(x, None, np.asarray([1, 1, 2, 2], np.float32))
    return str(n.MaxPool(large, kernel_shape=[2, 2], strides=[2, 2]))


def _channel_last(n: Net, x: str) -> str:
    return str(n.Transpose(n.dense(n.Transpose(x, perm=[0, 2, 3, 1]), 6), perm=[0, 3, 1, 2]))


UNARY_STEPS: list[Callable[[Net, str], str | list[str]]] = [
    lambda n, x: n.conv(x, 6, kernel=(3, 3), pads=[1] * 4),
    lambda n, x: n.conv(x, 8),
    lambda n, x: n.conv(x, n.shape(x)[1], group=n.shape(x)[1]),
    _grouped,
    _batch_norm,
    lambda n, x: n.Relu(x),
    lambda n, x: n.Sigmoid(x),
    lambda n, x: n.PRelu(x, n.weight(n.shape(x)[1], 1, 1)),
    lambda n, x: n.Mul(x, n.weight(1, n.shape(x)[1], 1, 1)),
    squeeze_excite,
    _halves,
    lambda n, x: n.Slice(x, [1], [n.shape(x)[1]], [1]),
    lambda n, x: n.Gather(x, n.random.permutation(n.shape(x)[1]), axis=1),
    lambda n, x: n.Pad(x, [0, 1, 0, 0, 0, 0, 0, 0]),
    lambda n, x: shuffle(n, x, 2) if n.shape(x)[1] % 2 == 0 else x,
    lambda n, x: group_norm(n, x, 2) if n.shape(x)[1] % 2 == 0 else x,
    lambda n, x: n.Softmax(x, axis=1),
    _upscaled,
    _channel_last,
]


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
@given(
    draw=st.data(),
    seed=st.integers(0, 10**6),
    dims=st.sampled_from([Dims(1, 6, 4, 4), Dims(2, 4, 4, 4), Dims(1, 8, 2, 6)]),
)
def test_random_graphs(draw: st.DataObject, seed: int, dims: Dims) -> None:
    n = Net(str(seed), dims)
    tensors = [n.conv()]
    for _ in range(draw.draw(st.integers(2, 8))):
        kind = draw.draw(st.integers(0, len(UNARY_STEPS) + 2))
        if kind < len(UNARY_STEPS):
            made = UNARY_STEPS[kind](n, draw.draw(st.sampled_from(tensors)))
            tensors += made if isinstance(made, list) else [made]
        else:
            a, b = _pick_pair(n, draw, tensors)
            tensors.append(
                str([n.Add, n.Mul, lambda a, b: n.Concat(a, b, axis=1)][kind - len(UNARY_STEPS)](a, b))
            )
    for x in dict.fromkeys(tensors[-2:]):
        n.read(x)
    check(operate(n.finished(), seed=seed, share=None), n.feeds()[0])


def counted(n: Net) -> str:
    """What is multiplied by the number of channels, which the graph computes from a shape."""
    x = n.conv(out=2 * n.C)
    width = n.Cast(n.Slice(n.Shape(x), [1], [2]), to=TensorProto.FLOAT)
    return str(n.Mul(x, width))


def reads(op: Op) -> Sequence[Label]:
    """Looks at a value, and says nothing of it."""
    assert op.value(1) is not None
    return RULES["Mul"](op)


def answers(op: Op) -> Sequence[Label]:
    op.answer(1)
    return RULES["Mul"](op)


def test_a_rule_that_only_reads_a_value_does_not_answer_for_it() -> None:
    n = Net("counted", opset=17)
    n.read(counted(n))
    for rules in (RULES, {**RULES, "Mul": reads}):
        surgery = operate(n.finished(), rules=rules)
        assert surgery.removed
        check(surgery, n.feeds()[0], all_read=True)
    wrong = operate(n.finished(), rules={**RULES, "Mul": answers})
    with pytest.raises(AssertionError):
        check(wrong, n.feeds()[0])


def biased_twice(joined: bool) -> Net:
    """Two layers that share a bias; their channels go together, or each for itself."""
    n = Net("shared bias")
    x, bias = n.input("batch", 3, 4, 4), n.const(n.weight(12))
    parts = [n.Conv(x, n.weight(12, 3, 1, 1), bias) for _ in range(2)]
    y = n.Add(*parts) if joined else n.Concat(n.Relu(parts[0]), n.Sigmoid(parts[1]), axis=1)
    n.output(n.conv(n.Relu(y), 5))
    return n


@pytest.mark.parametrize("joined", [True, False])
def test_a_shared_bias_stays_one_where_its_readers_go_on_reading_the_same(joined):
    n = biased_twice(joined)
    model = n.finished()
    surgery = operate(model, seed=3)
    check(surgery, n.feeds()[0])
    before, after = ([t.name for t in m.graph.initializer] for m in (model, surgery.pruned.model))
    assert surgery.removed
    assert (set(before) == set(after)) is joined
