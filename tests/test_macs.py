"""Multiply-accumulates: each operator that multiplies against a count by hand, and what can't be counted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from nets import PRIMES, Net
from onnx import TensorProto, helper
from test_ops import (
    FUSED,
    LINEAR,
    QUANTISED,
    RECURRENT,
    Row,
    attention,
    build,
    fused,
    given_keys,
    grouped_query,
    qkv,
)

import onnxprune
from onnxprune.cli import run as command
from onnxprune.contracts.selection import keep_best
from onnxprune.cost.macs import macs, uncounted
from onnxprune.cost.model import macs_model
from onnxprune.graph import Graph, Network, infer
from onnxprune.ops import MACS
from onnxprune.reductions.channels import Channels
from onnxprune.reductions.channels.cut import recorded

Shape = tuple[int, ...]
B, S, T, P, N, KV, D, C, V = 2, 3, 5, 4, 6, 2, 8, 10, 30
"""Batch, queries, keys, past, heads, heads of keys, width of a head, width of what is read, of all values."""
H = N * D
NONE = None


@dataclass(frozen=True)
class Case:
    """One node.

    Attributes:
        op: its operator.
        inputs: shapes; `None` for one that is left out.
        outputs: shapes.
        macs: what it costs.
        attrs: its attributes.
    """

    op: str
    inputs: tuple[Shape | None, ...]
    outputs: tuple[Shape, ...]
    macs: int
    attrs: dict[str, Any] = field(default_factory=dict)


def microsoft(op: str, *arguments: Any, **attrs: Any) -> Case:
    return Case(f"com.microsoft:{op}", *arguments, attrs=attrs)


SCORES = B * N * S * T * D
"""Of every head, query and key; as many for the values, where they are as wide."""
MIXED = 7 * 2 * (12 * C + C * 12)
"""Seven tokens go to two experts of width 12."""

BY_HAND = [
    Case("Attention", ((B, N, S, D), (B, N, T, D), (B, N, T, 7)), ((B, N, S, 7),), B * N * S * T * (D + 7)),
    Case(
        "Attention",
        ((B, N, S, D), (B, KV, 1, D), (B, KV, 1, D), NONE, (B, KV, T - 1, D), (B, KV, T - 1, D)),
        ((B, N, S, D),),
        2 * SCORES,
    ),
    Case(
        "Attention",
        ((B, S, H), (B, T, KV * D), (B, T, KV * D)),
        ((B, S, H),),
        2 * SCORES,
        {"q_num_heads": N, "kv_num_heads": KV},
    ),
    Case("Conv", ((B, 4, 9), (6, 2, 3)), ((B, 6, 7),), B * 6 * 7 * 2 * 3, {"group": 2}),
    Case("ConvInteger", ((B, 4, 9), (6, 4, 3)), ((B, 6, 7),), B * 6 * 7 * 4 * 3),
    Case("ConvTranspose", ((B, 4, 9), (4, 3, 2)), ((B, 6, 10),), B * 4 * 9 * 3 * 2, {"group": 2}),
    Case("CausalConvWithState", ((B, 4, 9), (4, 1, 3)), ((B, 4, 9),), B * 4 * 9 * 3),
    Case(
        "DeformConv",
        ((B, 4, 9, 9), (6, 2, 3, 3), (B, 18, 7, 7)),
        ((B, 6, 7, 7),),
        B * 6 * 49 * 2 * 9,
        {"group": 2},
    ),
    Case("Einsum", ((B, S, C), (C, 4)), ((B, S, 4),), B * S * C * 4, {"equation": "bsc,cd->bsd"}),
    Case(
        "GRU", ((T, B, C), (2, 3 * D, C), (2, 3 * D, D)), (), T * B * 2 * 3 * D * (C + D), {"hidden_size": D}
    ),
    Case("Gemm", ((C, B), (C, 4)), ((B, 4),), B * C * 4, {"transA": 1}),
    Case("LSTM", ((T, B, C), (1, 4 * D, C), (1, 4 * D, D)), (), T * B * 4 * D * (C + D), {"hidden_size": D}),
    Case(
        "LinearAttention",
        ((B, T, H), (B, T, KV * D), (B, T, KV * 7)),
        ((B, T, N * 7),),
        B * T * D * 7 * (KV + N),
        {"q_num_heads": N, "kv_num_heads": KV, "update_rule": "gated"},
    ),
    Case("MatMul", ((B, S, C), (C, 4)), ((B, S, 4),), B * S * C * 4),
    Case("MatMulInteger", ((B, S, C), (C, 4)), ((B, S, 4),), B * S * C * 4),
    Case("QLinearConv", ((B, 4, 9), (), (), (6, 4, 3)), ((B, 6, 7),), B * 6 * 7 * 4 * 3),
    Case("QLinearMatMul", ((S, C), (), (), (C, 4)), ((S, 4),), S * C * 4),
    Case("RNN", ((T, B, C), (1, D, C), (1, D, D)), (), T * B * D * (C + D), {"hidden_size": D}),
    Case(
        "ai.onnx.ml:LinearClassifier", ((B, C),), ((B,), (B, 3)), B * C * 3, {"coefficients": [0.5] * C * 3}
    ),
    Case("ai.onnx.ml:LinearRegressor", ((C,),), ((1, 3),), C * 3, {"coefficients": [0.5] * C * 3}),
    Case(
        "ai.onnx.ml:SVMClassifier", ((B, C),), ((B,), (B, 3)), B * C * 4, {"support_vectors": [0.5] * C * 4}
    ),
    Case("ai.onnx.ml:SVMRegressor", ((B, C),), ((B, 1),), B * C * 4, {"support_vectors": [0.5] * C * 4}),
    microsoft(
        "Attention",
        ((B, S, C), (C, 2 * H + V), (2 * H + V,), NONE, (2, B, N, P, D)),
        ((B, S, V),),
        B * S * C * (2 * H + V) + B * S * (S + P) * (H + V),
        num_heads=N,
        qkv_hidden_sizes=[H, H, V],
    ),
    microsoft("CDist", ((S, C), (T, C)), ((S, T),), S * T * C),
    microsoft("ConvTransposeWithDynamicPads", ((B, 4, 9), (4, 3, 2), (2,)), ((B, 3, 10),), B * 4 * 9 * 3 * 2),
    microsoft(
        "DecoderAttention",
        ((S, B, H), (T, B, H), (H, H), (H, 2 * H)),
        ((S, B, H),),
        S * B * H * H + T * B * H * 2 * H + 2 * SCORES,
        num_heads=N,
    ),
    microsoft(
        "DecoderMaskedMultiHeadAttention",
        ((B, 1, H), (B, 1, H), (B, 1, V), NONE, NONE, (B, N, P, D), (B, N, P, 5)),
        ((B, 1, V),),
        B * (P + 1) * (H + V),
        num_heads=N,
    ),
    microsoft(
        "DecoderMaskedSelfAttention",
        ((B, 1, C), (C, 3 * H), (3 * H,), NONE, (2, B, N, P, D)),
        ((B, 1, H), (2, B, N, P + 1, D)),
        B * C * 3 * H + B * (P + 1) * 2 * H,
        num_heads=N,
    ),
    microsoft(
        "DynamicQuantizeLSTM",
        ((T, B, C), (1, C, 4 * D), (1, D, 4 * D)),
        (),
        T * B * 4 * D * (C + D),
        hidden_size=D,
    ),
    microsoft("DynamicQuantizeMatMul", ((B, S, C), (C, 4)), ((B, S, 4),), B * S * C * 4),
    microsoft("FusedConv", ((B, 4, 9), (6, 4, 3)), ((B, 6, 7),), B * 6 * 7 * 4 * 3),
    microsoft("FusedGemm", ((B, C), (C, 4)), ((B, 4),), B * C * 4),
    microsoft("FusedMatMul", ((B, C, S), (C, 4)), ((B, S, 4),), B * S * C * 4, transA=1),
    microsoft("FusedMatMulActivation", ((B, S, C), (C, 4)), ((B, S, 4),), B * S * C * 4),
    microsoft(
        "GatedRelativePositionBias",
        ((B, S, H), (H,), (1, N, S, S), (D, 4)),
        ((B, N, S, S),),
        B * S * N * D * 4,
        num_heads=N,
    ),
    microsoft("GemmFastGelu", ((B, S, C), (C, 4)), ((B, S, 4),), B * S * C * 4),
    microsoft("GemmFloat8", ((C, S), (C, 4)), ((S, 4),), S * C * 4, transA=1),
    microsoft(
        "GroupQueryAttention",
        ((B, S, H), (B, S, KV * D), (B, S, KV * D), (B, KV, P, D), (B, KV, P, D)),
        ((B, S, H),),
        2 * B * N * S * (S + P) * D,
        num_heads=N,
        kv_num_heads=KV,
    ),
    microsoft(
        "GroupQueryAttention",
        ((B, S, (N + 2 * KV) * D),),
        ((B, S, H),),
        2 * B * N * S * S * D,
        num_heads=N,
        kv_num_heads=KV,
    ),
    microsoft(
        "LinearAttention",
        ((B, T, H), (B, T, KV * D), (B, T, KV * 7)),
        ((B, T, N * 7),),
        B * T * D * 7 * (2 * KV + N),
        q_num_heads=N,
        kv_num_heads=KV,
        update_rule="gated_delta",
    ),
    *(
        microsoft(op, ((B, S, C), (40,)), ((B, S, 4),), B * S * C * 4, N=4)
        for op in ("MatMulBnb4", "MatMulFpQ4", "MatMulNBits", "MatMulPacked")
    ),
    microsoft("MatMulInteger16", ((B, S, C), (C, 4)), ((B, S, 4),), B * S * C * 4),
    microsoft("MatMulIntegerToFloat", ((B, S, C), (C, 4), ()), ((B, S, 4),), B * S * C * 4),
    microsoft("MatMulNBitsMlp", ((B, S, C),), ((B, S, 4),), 2 * B * S * C * 4, N=4),
    microsoft(
        "MatMulNBitsQLoRA",
        ((B, S, C), (4, 1, 5), (4, 1), (7, 1, 5), (7, 1)),
        ((B, S, 4),),
        B * S * (C * 4 + C * 7 + 7 * 4),
        N=4,
    ),
    microsoft("MatMulNBitsQkv", ((B, S, C),), ((B, S, 8), (B, S, 4), (B, S, 4)), B * S * C * 16),
    microsoft("MoE", ((7, C), (7, 3), (3, 12, C), NONE, (3, C, 12)), ((7, C),), MIXED, k=2),
    microsoft(
        "MoE",
        ((7, C), (7, 3), (3, 24, C), NONE, (3, C, 12)),
        ((7, C),),
        MIXED + 7 * 2 * 12 * C,
        k=2,
        swiglu_fusion=1,
    ),
    microsoft(
        "MoE",
        ((7, C), (7, 3), (3, 12, C), NONE, (3, C, 12), NONE, (3, 12, C)),
        ((7, C),),
        MIXED + 7 * 2 * 12 * C,
        k=2,
    ),
    microsoft(
        "MultiHeadAttention",
        ((B, S, H), (B, T, H), (B, T, V), NONE, NONE, NONE, (B, N, P, D), (B, N, P, 5)),
        ((B, S, V),),
        B * S * (T + P) * (H + V),
        num_heads=N,
    ),
    microsoft(
        "MultiHeadAttention", ((B, S, H), (B, N, T, D), (B, N, T, D)), ((B, S, H),), 2 * SCORES, num_heads=N
    ),
    microsoft("MultiHeadAttention", ((B, S, H), (B, T, N, 2, D)), ((B, S, H),), 2 * SCORES, num_heads=N),
    microsoft("MultiHeadAttention", ((B, S, N, 3, D),), ((B, S, H),), 2 * B * S * S * H, num_heads=N),
    microsoft("NhwcConv", ((B, 9, 9, 4), (6, 4, 3, 3)), ((B, 7, 7, 6),), B * 49 * 6 * 4 * 9),
    microsoft("NhwcFusedConv", ((B, 9, 9, 4), (6, 2, 3, 3)), ((B, 7, 7, 6),), B * 49 * 6 * 2 * 9, group=2),
    microsoft(
        "PackedAttention",
        ((7, C), (C, 3 * H), (3 * H,), (B, S), (B + 1,)),
        ((7, H),),
        7 * C * 3 * H + 7 * S * 2 * H,
        num_heads=N,
    ),
    microsoft(
        "PackedMultiHeadAttention",
        ((7, H), (7, H), (7, V), NONE, (B, S), (B + 1,)),
        ((7, V),),
        7 * S * (H + V),
        num_heads=N,
    ),
    microsoft("PackedMultiHeadAttention", ((7, N, 3, D), NONE, NONE, NONE, (B, S)), ((7, H),), 7 * S * 2 * H),
    microsoft(
        "QAttention",
        ((B, S, C), (C, 3 * H), (3 * H,), (), (), NONE, (), (), (2, B, N, P, D)),
        ((B, S, H),),
        B * S * C * 3 * H + B * S * (S + P) * 2 * H,
        num_heads=N,
    ),
    microsoft("QGemm", ((S, C), (), (), (4, C), (), ()), ((S, 4),), S * C * 4, transB=1),
    microsoft(
        "QLinearConv", ((B, 9, 4), (), (), (6, 4, 3)), ((B, 7, 6),), B * 7 * 6 * 4 * 3, channels_last=1
    ),
    microsoft(
        "QMoE", ((7, C), (7, 3), (3, 12, C // 2), (3, 12), NONE, (3, C, 6), (3, C)), ((7, C),), MIXED, k=2
    ),
    microsoft(
        "QOrderedAttention",
        ((B, S, C), (), (), (), (), (C, H), (C, H), (C, V)),
        ((B, S, V),),
        B * S * C * (2 * H + V) + B * S * S * (H + V),
        num_heads=N,
    ),
    microsoft("QOrderedMatMul", ((B, S, C), (), (C, 4), (), ()), ((B, S, 4),), B * S * C * 4),
    microsoft("SparseToDenseMatMul", ((S, C), (C, 4)), ((S, 4),), S * C * 4),
    microsoft("TransposeMatMul", ((B, C, S), (C, 4)), ((B, S, 4),), B * S * C * 4, transA=1),
    Case("com.ms.internal.nhwc:Conv", ((B, 9, 9, 4), (6, 4, 3, 3)), ((B, 7, 7, 6),), B * 49 * 6 * 4 * 9),
    Case("com.ms.internal.nhwc:ConvTranspose", ((B, 9, 4), (4, 3, 2)), ((B, 10, 3),), B * 4 * 9 * 3 * 2),
    Case("com.ms.internal.nhwc:QLinearConv", ((B, 9, 4), (), (), (6, 4, 3)), ((B, 7, 6),), B * 7 * 6 * 4 * 3),
]


def graph_of(case: Case, *, silent: bool = False) -> Graph:
    """A graph of this node alone; `silent`: its inputs' shapes are not told."""
    domain, _, kind = case.op.rpartition(":")
    names = ["" if s is None else f"i{k}" for k, s in enumerate(case.inputs)]
    outputs = [f"o{k}" for k in range(len(case.outputs) or 1)]
    node = helper.make_node(kind, names, outputs, domain=domain, **case.attrs)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None if silent else shape)
        for name, shape in zip(names, case.inputs, strict=True)
        if shape is not None
    ]
    values = [
        helper.make_tensor_value_info(o, TensorProto.FLOAT, s)
        for o, s in zip(outputs, case.outputs, strict=False)
    ]
    values = [onnx.ValueInfoProto(name=o) for o in outputs] if silent or not values else values
    graph = helper.make_graph([node], "one", inputs, values)
    opsets = (
        [helper.make_opsetid("", 24), helper.make_opsetid(domain, 1)]
        if domain
        else [helper.make_opsetid("", 27)]
    )
    return Graph(helper.make_model(graph, opset_imports=opsets))


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: f"{case.op} {len(case.inputs)}")
def test_by_hand(case: Case) -> None:
    graph = graph_of(case)
    assert macs(graph, infer(graph)) == {0: case.macs}
    assert uncounted(graph, infer(graph)) == ()


def test_every_operator_is_counted_by_hand() -> None:
    assert sorted(set(MACS) - {case.op for case in BY_HAND}) == []


def test_fused_attention_costs_what_its_parts_do() -> None:
    n = Net("parts")
    n.output(attention(n, 4, 8))
    parts = Graph(n.finished())
    whole = Net("fused")
    q, k, v = qkv(whole)
    whole.output(whole.microsoft("MultiHeadAttention", q, k, v, num_heads=4))
    one = Graph(whole.finished())
    assert sum(macs(parts, infer(parts)).values()) == sum(macs(one, infer(one)).values())


ROWS = [row for row in [*LINEAR, *RECURRENT, *FUSED, *QUANTISED] if row.op in MACS and not row.blocked]
ROWS += [
    Row(
        "com.microsoft:Attention",
        lambda n: fused(n, qkv_hidden_sizes=[32, 32, 12]),
        "values of another width",
    ),
    Row(
        "com.microsoft:GroupQueryAttention",
        lambda n: given_keys(
            n, lambda q, k, v: grouped_query(n, n.Concat(q, k, v, axis=2), num_heads=8, kv_num_heads=1)
        ),
        "packed",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.op} {row.variant}")
def test_what_a_choice_will_cost_is_what_it_costs(row: Row) -> None:
    """Attributes hold old widths until the graph is rewritten."""
    net = build(row, PRIMES, row.opsets[-1])
    graph = Graph(net.finished())
    facts = infer(graph, net.symbols)
    space = Channels().find(Network(graph, net.symbols))
    analysis = space.analysis
    model = macs_model(graph, facts, space.effect)
    assert model.total == sum(macs(graph, facts).values())
    kept = np.ones(analysis.count, bool)
    for group in analysis.groups:
        kept[group.units] = keep_best(group, net.random.random(group.size), group.size // 2)
    pruned, _ = recorded(graph, facts, analysis, kept)
    assert model(space.choice(kept)) == sum(macs(pruned, infer(pruned, net.symbols)).values())


# ---------------------------------------------------------------- what is not counted


@pytest.mark.parametrize(
    "case", [c for c in BY_HAND if c.op != "Gemm"], ids=lambda case: f"{case.op} {len(case.inputs)}"
)
def test_unknown_shapes_are_told(case: Case) -> None:
    graph = graph_of(case, silent=True)
    assert macs(graph, infer(graph)) == {}
    (found,) = uncounted(graph, infer(graph))
    assert str(found) == f"{case.op} (shapes are not known)"


@pytest.mark.parametrize(
    ("op", "told"),
    [
        ("com.microsoft:SparseAttention", True),
        ("com.microsoft:LongformerAttention", True),
        ("somebody.else:Layer", True),
        ("com.microsoft:Inverse", False),
        ("com.microsoft:SkipLayerNormalization", False),
        ("ai.onnx.ml:TreeEnsembleRegressor", False),
        ("STFT", False),
        ("Mul", False),
    ],
)
def test_operators_without_a_count_are_told_if_they_may_multiply(op: str, told: bool) -> None:
    graph = graph_of(Case(op, ((B, S, C), (C, C)), ((B, S, C),), 0))
    assert [str(found) for found in uncounted(graph, infer(graph))] == ([f"{op} (no rule)"] if told else [])


def test_nodes_of_one_operator_are_told_together() -> None:
    nodes = [helper.make_node("Layer", ["x"], [f"y{k}"], domain="else") for k in range(3)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    graph = helper.make_graph(nodes, "three", [x], [onnx.ValueInfoProto(name="y0")])
    model = Graph(helper.make_model(graph))
    assert [str(found) for found in uncounted(model, infer(model))] == [
        "3 \N{MULTIPLICATION SIGN} else:Layer (no rule)"
    ]


@pytest.fixture
def foreign(tmp_path):
    """A model with a layer of a domain that nobody knows."""
    n = Net("foreign", opset=17)
    y = n.node("somebody.else:Layer", n.conv(n.input(1, 3, 8, 8)))
    n._outputs.append(y)
    model = n.model()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    model.opset_import.append(helper.make_opsetid("somebody.else", 1))
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    return path


def test_commands_tell_what_their_macs_leave_out(foreign, capsys, monkeypatch):
    monkeypatch.chdir(foreign.parent)
    monkeypatch.setenv("COLUMNS", "200")
    said = "MACs leave out somebody.else:Layer (no rule)"
    assert command(["inspect", foreign.name]) == 0
    assert said in capsys.readouterr().out
    assert command(["inspect", foreign.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["uncounted"] == ["somebody.else:Layer (no rule)"]
    assert command(["diff", foreign.name, foreign.name]) == 0
    assert f"note: {said}" in capsys.readouterr().out
    (foreign.parent / "onnxprune.toml").write_text(
        '[[check.models]]\npath = "foreign.onnx"\nmacs = "1 GMACs"\n'
    )
    command(["check"])
    assert f"note: {said}" in capsys.readouterr().out


def test_a_budget_of_macs_tells_what_it_leaves_out() -> None:
    n = Net("left out", opset=17)
    x = n.Relu(n.conv(n.input(1, 3, 8, 8), 32))
    rows = n.Compress(n.input(6, 4), n.input(6, feed=np.arange(6) % 2 == 0), axis=0)
    n.output(n.conv(n.Relu(n.conv(x, 32)), 5))
    n.output(n.MatMul(rows, n.weight(4, 3)))
    model = n.model()
    for output in model.graph.output:
        output.type.tensor_type.elem_type = TensorProto.FLOAT
    result = onnxprune.prune(Graph(model), macs=0.6, repair="none", simplify=False, measure_latency=False)
    assert "--macs leaves out MatMul (shapes are not known)" in result.verdict.warnings
