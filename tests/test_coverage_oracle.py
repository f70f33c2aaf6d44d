"""The judge of tools/coverage.py, on models pruned by hand: right ones pass, every kind of mistake is caught.

A case is a list of nodes and weights, and what is kept along each axis of each weight. The negative tests
spoil one weight of a case at a time: another slice, another order, another value.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


oracle = load_tool("oracle")
coverage = load_tool("coverage")

rng = np.random.default_rng(7)
START = rng.bit_generator.state
Keep = tuple[Sequence[int] | slice, ...]


def weight(*shape: int) -> np.ndarray:
    """Random values; the fan-in hardly matters in graphs this small."""
    return rng.standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    outs = outputs.split()
    return helper.make_node(op, inputs.split(), outs, name=f"{op}_{outs[0]}", **attributes)


@dataclass
class Case:
    """A graph, its weights, and the same pruned by hand. `pruned_nodes` differ only in attributes."""

    nodes: list[onnx.NodeProto]
    weights: dict[str, np.ndarray]
    keep: dict[str, Keep] = field(default_factory=dict)
    shape: tuple[int, ...] = (2, 3, 7, 7)
    pruned_nodes: list[onnx.NodeProto] | None = None
    replaced: dict[str, np.ndarray] = field(default_factory=dict)
    mask: str = "consumers"

    def sliced(self) -> dict[str, np.ndarray]:
        result = dict(self.weights)
        for name, axes in self.keep.items():
            result[name] = cut(self.weights[name], axes)
        return result | self.replaced

    def model(self, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        tensors = [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in weights.items()]
        graph = helper.make_graph(nodes, "case", [x], [y], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        model = onnx.shape_inference.infer_shapes(model)
        del model.graph.value_info[:]
        return model

    def judge(self, folder: Path, weights: dict[str, np.ndarray] | None = None) -> Any:
        onnx.save(self.model(self.nodes, self.weights), folder / "original.onnx")
        pruned = self.model(self.pruned_nodes or self.nodes, weights or self.sliced())
        onnx.save(pruned, folder / "pruned.onnx")
        feed = {"x": {"shape": list(self.shape), "dtype": "float32"}}
        return oracle.judge(str(folder / "original.onnx"), str(folder / "pruned.onnx"), feed)


def cut(a: np.ndarray, axes: Keep) -> np.ndarray:
    lists = [
        np.arange(n)[list(k) if not isinstance(k, slice) else k] for n, k in zip(a.shape, axes, strict=False)
    ]
    return a[np.ix_(*lists)]


ALL = slice(None)
A, B = [0, 2, 3, 6], [1, 2, 5]


def norm(prefix: str, channels: int) -> dict[str, np.ndarray]:
    values = {f"{prefix}{part}": weight(channels) for part in "sbm"}
    return values | {f"{prefix}v": np.exp(0.2 * weight(channels))}


def conv_bn_relu_conv() -> Case:
    nodes = [
        node("Conv", "x w1", "a"),
        node("BatchNormalization", "a ns nb nm nv", "b"),
        node("Sigmoid", "b", "c"),
        node("Conv", "c w2 b2", "y"),
    ]
    weights = {"w1": weight(8, 3, 3, 3), "w2": weight(5, 8, 3, 3), "b2": weight(5)} | norm("n", 8)
    keep: dict[str, Keep] = {"w1": (A,), "w2": (ALL, A)} | {f"n{part}": (A,) for part in "sbmv"}
    return Case(nodes, weights, keep)


def reordered() -> Case:
    case = conv_bn_relu_conv()
    back = A[::-1]
    case.keep = {"w1": (back,), "w2": (ALL, back)} | {f"n{part}": (back,) for part in "sbmv"}
    return case


def residual() -> Case:
    nodes = [
        node("Conv", "x w1 b1", "a", pads=[1] * 4),
        node("Conv", "a w2", "b", pads=[1] * 4),
        node("Relu", "b", "c"),
        node("Conv", "c w3", "d", pads=[1] * 4),
        node("Add", "a d", "e"),
        node("GlobalAveragePool", "e", "f"),
        node("Flatten", "f", "g"),
        node("Gemm", "g w4 b4", "y", transB=1),
    ]
    weights = {
        "w1": weight(8, 3, 3, 3), "b1": weight(8), "w2": weight(6, 8, 3, 3), "w3": weight(8, 6, 3, 3),
        "w4": weight(10, 8), "b4": weight(10),
    }  # fmt: skip
    keep: dict[str, Keep] = {"w1": (A,), "b1": (A,), "w2": (B, A), "w3": (A, B), "w4": (ALL, A)}
    return Case(nodes, weights, keep)


def depthwise() -> Case:
    def nodes(group: int) -> list[onnx.NodeProto]:
        return [
            node("Conv", "x w1", "a"),
            node("Clip", "a lo hi", "b"),
            node("Conv", "b w2 b2", "c", group=group),
            node("Relu", "c", "d"),
            node("Conv", "d w3", "y"),
        ]

    limits = {"lo": np.float32(0).reshape(()), "hi": np.float32(6).reshape(())}
    weights = {
        "w1": weight(8, 3, 1, 1),
        "w2": weight(16, 1, 3, 3),
        "b2": weight(16),
        "w3": weight(4, 16, 1, 1),
    }
    twice = [k for c in A for k in (2 * c, 2 * c + 1)]
    keep: dict[str, Keep] = {"w1": (A,), "w2": (twice,), "b2": (twice,), "w3": (ALL, twice)}
    return Case(nodes(8), weights | limits, keep, pruned_nodes=nodes(4))


def grouped_uneven() -> Case:
    """Groups of four inputs and three outputs; each keeps positions of its own."""
    nodes = [
        node("Conv", "x w1", "a"),
        node("Conv", "a w2", "b", group=2),
        node("Conv", "b w3", "y"),
    ]
    weights = {"w1": weight(8, 3, 1, 1), "w2": weight(6, 4, 3, 3), "w3": weight(4, 6, 1, 1)}
    inputs, outputs = ([0, 3], [1, 2]), ([0, 1], [1, 2])
    taken = [cut(weights["w2"], ([3 * g + o for o in outputs[g]], inputs[g])) for g in (0, 1)]
    keep: dict[str, Keep] = {"w1": ([0, 3, 5, 6],), "w3": (ALL, [0, 1, 4, 5])}
    return Case(nodes, weights, keep, replaced={"w2": np.concatenate(taken)})


def whole_groups() -> Case:
    def nodes(group: int) -> list[onnx.NodeProto]:
        return [node("Conv", "x w1", "a"), node("Conv", "a w2", "b", group=group), node("Conv", "b w3", "y")]

    weights = {"w1": weight(8, 3, 1, 1), "w2": weight(12, 2, 3, 3), "w3": weight(4, 12, 1, 1)}
    keep: dict[str, Keep] = {"w1": ([4, 5],), "w2": ([6, 7, 8],), "w3": (ALL, [6, 7, 8])}
    return Case(nodes(4), weights, keep, pruned_nodes=nodes(1))


def transposed_conv() -> Case:
    nodes = [
        node("Conv", "x w1", "a"),
        node("ConvTranspose", "a w2 b2", "b", strides=[2, 2], group=2),
        node("LeakyRelu", "b", "c"),
        node("Conv", "c w3", "y"),
    ]
    weights = {"w1": weight(8, 3, 1, 1), "w2": weight(8, 3, 2, 2), "b2": weight(6), "w3": weight(4, 6, 1, 1)}
    inputs, outputs = ([0, 3], [1, 2]), ([0, 1], [1, 2])
    taken = [cut(weights["w2"], ([4 * g + i for i in inputs[g]], outputs[g])) for g in (0, 1)]
    left = [0, 1, 4, 5]
    keep: dict[str, Keep] = {"w1": ([0, 3, 5, 6],), "b2": (left,), "w3": (ALL, left)}
    return Case(nodes, weights, keep, replaced={"w2": np.concatenate(taken)})


def concat() -> Case:
    nodes = [
        node("Conv", "x w1", "a"),
        node("Conv", "x w2", "b"),
        node("Concat", "a b", "c", axis=1),
        node("BatchNormalization", "c ns nb nm nv", "d"),
        node("Conv", "d w3", "y"),
    ]
    weights = {"w1": weight(8, 3, 1, 1), "w2": weight(6, 3, 1, 1), "w3": weight(4, 14, 3, 3)} | norm("n", 14)
    both = A + [8 + k for k in B]
    keep: dict[str, Keep] = {"w1": (A,), "w2": (B,), "w3": (ALL, both)} | {
        f"n{part}": (both,) for part in "sbmv"
    }
    return Case(nodes, weights, keep)


def shuffle() -> Case:
    """Channel shuffle of two groups of four, each keeping other positions."""
    nodes = [
        node("Conv", "x w1", "a"),
        node("Reshape", "a split", "b"),
        node("Transpose", "b", "c", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "c merge", "d"),
        node("Conv", "d w2", "y"),
    ]
    weights = {"w1": weight(8, 3, 1, 1), "w2": weight(4, 8, 1, 1)}
    shapes = {"split": np.array([0, 2, 4, 7, 7]), "merge": np.array([0, 8, 7, 7])}
    # output channel 2 * position + group
    keep: dict[str, Keep] = {"w1": ([0, 3, 5, 6],), "w2": (ALL, [0, 3, 6, 5])}
    replaced = {"split": np.array([0, 2, 2, 7, 7]), "merge": np.array([0, 4, 7, 7])}
    return Case(nodes, weights | shapes, keep, replaced=replaced)


def flatten_gemm() -> Case:
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Relu", "a", "b"),
        node("Flatten", "b", "c"),
        node("Gemm", "c w2", "y"),
    ]
    weights = {"w1": weight(8, 3, 3, 3), "b1": weight(8), "w2": weight(200, 10)}
    rows = [c * 25 + k for c in A for k in range(25)]
    return Case(nodes, weights, {"w1": (A,), "b1": (A,), "w2": (rows,)})


def attention(kept_heads: Sequence[int], kept_width: Sequence[int], width: int = 6) -> Case:
    """Four heads of six; query, key and value come from one MatMul. `kept_width` is of query and key."""
    nodes = [
        node("MatMul", "x qkv", "m"),
        node("Add", "m qkvb", "a"),
        node("Split", "a parts", "q0 k0 v0", axis=2),
        node("Reshape", "q0 heads", "q1"),
        node("Reshape", "k0 heads", "k1"),
        node("Reshape", "v0 vheads", "v1"),
        node("Transpose", "q1", "q", perm=[0, 2, 1, 3]),
        node("Transpose", "k1", "k", perm=[0, 2, 3, 1]),
        node("Transpose", "v1", "v", perm=[0, 2, 1, 3]),
        node("MatMul", "q k", "s"),
        node("Mul", "s scale", "t"),
        node("Softmax", "t", "p", axis=-1),
        node("MatMul", "p v", "o0"),
        node("Transpose", "o0", "o1", perm=[0, 2, 1, 3]),
        node("Reshape", "o1 flat", "o"),
        node("MatMul", "o proj", "z"),
        node("Add", "z projb", "y"),
    ]
    heads, full = len(kept_heads), 4 * width
    weights = {
        "qkv": 0.3 * weight(10, 3 * full), "qkvb": weight(3 * full), "proj": weight(full, 10),
        "projb": weight(10), "scale": np.float32(0.4).reshape(()), "parts": np.array([full] * 3),
        "heads": np.array([0, 0, 4, width]), "vheads": np.array([0, 0, 4, width]),
        "flat": np.array([0, 0, full]),
    }  # fmt: skip
    qk = [width * h + d for h in kept_heads for d in kept_width]
    v = [width * h + d for h in kept_heads for d in range(width)]
    columns = [*qk, *(full + c for c in qk), *(2 * full + c for c in v)]
    keep: dict[str, Keep] = {"qkv": (ALL, columns), "qkvb": (columns,), "proj": (v,)}
    if heads == 4:
        del keep["proj"]
    replaced = {
        "parts": np.array([len(qk), len(qk), len(v)]), "heads": np.array([0, 0, heads, len(kept_width)]),
        "vheads": np.array([0, 0, heads, width]), "flat": np.array([0, 0, len(v)]),
    }  # fmt: skip
    return Case(nodes, weights, keep, (2, 5, 10), replaced=replaced)


def attention_heads() -> Case:
    return attention((1, 3), range(6))


def attention_width() -> Case:
    """Query times key has no consumer weight: only zero producers drop its terms."""
    case = attention(range(4), (0, 1, 4))
    case.mask = "producers"
    return case


def lstm() -> Case:
    """Two directions of seven units, each keeping other ones, then a Gemm on the last step."""

    def nodes(hidden: int) -> list[onnx.NodeProto]:
        return [
            node("LSTM", "x w r b", "h", hidden_size=hidden, direction="bidirectional"),
            node("Transpose", "h", "t", perm=[0, 2, 1, 3]),
            node("Reshape", "t shape", "f"),
            node("MatMul", "f out", "y"),
        ]

    units = ([0, 2, 3, 6], [1, 2, 4, 5])
    weights = {"w": weight(2, 28, 3), "r": weight(2, 28, 7), "b": weight(2, 56), "out": weight(14, 5)}
    gates = [[7 * g + u for g in range(4) for u in kept] for kept in units]
    biases = [[28 * half + k for half in (0, 1) for k in rows] for rows in gates]
    replaced = {
        "w": np.stack([weights["w"][d][gates[d]] for d in (0, 1)]),
        "r": np.stack([weights["r"][d][np.ix_(gates[d], units[d])] for d in (0, 1)]),
        "b": np.stack([weights["b"][d][biases[d]] for d in (0, 1)]),
        "shape": np.array([0, 0, 8]),
    }
    out = [*units[0], *(7 + u for u in units[1])]
    shape = {"shape": np.array([0, 0, 14])}
    return Case(nodes(7), weights | shape, {"out": (out,)}, (6, 2, 3), nodes(4), replaced)


def through_transpose() -> Case:
    """Weights behind Transpose and Identity; what the original shares is two tensors in the pruned file."""

    def nodes(own: str) -> list[onnx.NodeProto]:
        return [
            node("Transpose", "w1t", "w1", perm=[1, 0]),
            node("MatMul", "x w1", "a"),
            node("Identity", "shared", "b1"),
            node("Add", "a b1", "b"),
            node("Relu", "b", "c"),
            node("MatMul", "c w2", "d"),
            node("Identity", own, "b2"),
            node("Add", "d b2", "e"),
            node("Relu", "e", "f"),
            node("MatMul", "f w3", "y"),
        ]

    weights = {"w1t": weight(8, 6), "shared": weight(8), "w2": weight(8, 8), "w3": weight(8, 4)}
    keep: dict[str, Keep] = {"w1t": (A,), "shared": (A,), "w2": (A, B), "w3": (B,)}
    own = {"own": weights["shared"][B]}
    return Case(nodes("shared"), weights, keep, (3, 6), nodes("own"), own)


def quantised() -> Case:
    """8-bit weights with a scale per output channel, and one without, recovered by hints from the others."""
    nodes = [
        node("DequantizeLinear", "w1 s1 z1", "w1f", axis=0),
        node("DequantizeLinear", "w2 s2", "w2f"),
        node("Gemm", "x w1f", "a", transB=1),
        node("Relu", "a", "b"),
        node("Gemm", "b w2f b2", "c"),
        node("Relu", "c", "d"),
        node("Gemm", "d w3", "y"),
    ]
    keep1, keep2 = sorted(rng.permutation(64)[:32].tolist()), sorted(rng.permutation(48)[:24].tolist())
    weights = {
        "w1": rng.integers(-128, 128, (64, 6)).astype(np.int8), "s1": np.exp(weight(64)) / 100,
        "z1": rng.integers(-5, 5, 64).astype(np.int8), "s2": np.float32(0.01).reshape(()),
        "w2": rng.integers(-128, 128, (64, 48)).astype(np.int8), "b2": weight(48), "w3": weight(48, 4),
    }  # fmt: skip
    keep: dict[str, Keep] = {"w1": (keep1,), "s1": (keep1,), "z1": (keep1,), "w2": (keep1, keep2)}
    return Case(nodes, weights, keep | {"b2": (keep2,), "w3": (keep2,)}, (3, 6))


def einsum() -> Case:
    nodes = [
        node("Einsum", "x w1", "a", equation="bi,hio->bho"),
        node("Einsum", "a w2", "y", equation="bho,hoc->bc"),
    ]
    weights = {"w1": weight(3, 5, 6), "w2": weight(3, 6, 4)}
    own = ([0, 2, 5], [1, 2, 3], [0, 3, 4])
    replaced = {
        "w1": np.stack([weights["w1"][h][:, own[h]] for h in range(3)]),
        "w2": np.stack([weights["w2"][h][own[h]] for h in range(3)]),
    }
    return Case(nodes, weights, shape=(2, 5), replaced=replaced)


MAKERS = [
    conv_bn_relu_conv, reordered, residual, depthwise, grouped_uneven, whole_groups, transposed_conv, concat,
    shuffle, flatten_gemm, attention_heads, attention_width, lstm, through_transpose, quantised, einsum,
]  # fmt: skip
NAMES = [make.__name__ for make in MAKERS]


def build(name: str) -> Case:
    """The case of this name; the same values every time."""
    rng.bit_generator.state = START
    return MAKERS[NAMES.index(name)]()


def float_weights(kind: Literal["keep", "replaced"]) -> list[tuple[str, str]]:
    """(case, weight) of all the sliced floats."""
    pairs = [(name, weight) for name in NAMES for weight in getattr(build(name), kind)]
    return [(name, weight) for name, weight in pairs if build(name).sliced()[weight].dtype == np.float32]


KEPT, REPLACED = float_weights("keep"), float_weights("replaced")


@pytest.mark.parametrize("name", NAMES)
def test_right_surgery_is_exact(name, tmp_path):
    case = build(name)
    verdict = case.judge(tmp_path)
    assert verdict.status == "exact", verdict
    assert verdict.mask == case.mask
    assert verdict.effect > 1e-2, "removing channels must matter, or the case proves nothing"
    assert verdict.params[1] < verdict.params[0]
    assert 0 < verdict.macs[1] < verdict.macs[0]


@pytest.mark.parametrize(("name", "spoiled"), KEPT + REPLACED)
def test_one_altered_weight_is_caught(name, spoiled, tmp_path):
    """Values that are not a selection of the original's are refused, however small the change."""
    case = build(name)
    weights = case.sliced()
    weights[spoiled] = weights[spoiled] * np.float32(1.0001)
    assert case.judge(tmp_path, weights).status == "wrong"


@pytest.mark.parametrize(("name", "spoiled"), KEPT + REPLACED)
def test_one_reordered_weight_is_caught(name, spoiled, tmp_path):
    """The same slices in another order, in one weight only."""
    case = build(name)
    weights = case.sliced()
    axis = int(
        np.argmax(
            np.array(weights[spoiled].shape) != np.array(case.weights.get(spoiled, weights[spoiled]).shape)
        )
    )
    weights[spoiled] = np.roll(weights[spoiled], 1, axis)
    assert case.judge(tmp_path, weights).status == "wrong"


@pytest.mark.parametrize(("name", "spoiled"), KEPT)
def test_one_wrong_slice_is_caught(name, spoiled, tmp_path):
    """Another selection of the same size, in one weight only."""
    case = build(name)
    original = case.weights[spoiled]

    def other(kept: Any, length: int) -> Any:
        return kept if isinstance(kept, slice) else sorted((k + 1) % length for k in kept)

    axes = tuple(other(k, n) for k, n in zip(case.keep[spoiled], original.shape, strict=False))
    assert case.judge(tmp_path, case.sliced() | {spoiled: cut(original, axes)}).status == "wrong"


@pytest.mark.parametrize(
    "barrier",
    [
        [node("Softmax", "a", "b", axis=1)],
        [node("ReduceMean", "a", "m", axes=[1]), node("Mul", "a m", "b")],
        [node("LayerNormalization", "a g", "b", axis=1)],
        [node("ReduceL2", "a", "m", axes=[1]), node("Exp", "a", "e"), node("Div", "e m", "b")],
    ],
    ids=["softmax", "mean", "layernorm", "norm-of-others"],
)
def test_pruning_through_a_barrier_is_caught(barrier, tmp_path):
    """Each of these mixes channels: consistent slices everywhere are still a change of what stays."""
    nodes = [node("Gemm", "x w1 b1", "a"), *barrier, node("Gemm", "b w2", "y")]
    weights = {"w1": weight(6, 8), "b1": weight(8), "w2": weight(8, 4), "g": np.ones(8, np.float32)}
    keep: dict[str, Keep] = {"w1": (ALL, A), "b1": (A,), "w2": (A,), "g": (A,)}
    verdict = Case(nodes, weights, keep, (3, 6)).judge(tmp_path)
    accepted = verdict.status == "exact" and verdict.mask == "consumers"
    assert not accepted, verdict
    if barrier[0].op_type != "ReduceL2":
        assert verdict.status == "wrong"


def test_nothing_removed_is_unchanged(tmp_path):
    case = build("residual")
    verdict = case.judge(tmp_path, case.weights)
    assert verdict.status == "unchanged"
    assert verdict.error == 0


def test_local_functions_are_inlined(tmp_path):
    case = build("flatten_gemm")
    relu = helper.make_function(
        "own", "MyRelu", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    paths = []
    for name, weights in (("a", case.weights), ("b", case.sliced())):
        model = case.model(case.nodes, weights)
        model.graph.node[1].op_type, model.graph.node[1].domain = "MyRelu", "own"
        model.functions.append(relu)
        model.opset_import.append(helper.make_opsetid("own", 1))
        onnx.save(model, tmp_path / name)
        paths.append(str(tmp_path / name))
    assert oracle.judge(*paths, {"x": {"shape": [2, 3, 7, 7], "dtype": "float32"}}).status == "exact"


@pytest.mark.parametrize("how", ["truncated", "renamed output", "width that does not fit", "no file"])
def test_broken_files_are_broken(how, tmp_path):
    case = build("conv_bn_relu_conv")
    paths = [tmp_path / "original.onnx", tmp_path / "pruned.onnx"]
    case.judge(tmp_path)
    if how == "truncated":
        paths[1].write_bytes(paths[1].read_bytes()[:-100])
    elif how == "renamed output":
        model = case.model(case.nodes, case.sliced())
        model.graph.node[-1].output[0] = model.graph.output[0].name = "z"
        onnx.save(model, paths[1])
    elif how == "no file":
        paths[1].unlink()
    else:
        onnx.save(case.model(case.nodes, case.sliced() | {"w2": case.weights["w2"]}), paths[1])
    feed = {"x": {"shape": list(case.shape), "dtype": "float32"}}
    assert oracle.judge(str(paths[0]), str(paths[1]), feed).status == "broken"


# ---------------------------------------------------------------- recovery by itself


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_both_axes_are_recovered(dtype):
    a = weight(300, 200).astype(dtype)
    rows, columns = rng.permutation(300)[:150], np.sort(rng.permutation(200)[:77])
    kept = oracle.select(a, a[np.ix_(rows, columns)], hints=[rows])
    assert kept is not None
    assert np.array_equal(kept[0], rows)
    assert np.array_equal(kept[1], columns)


def test_zero_and_equal_slices():
    a = weight(6, 9)
    a[[1, 4]] = 0
    assert oracle.select(a, a[[0, 1, 5]]) is not None
    assert oracle.select(np.ones(8, np.float32), np.ones(4, np.float32)) is None


def test_of_two_hints_that_fit_none_is_trusted():
    ones, first, last = np.ones(4, np.float32), np.array([0, 1]), np.array([2, 3])
    assert oracle.select(ones, ones[:2], hints=[first, last]) is None
    assert oracle.select(ones, ones[:2], hints=[last]) is None  # the first two fit as well
    assert list(oracle.select(ones, ones[:2], hints=[last, first], guess=True)[0]) == [2, 3]
    pairs = np.array([1, 1, 2, 2, 1, 1], np.float32)
    assert list(oracle.select(pairs, pairs[[0, 2]], hints=[np.array([0, 2])])[0]) == [0, 2]


def test_foreign_values_are_not_recovered():
    a = weight(40, 30)
    b = a[:20, :10].copy()
    b[3, 4] += 1e-3
    assert oracle.select_blocks(a, b) is None


def test_rounding_is_forgiven_only_for_computed_constants():
    a = weight(64, 48)
    b = a[::2, ::3] * np.float32(1 + 2e-7)
    assert oracle.select(a, b) is None
    kept = oracle.select(a, b, exact=False)
    assert kept is not None
    assert kept[1].tolist() == list(range(0, 48, 3))


def test_macs_by_hand(tmp_path):
    by_hand = {
        "conv_bn_relu_conv": 2 * (8 * 5 * 5 * 27 + 5 * 3 * 3 * 72),
        "lstm": 6 * 2 * 2 * 28 * (3 + 7) + 6 * 2 * 14 * 5,
        "einsum": 2 * 3 * 5 * 6 + 2 * 3 * 6 * 4,
    }
    for name, macs in by_hand.items():
        assert build(name).judge(tmp_path).macs[0] == macs


# ---------------------------------------------------------------- the table


ZOO_FILL = """
import shutil, sys
shutil.copy(sys.argv[-2], sys.argv[-1])
"""


def small_zoo(folder: Path) -> Path:
    case = build("residual")
    (folder / "skeleton.py").write_text(ZOO_FILL)
    onnx.save(case.model(case.nodes, case.weights), folder / "model.onnx")
    onnx.save(case.model(case.nodes, case.sliced()), folder / "right.onnx")
    wrong = cut(case.weights["w2"], (B, [1, 2, 3, 6]))
    onnx.save(case.model(case.nodes, case.sliced() | {"w2": wrong}), folder / "wrong.onnx")
    feed = {"x": {"shape": list(case.shape), "dtype": "float32"}}
    entry = {"name": "residual", "file": "model.onnx", "feed": feed}
    (folder / "index.json").write_text(json.dumps({"models": [entry]}))
    return folder


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ("import shutil; shutil.copy('{zoo}/right.onnx', out)", "exact", 0),
        ("import shutil; shutil.copy('{zoo}/wrong.onnx', out)", "wrong", 1),
        ("import shutil; shutil.copy(model, out)", "unchanged", 0),
        ("open(out, 'w').close()", "broken", 1),
        ("pass", "broken", 1),
        ("sys.exit(3)", "refused", 0),
        ("1 / 0", "traceback", 1),
        ("os.abort()", "crash", 1),
        ("time.sleep(60)", "timeout", 1),
    ],
)
def test_every_end_of_a_pruner_has_its_status(script, status, code, tmp_path, capsys):
    zoo = small_zoo(tmp_path)
    lines = "import os, sys, time; model, out = sys.argv[1:]\n" + script.replace("{zoo}", str(zoo))
    (tmp_path / "pruner.py").write_text(lines)
    command = f"{sys.executable} {tmp_path}/pruner.py {{model}} {{out}}"
    results, table = tmp_path / "rows.json", tmp_path / "table.md"
    args = [str(zoo), "--command", command, "--timeout", "1" if status == "timeout" else "60"]
    assert coverage.main([*args, "--json", str(results), "--markdown", str(table)]) == code
    (row,) = json.loads(results.read_text())
    assert row["status"] == status
    assert (row["params_cut"] > 0.3) == (status == "exact")
    assert f"| residual | {status} |" in table.read_text()
    assert f"pruned and exact: {int(status == 'exact')}" in capsys.readouterr().out


def test_largest_blocked_share():
    layers = [
        {"params": 60, "by": "Softmax 's'"},
        {"params": 20, "by": "LayerNormalization 'a'", "reason": "sums", "unblock": "nothing"},
        {"params": 50, "by": "LayerNormalization 'b'", "reason": "means", "unblock": "--allow-approximate"},
        {"params": 70, "by": None},
    ]
    why = "means; what would unblock it: --allow-approximate"
    assert coverage.blocked_share({"layers": layers}) == (0.35, "LayerNormalization", why)
    assert coverage.blocked_share({"layers": layers[3:]}) == (0, "", "")
    for unknown in ({}, [], {"layers": 3}, {"layers": [1]}, {"layers": []}):
        assert coverage.blocked_share(unknown) == (None, "", "")
