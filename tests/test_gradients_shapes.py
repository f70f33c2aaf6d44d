"""Rules with many attributes against central differences, over shapes and attributes drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nets import Net, run
from slopes import compare

from onnxprune.graph import Graph, infer

RANDOM = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


def sizes(low: int, high: int) -> Any:
    return st.integers(low, high)


@st.composite
def windows(draw: Any, rank: int, low: int = 1) -> dict[str, Any]:
    kernel = [draw(sizes(low, 3)) for _ in range(rank)]
    return {
        "kernel": kernel,
        "strides": [draw(sizes(1, 3)) for _ in range(rank)],
        "dilations": [draw(sizes(1, 2)) for _ in range(rank)],
        "pads": [draw(sizes(0, min(2, k - 1))) for k in kernel * 2],
        "lengths": [draw(sizes(3, 9)) for _ in range(rank)],
    }


def check(net: Net, output: Any, **more: Any) -> None:
    for name in [output] if isinstance(output, str) else output:
        net.output(name)
    compare(net.finished(), net.feeds()[0], net.symbols, **more)


def runs(net: Net, output: str) -> bool:
    """Whether the runtime takes the drawn node, and gives what onnx infers: of some ceilings it does not."""
    model = net.model([output])
    try:
        found = run(model, net.feeds()[0])[0]
    except Exception:  # ONNX Runtime's errors have no base class but this
        return False
    return found.size > 0 and infer(Graph(model), net.symbols).shapes[output] == found.shape


@RANDOM
@given(st.data())
def test_conv(data):
    rank = data.draw(sizes(1, 3))
    w = data.draw(windows(rank))
    group = data.draw(st.sampled_from([1, 1, 2, 3]))
    width, height = data.draw(st.sampled_from([(1, 1), (1, 2), (3, 2), (9, 3), (10, 1)]))
    batch = data.draw(st.sampled_from([2, "batch"]))
    n = Net(f"conv {w} {group} {width} {height}")
    x = n.input(batch, group * width, *w["lengths"])
    y = n.Conv(
        x,
        n.weight(group * height, width, *w["kernel"]),
        n.weight(group * height),
        group=group,
        **{k: w[k] for k in ("strides", "dilations", "pads")},
    )
    assume(runs(n, y))
    check(n, y)


@RANDOM
@given(st.data())
def test_conv_transpose(data):
    rank = data.draw(sizes(1, 2))
    w = data.draw(windows(rank))
    group = data.draw(st.sampled_from([1, 2]))
    padding = [data.draw(sizes(0, max(s, d) - 1)) for s, d in zip(w["strides"], w["dilations"], strict=True)]
    n = Net(f"conv transpose {w} {group} {padding}")
    y = n.ConvTranspose(
        n.input(2, 3 * group, *(min(length, 5) for length in w["lengths"])),
        n.weight(3 * group, 2, *w["kernel"]),
        group=group,
        output_padding=padding,
        **{k: w[k] for k in ("strides", "dilations", "pads")},
    )
    assume(runs(n, y))
    check(n, y)


@RANDOM
@given(st.data())
def test_pools(data):
    w = data.draw(windows(data.draw(sizes(1, 2))))
    op = data.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    opset = data.draw(st.sampled_from([13, 17, 22]))
    more = {"ceil_mode": data.draw(sizes(0, 1))}
    if op == "AveragePool":
        more["count_include_pad"] = data.draw(sizes(0, 1))
    if op == "MaxPool" or opset >= 19:
        more["dilations"] = w["dilations"]
    n = Net(f"{op} {w} {more}", opset=opset)
    shape = (2, 2, *w["lengths"])
    values = (n.random.permutation(int(np.prod(shape))) / 3).reshape(shape).astype(np.float32)
    y = n.node(
        op,
        n.input(*shape, feed=values),
        kernel_shape=w["kernel"],
        strides=w["strides"],
        pads=w["pads"],
        **more,
    )
    assume(runs(n, y))
    check(n, y)


@RANDOM
@given(st.data())
def test_slices(data):
    shape = [data.draw(sizes(1, 6)) for _ in range(data.draw(sizes(1, 3)))]
    axes = data.draw(st.lists(st.sampled_from(range(len(shape))), min_size=1, unique=True))
    starts = [data.draw(sizes(-7, 7)) for _ in axes]
    ends = [data.draw(sizes(-9, 9)) for _ in axes]
    steps = [data.draw(st.sampled_from([-3, -2, -1, 1, 1, 2, 3])) for _ in axes]
    n = Net(f"slice {shape} {axes} {starts} {ends} {steps}")
    y = n.Slice(n.input(*shape), starts, ends, axes, steps)
    assume(runs(n, y))
    check(n, y)


@RANDOM
@given(st.data())
def test_pads(data):
    mode = data.draw(st.sampled_from(["constant", "reflect", "edge", "wrap"]))
    shape = [data.draw(sizes(3, 5)) for _ in range(data.draw(sizes(1, 3)))]
    low = -1 if mode == "constant" else 0
    pads = [data.draw(sizes(low, 2)) for _ in shape * 2]
    n = Net(f"pad {shape} {pads} {mode}", opset=19)
    check(n, n.Pad(n.input(*shape), pads, mode=mode))


@RANDOM
@given(st.data())
def test_gathers(data):
    rank = data.draw(sizes(1, 3))
    shape = [data.draw(sizes(2, 5)) for _ in range(rank)]
    axis = data.draw(sizes(-rank, rank - 1))
    picks = data.draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    opset = data.draw(st.sampled_from([13, 18]))
    n = Net(f"gather {shape} {axis} {picks}", opset=opset)
    indices = n.random.integers(-shape[axis], shape[axis], picks)
    y = n.Gather(n.input(*shape), np.asarray(indices), axis=axis)
    assume(runs(n, y))
    check(n, n.Unsqueeze(y, [0]))


@RANDOM
@given(st.data())
def test_scatters(data):
    shape = [data.draw(sizes(3, 5)) for _ in range(2)]
    axis = data.draw(sizes(0, 1))
    reduction = data.draw(st.sampled_from(["none", "add"]))
    n = Net(f"scatter {shape} {axis} {reduction}", opset=18)
    order = np.argsort(n.random.random(shape), axis=axis)  # every index once along the axis
    y = n.ScatterElements(n.input(*shape), order, n.weight(*shape), axis=axis, reduction=reduction)
    check(n, y)


@RANDOM
@given(st.data())
def test_resizes(data):
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
    place = data.draw(
        st.sampled_from(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel"])
    )
    more = {}
    if mode == "nearest":
        more["nearest_mode"] = data.draw(
            st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
        )
    lengths = [data.draw(sizes(2, 6)) for _ in range(2)]
    n = Net(f"resize {mode} {place} {more} {lengths}", opset=data.draw(st.sampled_from([13, 19])))
    x = n.input(1, 2, *lengths)
    attributes = {"mode": mode, "coordinate_transformation_mode": place, **more}
    if data.draw(st.booleans()):
        scales = [data.draw(st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0, 3.0])) for _ in range(2)]
        y = n.Resize(x, None, np.asarray([1, 1, *scales], np.float32), **attributes)
    else:
        y = n.Resize(x, None, None, [1, 2, *(data.draw(sizes(1, 9)) for _ in range(2))], **attributes)
    assume(runs(n, y))
    check(n, y)


@RANDOM
@given(st.data())
def test_broadcasts(data):
    shape = [data.draw(sizes(1, 4)) for _ in range(data.draw(sizes(1, 4)))]

    def operand() -> list[int]:
        some = [data.draw(st.sampled_from([length, 1])) for length in shape]
        return some[data.draw(sizes(0, len(some) - 1)) :]

    op = data.draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Pow", "Where"]))
    n = Net(f"broadcast {op} {shape}")
    a, b = (n.input(*s, feed=n.positive(*s)) for s in (operand(), operand()))
    if op == "Where":
        condition = n.random.integers(0, 2, operand()) > 0
        y = n.Where(condition, a, b)
    else:
        y = n.node(op, a, b)
    check(n, y, tolerance=5e-3)


@RANDOM
@given(st.data())
def test_products(data):
    batch = [data.draw(sizes(1, 3)) for _ in range(data.draw(sizes(0, 2)))]

    def lead() -> list[int]:
        some = [data.draw(st.sampled_from([length, 1])) for length in batch]
        return some[data.draw(sizes(0, len(some))) :]

    rows, inner, columns = (data.draw(sizes(1, 4)) for _ in range(3))
    left = data.draw(st.sampled_from([[inner], [*lead(), rows, inner]]))
    right = data.draw(st.sampled_from([[inner], [*lead(), inner, columns]]))
    n = Net(f"product {left} {right}")
    y = n.MatMul(n.input(*left), n.weight(*right))
    check(n, n.Unsqueeze(y, [0]))


@RANDOM
@given(st.data())
def test_reductions(data):
    rank = data.draw(sizes(1, 4))
    shape = [data.draw(sizes(1, 4)) for _ in range(rank)]
    axes = data.draw(st.lists(st.sampled_from(range(-rank, rank)), unique_by=lambda a: a % rank))
    op = data.draw(
        st.sampled_from(["Sum", "Mean", "Max", "Min", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"])
    )
    n = Net(f"reduce {op} {shape} {axes}", opset=18)
    x = n.input(*shape, feed=n.positive(*shape))
    y = n.node(f"Reduce{op}", x, *([axes] if axes else []), keepdims=data.draw(sizes(0, 1)))
    check(n, n.Unsqueeze(y, [0]))
