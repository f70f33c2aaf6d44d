"""Graphs that mislead: whatever goes, the result is exact, at widths that tell axes apart and at equal ones.

A trap says what must be left to prune ("some") or that nothing may go; how much is for `test_ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from nets import PRIMES, SQUARE, Dims, Net, run
from onnx import TensorProto, helper
from surgery import check, operate
from test_ops import attention, boolean, flat_attention, fused_attention, reshaped, split_attention

from onnxprune.strategies.widths import Widths

Trap = Callable[[Net], Any]
TRAPS: dict[str, Trap] = {}


def trap(build: Trap) -> Trap:
    TRAPS[build.__name__] = build
    return build


# ---------------------------------------------------------------- shared constants


@trap
def weight_is_an_output(n: Net) -> Any:
    w = n.const(n.weight(n.C, 3, 1, 1))
    n.output(n.Identity(w))
    n.output(w)
    return n.Conv(n.input(n.B, 3, n.H, n.W), w)


@trap
def bias_is_an_output(n: Net) -> Any:
    b = n.const(n.weight(n.C))
    n.output(b)
    return n.Conv(n.input(n.B, 3, n.H, n.W), n.weight(n.C, 3, 1, 1), b)


@trap
def weight_read_without_a_rule(n: Net) -> Any:
    w = n.const(n.weight(n.C, n.C, 1, 1))
    n.output(n.Compress(w, [True, False, True], axis=0))
    return n.Conv(n.conv(), w)


@trap
def weight_read_by_arithmetic_of_its_values(n: Net) -> Any:
    w = n.const(n.weight(n.C, n.C, 1, 1))
    n.output(n.ReduceMean(n.Mul(w, w), axes=[0, 1, 2, 3]) if n.opset < 18 else n.ReduceMean(w))
    return n.Conv(n.conv(), w)


@trap
def weight_in_a_body(n: Net) -> Any:
    w = n.const(n.weight(n.C, n.C))
    x = n.dense()
    body = helper.make_graph(
        [helper.make_node("MatMul", [x, w], ["inner"])],
        "body",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [n.B, n.H, n.C])],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", [x], ["same"])],
        "other",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, [n.B, n.H, n.C])],
    )
    return [
        n.If(n.const(np.asarray(True)), then_branch=body, else_branch=other),
        n.MatMul(n.dense(), w),
    ]


def looped(
    n: Net, state: str, inner: Callable[[str], list[onnx.NodeProto]], *, scans: Sequence[str] = (), kind: str
) -> Any:
    """A Loop or Scan of three turns: `inner` makes "next" of the carried state.

    Both carry `state` and collect it; a Scan also reads the tensors `scans`, a part ("part0" and so on) in
    each turn.
    """
    like = helper.make_tensor_value_info("", TensorProto.FLOAT, n.shape(state))

    def value(name: str, info: onnx.ValueInfoProto = like) -> onnx.ValueInfoProto:
        named = onnx.ValueInfoProto.FromString(info.SerializeToString())
        named.name = name
        return named

    nodes = [*inner("now"), helper.make_node("Identity", ["next"], ["seen"])]
    if kind == "Scan":
        parts = [
            helper.make_tensor_value_info(f"part{k}", TensorProto.FLOAT, n.shape(x)[1:])
            for k, x in enumerate(scans)
        ]
        body = helper.make_graph(nodes, "body", [value("now"), *parts], [value("next"), value("seen")])
        last, every = n.Scan(state, *scans, body=body, num_scan_inputs=len(scans), outputs=2)
    else:
        turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
        goes = helper.make_tensor_value_info("goes", TensorProto.BOOL, [])
        nodes.append(helper.make_node("Identity", ["goes"], ["going"]))
        outs = [value("going", goes), value("next"), value("seen")]
        body = helper.make_graph(nodes, "body", [turn, goes, value("now")], outs)
        last, every = n.Loop(np.asarray(3), n.const(np.asarray(True)), state, body=body, outputs=2)
    n.output(every)
    return last


def plus(*names: str) -> list[onnx.NodeProto]:
    """Nodes that add up tensors to "next"."""
    return [helper.make_node("Sum", names, ["next"])]


@trap
def loop_captures_channels(n: Net) -> Any:
    x, free = n.conv(), n.conv()
    return [looped(n, n.input(n.B, n.C, n.H, n.W), lambda now: plus(now, x), kind="Loop"), free, x]


@trap
def scan_captures_channels(n: Net) -> Any:
    x, free = n.conv(), n.conv()
    steps = n.input(3, n.B, n.C, n.H, n.W)
    state = n.input(n.B, n.C, n.H, n.W)
    return [looped(n, state, lambda now: plus(now, x, "part0"), scans=[steps], kind="Scan"), free, x]


@trap
def loop_carries_channels(n: Net) -> Any:
    return looped(n, n.conv(), lambda now: [helper.make_node("Tanh", [now], ["next"])], kind="Loop")


@trap
def scan_carries_channels(n: Net) -> Any:
    return looped(
        n, n.conv(), lambda now: plus(now, "part0"), scans=[n.input(3, n.B, n.C, n.H, n.W)], kind="Scan"
    )


@trap
def scan_runs_along_channels(n: Net) -> Any:
    x = n.Transpose(n.conv(), perm=[1, 0, 2, 3])
    return looped(n, n.input(n.B, n.H, n.W), lambda now: plus(now, "part0"), scans=[x], kind="Scan")


@trap
def scan_reads_channels_in_parts(n: Net) -> Any:
    x = n.conv()
    return looped(n, n.input(n.C, n.H, n.W), lambda now: plus(now, "part0"), scans=[x], kind="Scan")


def _loop_with_a_weight(n: Net, kind: str) -> Any:
    w = n.const(n.weight(n.C, n.C))
    x = n.dense()
    scans = [n.input(3, n.B, n.H, n.C)] if kind == "Scan" else []
    last = looped(n, x, lambda now: [helper.make_node("MatMul", [now, w], ["next"])], scans=scans, kind=kind)
    return [last, n.MatMul(n.dense(), w)]


@trap
def loop_captures_a_weight(n: Net) -> Any:
    return _loop_with_a_weight(n, "Loop")


@trap
def scan_captures_a_weight(n: Net) -> Any:
    return _loop_with_a_weight(n, "Scan")


@trap
def one_matrix_for_inputs_and_outputs(n: Net) -> Any:
    w = n.const(n.weight(n.C, n.C))
    return n.MatMul(n.Relu(n.MatMul(n.dense(), w)), n.Transpose(w))


@trap
def embedding_tied_to_the_head(n: Net) -> Any:
    w = n.const(n.weight(11, n.C))
    x = n.Gather(w, n.input(n.B, n.H, feed=n.random.integers(0, 11, (n.B, n.H))))
    n.output(n.MatMul(n.Relu(n.dense(n.Relu(x), n.C)), n.Transpose(w)))
    return x


@trap
def one_kernel_grouped_and_plain(n: Net) -> Any:
    w = n.const(n.weight(4, 2, 1, 1))
    grouped = n.Conv(n.conv(out=4), w, group=2)
    return [grouped, n.Conv(n.conv(out=2), w)]


@trap
def taps_of_a_kernel_that_are_channels_elsewhere(n: Net) -> Any:
    w = n.const(n.weight(n.C, n.C, 3))
    return [n.Conv(n.conv(kernel=(1,)), w, pads=[1, 1]), n.MatMul(n.dense(n.input(n.C, 2, 3)), w)]


@trap
def depthwise_kernel_that_also_scales(n: Net) -> Any:
    w = n.const(n.weight(n.C, 1, 1, 1))
    return [n.Conv(n.conv(), w, group=n.C), n.conv(n.Mul(n.conv(), n.Reshape(w, [1, n.C, 1, 1])), 5)]


@trap
def two_recurrent_layers_with_one_bias(n: Net) -> Any:
    h = n.C
    b, state = n.const(n.weight(1, 8 * h)), n.const(n.weight(1, n.B, h))
    x = n.dense(n.input(n.H, n.B, 3))
    made = [
        n.node(
            "LSTM",
            x,
            n.weight(1, 4 * h, n.C),
            n.weight(1, 4 * h, h),
            b,
            None,
            state,
            outputs=2,
            hidden_size=h,
        )[1]
        for _ in "ab"
    ]
    n.output(n.Mul(b, 2.0))
    return [n.Squeeze(m, [0]) if n.opset >= 13 else n.Squeeze(m, axes=[0]) for m in made]


@trap
def parameters_by_name_twice(n: Net) -> Any:
    c = n.const(n.positive(n.C))
    return n.BatchNormalization(n.BatchNormalization(n.conv(), c, c, c, c), c, c, c, c)


@trap
def parameters_that_are_computed(n: Net) -> Any:
    """As exporters write a normalisation without parameters."""
    width = 8 * n.C
    x = n.conv(out=width)
    ones = n.Expand(n.const(np.ones(1, np.float32)), [width])
    zeros = n.ConstantOfShape([width])
    scaled = n.InstanceNormalization(x, n.Mul(ones, n.positive(width)), zeros)
    n.read(scaled)
    return n.Mul(n.Relu(scaled), reshaped(n, ones, width, 1, 1))


@trap
def bias_added_along_another_axis(n: Net) -> Any:
    v = n.const(n.weight(n.W))
    x = n.conv(out=n.W)
    return n.Add(n.Mul(x, v), reshaped(n, v, n.W, 1, 1))


# ---------------------------------------------------------------- the same tensor twice


@trap
def concat_with_itself(n: Net) -> Any:
    x = n.conv()
    return n.conv(n.Concat(x, x, n.Relu(x), axis=1), n.C)


@trap
def added_to_itself_shuffled(n: Net) -> Any:
    x = n.conv()
    return n.Add(x, n.Gather(x, n.random.permutation(n.C), axis=1))


@trap
def split_and_joined_in_another_order(n: Net) -> Any:
    a, b = n.Split(n.conv(out=2 * n.C), [n.C - 1, n.C + 1], outputs=2, axis=1)
    joined = n.Concat(b, a, axis=1)
    return n.Add(joined, n.conv(out=2 * n.C))


@trap
def split_joined_and_added_to_the_whole(n: Net) -> Any:
    x = n.conv(out=2 * n.C)
    a, b = n.Split(x, [n.C, n.C], outputs=2, axis=1)
    return n.Add(n.Concat(b, a, axis=1), x)


@trap
def uneven_halves_added_to_the_whole(n: Net) -> Any:
    x = n.conv(out=2 * n.C)
    a, b = n.Split(x, [n.C - 1, n.C + 1], outputs=2, axis=1)
    return n.Add(n.Concat(b, a, axis=1), x)


@trap
def overlapping_slices(n: Net) -> Any:
    x = n.conv(out=6)
    return n.Mul(n.Slice(x, [0], [4], [1]), n.Slice(x, [2], [6], [1]))


@trap
def slice_and_whole(n: Net) -> Any:
    x = n.conv(out=6)
    return [n.Slice(x, [1], [5], [1]), x, n.Slice(x, [5], [6], [1])]


@trap
def gathered_twice(n: Net) -> Any:
    x = n.conv(out=6)
    a = n.Gather(x, [0, 0, 5, 2, 2, 1], axis=1)
    return n.Add(n.Gather(a, [5, 4, 3, 2, 1, 0], axis=1), x)


@trap
def repeated_channels_normalised(n: Net) -> Any:
    x = n.Gather(n.conv(), [0, 0, 1, 1, 2, 2, 3, 3], axis=1)
    return n.BatchNormalization(x, *(n.positive(8) for _ in range(4)))


@trap
def product_with_itself(n: Net) -> Any:
    x = n.dense()
    return n.MatMul(x, n.Transpose(x, perm=[0, 2, 1]))


@trap
def gram_matrix(n: Net) -> Any:
    x = reshaped(n, n.conv(), n.B, n.C, n.H * n.W)
    return n.MatMul(x, n.Transpose(x, perm=[0, 2, 1]))


@trap
def gram_matrix_flattened(n: Net) -> Any:
    x = reshaped(n, n.conv(), n.B, n.C, n.H * n.W)
    return reshaped(n, n.MatMul(x, n.Transpose(x, perm=[0, 2, 1])), n.B, n.C * n.C)


@trap
def outer_product(n: Net) -> Any:
    a, b = n.gemm(out=4), n.gemm(out=6)
    return reshaped(n, n.Mul(n.Unsqueeze(a, [2]), n.Unsqueeze(b, [1])), n.B, 24)


@trap
def outer_product_with_itself(n: Net) -> Any:
    a = n.gemm(out=4)
    return reshaped(n, n.Mul(n.Unsqueeze(a, [2]), n.Unsqueeze(a, [1])), n.B, 16)


# ---------------------------------------------------------------- shapes


@trap
def two_reshapes_of_one_tensor(n: Net) -> Any:
    x = n.conv(out=12)
    flat = reshaped(n, x, n.B, -1)
    rows = reshaped(n, x, n.B, 3, 4 * n.H * n.W)
    columns = reshaped(n, x, n.B, 4, 3 * n.H * n.W)
    return [flat, n.Relu(rows), n.Tanh(columns)]


@trap
def grid_of_three_meets_grid_of_four(n: Net) -> Any:
    x = n.conv(out=12)
    a = n.Transpose(reshaped(n, x, n.B, 3, 4, n.H, n.W), perm=[0, 2, 1, 3, 4])
    b = n.Transpose(reshaped(n, x, n.B, 4, 3, n.H, n.W), perm=[0, 2, 1, 3, 4])
    return n.Add(reshaped(n, a, n.B, 12, n.H, n.W), reshaped(n, b, n.B, 12, n.H, n.W))


@trap
def channels_merge_with_batch(n: Net) -> Any:
    x = n.conv(out=4)
    return n.conv(reshaped(n, x, n.B * 4, 1, n.H, n.W), 5, kernel=(2, 2))


@trap
def channels_merge_with_batch_and_part(n: Net) -> Any:
    x = n.conv(out=4)
    y = n.Relu(reshaped(n, x, n.B * 4, 1, n.H, n.W))
    return reshaped(n, y, n.B, 4, n.H, n.W)


@trap
def space_into_channels(n: Net) -> Any:
    return reshaped(n, n.conv(out=4), n.B, 4 * n.H, n.W, 1)


@trap
def channel_vector_on_the_width_axis(n: Net) -> Any:
    return n.Mul(n.conv(out=n.W), n.weight(n.W))


@trap
def mean_over_another_axis_scales_channels(n: Net) -> Any:
    x = n.conv(out=n.W)
    pooled = n.ReduceMean(x, axes=[1, 2], keepdims=0) if n.opset < 18 else n.ReduceMean(x, [1, 2], keepdims=0)
    return (
        n.Mul(x, n.Unsqueeze(pooled, [2, 3])) if n.opset >= 13 else n.Mul(x, n.Unsqueeze(pooled, axes=[2, 3]))
    )


@trap
def transposed_square(n: Net) -> Any:
    x = n.conv(out=n.H)
    return n.Add(x, n.Transpose(x, perm=[0, 2, 1, 3]))


@trap
def flattened_and_added_to_space(n: Net) -> Any:
    x = n.conv()
    gates = n.gemm(n.Flatten(x), n.C)
    return n.Mul(x, reshaped(n, gates, n.B, n.C, 1, 1))


@trap
def shape_of_channels_divides(n: Net) -> Any:
    x = n.conv()
    return n.Div(x, n.Cast(n.Gather(n.Shape(x), 1), to=TensorProto.FLOAT))


@trap
def shape_of_channels_makes_numbers(n: Net) -> Any:
    x = n.conv()
    return (
        n.Add(x, n.Cast(n.Range(0, n.Gather(n.Shape(x), 2), 1), to=TensorProto.FLOAT))
        if n.H == n.W
        else n.Add(x, n.Cast(n.Gather(n.Shape(x), 1), to=TensorProto.FLOAT))
    )


@trap
def counts_of_channels_along_channels(n: Net) -> Any:
    x = n.dense()
    ramp = n.Cast(n.Range(0, n.Gather(n.Shape(x), 2), 1), to=TensorProto.FLOAT)
    return n.Mul(x, ramp)


@trap
def tiled_channels_meet_repeated_ones(n: Net) -> Any:
    x = n.conv(out=4)
    tiled = n.Tile(x, [1, 2, 1, 1])
    repeated = n.Gather(x, [0, 0, 1, 1, 2, 2, 3, 3], axis=1)
    return n.Add(tiled, repeated)


@trap
def one_channel_expanded(n: Net) -> Any:
    a, b = n.Split(n.conv(out=5), [1, 4], outputs=2, axis=1)
    return n.Mul(n.Expand(a, [1, 4, 1, 1]), b)


@trap
def one_channel_tiled_and_reshaped(n: Net) -> Any:
    a, b = n.Split(n.conv(out=5), [1, 4], outputs=2, axis=1)
    tiled = reshaped(n, n.Tile(a, [1, 4, 1, 1]), n.B, 4, n.H * n.W)
    return n.Concat(tiled, reshaped(n, b, n.B, 4, n.H * n.W), axis=1)


# ---------------------------------------------------------------- operators in odd places


@trap
def where_with_channel_conditions(n: Net) -> Any:
    return n.Where(n.Greater(n.weight(n.C, 1, 1), 0.0), n.conv(), n.weight(1, n.C, 1, 1))


@trap
def where_with_a_computed_condition(n: Net) -> Any:
    return n.Where(boolean(n, n.conv(out=1)), n.conv(), n.conv())


@trap
def slopes_by_position(n: Net) -> Any:
    return n.PRelu(n.conv(), n.weight(n.H, n.W))


@trap
def limits_computed_from_channels(n: Net) -> Any:
    x = n.conv()
    top = n.ReduceMax(x, keepdims=0) if n.opset >= 18 else n.ReduceMax(x, keepdims=0, axes=[0, 1, 2, 3])
    return n.Clip(n.conv(), None, top)


@trap
def maximum_over_concatenated_copies(n: Net) -> Any:
    x = n.conv()
    return n.Max(x, n.Concat(*n.Split(x, [1, n.C - 1], outputs=2, axis=1), axis=1))


@trap
def softmax_over_channels_then_sum(n: Net) -> Any:
    x = n.conv()
    return n.Mul(n.Softmax(n.conv(x, n.C), axis=1), x)


@trap
def head_count_equals_width(n: Net) -> Any:
    return attention(n, 4, 4)


@trap
def layer_norm_of_a_transposed_square(n: Net) -> Any:
    x = n.dense(out=n.H)
    if n.opset < 17:
        return n.LpNormalization(n.Transpose(x, perm=[0, 2, 1]), axis=-1)
    return n.LayerNormalization(n.Transpose(x, perm=[0, 2, 1]), n.positive(n.H), n.weight(n.H))


@trap
def pad_before_split(n: Net) -> Any:
    x = n.Pad(n.conv(out=6), [0, 1, 0, 0, 0, 1, 0, 0])
    return n.Mul(*n.Split(x, [4, 4], outputs=2, axis=1))


@trap
def reversed_and_interleaved(n: Net) -> Any:
    x = n.conv(out=4)
    y = n.Slice(x, [-1], [-(2**63)], [1], [-1])
    both = n.Transpose(n.Concat(n.Unsqueeze(x, [1]), n.Unsqueeze(y, [1]), axis=1), perm=[0, 2, 1, 3, 4])
    return reshaped(n, both, n.B, 8, n.H, n.W)


@trap
def strided_halves(n: Net) -> Any:
    x = n.conv(out=8)
    even, odd = (n.Slice(x, [k], [8], [1], [2]) for k in (0, 1))
    return n.Mul(even, odd)


@trap
def shuffled_halves_into_groups(n: Net) -> Any:
    x = n.conv(n.conv(out=8), 8, group=2)
    y = reshaped(n, n.Transpose(reshaped(n, x, n.B, 2, 4, n.H, n.W), perm=[0, 2, 1, 3, 4]), n.B, 8, n.H, n.W)
    a, b = n.Split(y, [4, 4], outputs=2, axis=1)
    return n.Concat(n.conv(a, 4, group=2), b, axis=1)


@trap
def groups_of_another_number(n: Net) -> Any:
    return n.conv(n.conv(n.conv(out=12), 12, group=3), 12, group=4)


@trap
def depthwise_of_a_concat(n: Net) -> Any:
    x = n.Concat(n.conv(), n.conv(out=3), axis=1)
    return n.conv(x, n.C + 3, group=n.C + 3)


@trap
def groups_across_a_concat(n: Net) -> Any:
    x = n.Concat(n.conv(out=3), n.conv(out=5), axis=1)
    return n.conv(x, 8, group=2)


@trap
def groups_across_an_input(n: Net) -> Any:
    x = n.Concat(n.conv(out=4), n.input(n.B, 4, n.H, n.W), axis=1)
    return n.conv(x, 8, group=4)


@trap
def transposed_kernel_of_activations(n: Net) -> Any:
    return n.Conv(n.conv(), n.Transpose(n.weight(n.C, 5, 1, 1), perm=[1, 0, 2, 3]))


@trap
def weight_from_a_shared_table(n: Net) -> Any:
    table = n.const(n.weight(2, n.C, n.C))
    return n.MatMul(n.MatMul(n.dense(), n.Gather(table, 0)), n.Gather(table, 1))


@trap
def weight_split_in_three(n: Net) -> Any:
    q, k, v = n.Split(n.weight(n.C, 3 * n.C), [n.C] * 3, outputs=3, axis=1)
    x = n.dense()
    return n.Mul(n.MatMul(x, q), n.Sigmoid(n.Add(n.MatMul(x, k), n.MatMul(x, v))))


@pytest.mark.parametrize(("granularity", "rows"), [("head", False), ("width", True), ("auto", False)])
def test_heads_or_their_width(granularity: Any, rows: bool) -> None:
    """Heads are units of their own; their width goes as equally many entries of each."""
    net = Net("heads", SQUARE)
    net.read(attention(net, 4, 4))
    surgery = operate(net.finished(), granularity=granularity)
    assert surgery.removed
    assert any(group.lanes for group in surgery.analysis.groups) == rows
    check(surgery, net.feeds()[0])


@pytest.mark.parametrize("make", [attention, fused_attention, split_attention, flat_attention])
def test_a_head_is_as_wide_as_kernels_like(make: Any) -> None:
    """Widths that kernels like are of channels: 12 heads of 8 may lose one, 12 channels keep to fours."""
    net = Net("span", SQUARE)
    net.read(net.dense(make(net, 12, 8), 12))
    found = operate(net.finished()).analysis.groups
    assert [Widths(8, strict=False).of(group) for group in found] == [1, 4]
    assert [Widths(8).of(group) for group in found] == [8, 8]


def test_recorded_shapes_of_constants_follow() -> None:
    net = Net("recorded")
    net.read(net.conv(net.conv()))
    model = net.finished()
    for tensor in model.graph.initializer:
        model.graph.value_info.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    surgery = operate(model)
    assert surgery.removed
    check(surgery, net.feeds()[0])


def rows_of_heads(n: Net) -> str:
    """Heads beside a symbolic batch, in a product that is computed; what is left over is inferred."""
    x = n.input("batch", 3, n.H, n.W)
    batch = n.Unsqueeze(n.Gather(n.Shape(x), 0), [0])
    y = n.Reshape(n.conv(x, 4 * n.C), n.Concat(n.Mul(batch, [4]), [n.C], [-1], axis=0))
    y = n.MatMul(n.MatMul(y, n.Transpose(y, perm=[0, 2, 1])), y)
    return str(n.Reshape(y, n.Concat(batch, [4 * n.C], [n.H], [n.W], axis=0)))


@pytest.mark.parametrize("dims", [PRIMES, SQUARE])
def test_a_batch_of_another_size(dims: Dims) -> None:
    net = Net("rows", dims)
    net.read(rows_of_heads(net))
    surgery = operate(net.finished(), dims=net.symbols)
    assert surgery.removed
    small, large = net.feeds()
    check(surgery, small)
    (once,), (twice,) = (run(surgery.pruned.model, feeds) for feeds in (small, large))
    np.testing.assert_allclose(twice, np.concatenate([once, once[::-1]]), atol=1e-5)


def cases() -> list[Any]:
    return [
        pytest.param(build, dims, opset, id=f"{name}-{opset}-{'square' if dims is SQUARE else 'primes'}")
        for name, build in TRAPS.items()
        for dims, opset in ((PRIMES, 13), (SQUARE, 21))
    ]


@pytest.mark.parametrize(("build", "dims", "opset"), cases())
def test_traps(build: Trap, dims: Dims, opset: int) -> None:
    net = Net(build.__name__, dims, opset)
    results = build(net)
    for result in [results] if isinstance(results, str) else results:
        net.read(result)
    model = net.finished()
    onnx.checker.check_model(model)
    for seed, share in enumerate((0.5, 0.3, None)):
        surgery = operate(model, seed=seed, share=share)
        for feeds in net.feeds():
            check(surgery, feeds)
