"""What is said of blocked channels holds: with what would unblock them, nothing is in their way any more.

A case builds a graph as it is, or as the advice says that it should be (`fixed`); advice that is an option
of the analysis names that option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from nets import Net
from onnx import TensorProto, helper
from test_approximate import NORMS, stream
from test_traps import looped, plus

from onnxprune.graph import Graph, infer
from onnxprune.ops import RULES
from onnxprune.ops.record import APPROXIMATE
from onnxprune.reductions.channels.analysis import Analysis
from onnxprune.reductions.channels.find import analyze
from onnxprune.types import Cause

Build = Callable[[Net, bool], Any]


@dataclass(frozen=True)
class Case:
    """Attributes:
    build: of a net, and whether to do as the advice says; channels of its result are read.
    reason: words of the reason.
    unblock: the advice.
    option: of the analysis, where the advice is that.
    """

    build: Build
    reason: str
    unblock: str
    before: Mapping[str, Any] = field(default_factory=dict)
    option: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 18


def model_of(case: Case, *, fixed: bool) -> onnx.ModelProto:
    net = Net(case.reason, opset=case.opset)
    result = case.build(net, fixed)
    if isinstance(result, onnx.ModelProto):
        return result
    if result is not None:
        net.read(result)
    return net.finished()


def analysis_of(model: onnx.ModelProto, *, dims: Any = None, **options: Any) -> tuple[Graph, Analysis]:
    graph = Graph(model)
    return graph, analyze(graph, infer(graph, dims), **options)


def causes(analysis: Analysis, reason: str) -> list[Cause]:
    return [b.cause for b in analysis.blocked if reason in b.cause.reason]


# ---------------------------------------------------------------- what can be done


def unknown_operator(n: Net, fixed: bool) -> Any:
    return n.Relu(n.conv()) if fixed else n.Compress(n.conv(), [True, False], axis=0)


def body(n: Net, fixed: bool) -> Any:
    x, state = n.conv(), n.conv()
    return n.Tanh(n.Add(x, state)) if fixed else looped(n, state, lambda now: plus(now, x), kind="Loop")


def shared_weight(n: Net, fixed: bool) -> Any:
    w = n.const(n.weight(n.C, n.C, 1, 1))
    n.output(n.const(n.value(w)) if fixed else w)
    return n.Conv(n.conv(), w)


def shared_in_two_shapes(n: Net, fixed: bool) -> Any:
    w = n.const(n.weight(4, 2, 1, 1))
    grouped = n.Conv(n.conv(out=4), n.const(n.value(w)) if fixed else w, group=2)
    n.output(n.conv(n.Conv(n.conv(out=2), w), 3))
    return grouped


def computed_axes(n: Net, fixed: bool) -> Any:
    axes = n.const([2, 3]) if fixed else n.input(2, feed=np.asarray([2, 3]))
    return n.ReduceSum(n.conv(), axes)


def computed_padding(n: Net, fixed: bool) -> Any:
    pads = np.asarray([0, 0, 1, 1, 0, 0, 1, 1])
    return n.Pad(n.conv(), n.const(pads) if fixed else n.input(8, feed=pads))


def computed_kernels(n: Net, fixed: bool) -> Any:
    w, r = n.weight(1, n.C, 5), n.weight(1, n.C, n.C)
    x = n.dense(n.input(n.H, n.B, 3), 5)
    y = n.RNN(x, w if fixed else n.input(1, n.C, 5), r, outputs=2, hidden_size=n.C)[1]
    return n.Squeeze(y, [0])


def training(n: Net, fixed: bool) -> Any:
    """Rows are normalised together with all channels."""
    x = n.Transpose(n.conv(), perm=[1, 2, 0, 3])
    if fixed:
        return n.Transpose(n.BatchNormalization(x, *(n.positive(n.H) for _ in range(4))), perm=[2, 0, 1, 3])
    y = n.BatchNormalization(x, *(n.positive(n.H) for _ in range(4)), training_mode=1, outputs=3)[0]
    return n.Transpose(y, perm=[2, 0, 1, 3])


def pooled(n: Net, fixed: bool) -> Any:
    x = n.conv()
    return n.MaxPool(x, kernel_shape=[1, 1]) if fixed else n.MaxPool(x, kernel_shape=[1, 1], outputs=2)[0]


def moving_range(n: Net, fixed: bool) -> Any:
    x = n.input(n.B if fixed else "batch", 3, n.H, n.W)
    batch = n.Gather(n.Shape(x), [0])
    return n.Slice(n.conv(x), batch, [n.C], [1])


def beside_a_barrier(n: Net, fixed: bool) -> Any:
    del fixed
    return n.Add(n.conv(), n.Tanh(n.Sign(n.conv())))


def block_scales(n: Net, fixed: bool) -> Any:
    w = n.const(n.random.integers(-100, 100, (n.C, 4)).astype(np.int8))
    scales = n.positive(n.C) if fixed else n.positive(1, 4)
    more = {"axis": 0} | ({} if fixed else {"block_size": n.C})
    return n.MatMul(n.input(n.B, n.H, 4), n.Transpose(n.DequantizeLinear(w, scales, **more)))


def unread(n: Net, y: str) -> onnx.ModelProto:
    """With a reader, for what ONNX Runtime's CPU provider can't run."""
    n.output(n.MatMul(y, n.weight(n.C, 6)))
    return n.model()


def row_zero_points(n: Net, fixed: bool) -> Any:
    quantised, scale, zero = n.DynamicQuantizeLinear(n.gemm(), outputs=3)
    w = n.const(n.random.integers(-100, 100, (n.C, n.C)).astype(np.int8))
    rows = n.const(np.zeros(n.B, np.uint8))
    product = n.MatMulInteger(quantised, w, zero if fixed else rows)
    return unread(n, n.Mul(n.Cast(product, to=TensorProto.FLOAT), scale))


def ordered_columns(n: Net, fixed: bool) -> Any:
    packed = n.const(n.random.integers(0, 255, (n.C, 2, 8)).astype(np.uint8))
    order = [] if fixed else [None, n.const(np.arange(32, dtype=np.int32))]
    x = n.dense(out=32)
    scales = n.positive(2 * n.C)
    return unread(
        n, n.microsoft("MatMulNBits", x, packed, scales, *order, K=32, N=n.C, bits=4, block_size=16)
    )


def channels_last(n: Net, fixed: bool) -> Any:
    scale, zero = n.const(np.float32(0.1)), n.const(np.uint8(128))
    x = n.QuantizeLinear(n.conv(), scale, zero)
    y = n.microsoft("QLinearGlobalAveragePool", x, scale, zero, scale, zero, channels_last=int(not fixed))
    return unread(n, n.Flatten(n.DequantizeLinear(y, scale, zero)))


def packed_heads(n: Net, fixed: bool) -> Any:
    x = n.input(n.B, n.H, 3)
    shape = [n.B, n.H, n.C, 3, 1]
    inputs = [n.dense(x) for _ in "qkv"] if fixed else [n.Reshape(n.dense(x, 3 * n.C), shape)]
    return unread(n, n.microsoft("MultiHeadAttention", *inputs, num_heads=n.C))


CASES: dict[str, Case] = {
    "row zero points": Case(
        row_zero_points, "a zero point for each row", "one scale and zero point for the tensor"
    ),
    "ordered columns": Case(ordered_columns, "columns in another order", "weights without g_idx"),
    "channels last": Case(channels_last, "its channels come last", "channels on axis 1"),
    "packed heads": Case(packed_heads, "packed inputs", "query, key and value as inputs of their own"),
    "no rule": Case(
        unknown_operator, "Compress has no rule", "a rule for Compress (docs/adding-an-operator.md)"
    ),
    "a body": Case(body, "Loop has a body", "an export without Loop"),
    "a shared weight": Case(shared_weight, "as it is", "a copy of 'w1' for each of its readers"),
    "two shapes": Case(shared_in_two_shapes, "in another shape", "a copy of 'w1' for each of its readers"),
    "computed axes": Case(computed_axes, "the reduced axes are not known", "constants in their place"),
    "computed padding": Case(computed_padding, "the padding is not known", "constants in their place"),
    "computed weights": Case(
        computed_kernels, "weights of the RNN are not constants", "constants in their place"
    ),
    "training": Case(training, "in training mode", "an export in inference mode", opset=17),
    "indices": Case(pooled, "count across channels", "a MaxPool without indices"),
    "a dynamic range": Case(moving_range, "depends on symbolic dim", "an export with fixed shapes"),
    "beside a barrier": Case(
        beside_a_barrier,
        "has no removable channels",
        "a rule for Sign (docs/adding-an-operator.md)",
        before={"rules": {op: rule for op, rule in RULES.items() if op != "Sign"}},
        option={"rules": RULES},
    ),
    "block scales": Case(block_scales, "a scale for each block", "one scale for each channel", opset=21),
    **{
        f"{name} over channels": Case(
            lambda n, _, norm=norm: stream(n, norm), "", APPROXIMATE, option={"approximate": True}, opset=23
        )
        for name, norm in NORMS.items()
        if not name.startswith("GroupN")  # whole groups may go
    },
}


@pytest.mark.parametrize("name", CASES)
def test_what_unblocks(name: str) -> None:
    case = CASES[name]
    _, analysis = analysis_of(model_of(case, fixed=False), **case.before)
    found = [c for c in causes(analysis, case.reason) if c.unblock != "nothing"]
    assert {c.unblock for c in found} == {case.unblock}, analysis.blocked
    _, analysis = analysis_of(model_of(case, fixed=not case.option), **case.option)
    assert not [c for c in causes(analysis, case.reason) if c.unblock == case.unblock]
    assert analysis.groups


# ---------------------------------------------------------------- shapes that are not known


def wrongly_guessed() -> onnx.ModelProto:
    """Runs for images of one size only."""
    n = Net("guessed")
    x = n.input("batch", 3, n.H, n.W)
    n.output(n.Relu(n.conv(n.Add(n.conv(x), n.weight(n.H, n.W)))))
    model = n.model()
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    return model


def test_sizes_unblock_what_was_guessed_wrongly() -> None:
    _, analysis = analysis_of(wrongly_guessed())
    (cause,) = {b.cause for b in analysis.blocked if "not known" in b.cause.reason}
    assert cause.unblock == "known shapes: value_info in the file, or --dim where a size was guessed wrongly"
    graph, analysis = analysis_of(wrongly_guessed(), dims={"height": 5, "width": 3})
    assert [b.cause.reason for b in analysis.blocked] == [f"is the graph output '{graph.outputs[0]}'"]


@pytest.mark.parametrize("declared", [False, True])
def test_recorded_shapes_unblock_what_has_none(declared: bool) -> None:
    n = Net("recorded")
    x = n.conv()
    y = n.node("com.example:Filter", n.input(n.B, n.C, n.H, n.W))
    model = n.model()
    joined = helper.make_node("Add", [x, y], ["joined"], name="joined")
    model.graph.node.append(joined)
    model.graph.output.append(onnx.ValueInfoProto(name="joined"))
    if declared:
        model.graph.value_info.append(
            helper.make_tensor_value_info(y, TensorProto.FLOAT, [n.B, n.C, n.H, n.W])
        )
    (blocked,) = analysis_of(model)[1].blocked
    assert ("not known" in blocked.cause.reason) != declared
    assert (blocked.cause.unblock == "known shapes: value_info in the file") != declared


# ---------------------------------------------------------------- what can't be helped


def widths_of_outputs(n: Net) -> None:
    n.output(n.conv())


def softmax(n: Net) -> None:
    n.read(n.Softmax(n.conv(), axis=1))


def beside_an_input(n: Net) -> None:
    n.read(n.Add(n.conv(), n.input(n.B, n.C, n.H, n.W)))


def all_into_one(n: Net) -> None:
    n.read(n.DepthToSpace(n.conv(out=4), blocksize=2))


@pytest.mark.parametrize("build", [widths_of_outputs, softmax, beside_an_input, all_into_one])
def test_nothing_helps(build: Callable[[Net], None]) -> None:
    net = Net("inherent")
    build(net)
    _, analysis = analysis_of(net.finished(), approximate=True)
    assert analysis.blocked[0].cause.unblock == "nothing"
    assert not analysis.groups


def test_the_hardest_of_several_reasons_decides() -> None:
    n = Net("several", opset=18)
    x = n.LayerNormalization(n.dense(), n.positive(n.C), axis=-1)
    n.output(x)
    n.output(n.Softmax(n.LayerNormalization(n.dense(), n.positive(n.C), axis=-1)))
    n.output(
        n.ReduceMax(n.Compress(n.LayerNormalization(n.dense(), n.positive(n.C), axis=-1), [True], axis=0))
    )
    first, second, third = (b.cause for b in analysis_of(n.finished())[1].blocked)
    assert {c.reason for c in (first, second, third)} == {"LayerNormalization normalises over its channels"}
    assert first.unblock == f"nothing: is the graph output '{x}'"
    assert second.unblock == "nothing: Softmax runs over its channels"
    assert third.unblock == f"{APPROXIMATE}, and a rule for Compress (docs/adding-an-operator.md)"


def test_rows_that_must_stay_equal_wait_for_those_that_are_blocked() -> None:
    """One half of a grouped convolution's outputs meets a barrier."""
    n = Net("uneven")
    x = n.conv(n.conv(out=8), 8, group=2)
    first, second = n.Split(x, [4, 4], outputs=2, axis=1)
    n.output(n.Compress(first, [True], axis=0))
    n.read(second)
    _, analysis = analysis_of(n.finished())
    rule = "a rule for Compress (docs/adding-an-operator.md)"
    assert {(c.reason, c.unblock) for c in analysis.causes} >= {
        ("Compress has no rule", rule),
        ("its rows must stay equally wide", rule),
    }
