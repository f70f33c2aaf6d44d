"""An oracle of the surgery that knows no operator: the pruned graph is the original with zeros in it.

The analysis says at which inputs of which nodes removed channels are dropped. In a copy of the original a
`Where` writes zeros there and nowhere else, whatever the node and whatever its input is made of, and both
graphs run. So nothing that a rule says is believed: wrong places, a wrong order or a wrong width give other
numbers, or a graph that doesn't run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from nets import run
from onnx import TensorProto, helper, numpy_helper

from onnxprune.contracts.choices import Granularity
from onnxprune.contracts.selection import keep_best
from onnxprune.graph import Graph, infer
from onnxprune.ops import RULES
from onnxprune.ops.op import Rule
from onnxprune.reductions.channels.analysis import Analysis
from onnxprune.reductions.channels.cut import recorded
from onnxprune.reductions.channels.find import analyze
from onnxprune.types import Mask

TOLERANCE = 2e-5


@dataclass(frozen=True)
class Surgery:
    """A model before and after random removal."""

    original: Graph
    analysis: Analysis
    kept: Mask
    pruned: Graph

    @property
    def removed(self) -> int:
        return int((~self.kept).sum())


def operate(
    model: onnx.ModelProto,
    *,
    seed: int = 0,
    share: float | None = 0.5,
    dims: Mapping[str, int] | None = None,
    rules: Mapping[str, Rule] = RULES,
    granularity: Granularity = "auto",
    approximate: bool = False,
) -> Surgery:
    """Remove units at random: a share of every group, or, if that is `None`, a random share of each."""
    graph = Graph(model)
    facts = infer(graph, dims)
    analysis = analyze(graph, facts, rules=rules, granularity=granularity, approximate=approximate)
    random = np.random.default_rng(seed)
    kept = np.ones(analysis.count, bool)
    for group in analysis.groups:
        wanted = random.uniform(0.1, 1) if share is None else 1 - share
        kept[group.units] = keep_best(group, random.random(group.size), round(wanted * group.size))
    pruned = graph if kept.all() else recorded(graph, facts, analysis, kept, rules)[0]
    return Surgery(graph, analysis, kept, pruned)


def check(surgery: Surgery, feeds: Mapping[str, np.ndarray], *, all_read: bool = False) -> None:
    """All that must hold of a pruned graph.

    Args:
        surgery: the graph, before and after.
        feeds: input -> value.
        all_read: no channel is dead, so that masking some must show.

    Raises:
        AssertionError: it does not.
    """
    before, after = surgery.original.model, surgery.pruned.model
    if _is_valid(before):
        onnx.checker.check_model(after, full_check=True)
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert list(after.opset_import) == list(before.opset_import)
    _check_constants(before, after)
    expected = run(masked(surgery), dict(feeds))
    found = run(after, dict(feeds))
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        if a.dtype.kind == "f":
            assert np.isfinite(a).all(), "the test compares NaN with NaN"
            np.testing.assert_allclose(
                b, a, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(a).max(initial=0)))
            )
        else:
            np.testing.assert_array_equal(a, b)
    if all_read and surgery.removed:
        untouched = run(before, dict(feeds))
        assert any(not np.array_equal(a, u) for a, u in zip(expected, untouched, strict=True)), (
            "nothing was masked"
        )


def _is_valid(model: onnx.ModelProto) -> bool:
    """Whether the checker knows all operators; ONNX Runtime has some in ONNX's own domain."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def _check_constants(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Float weights that keep their name keep their dtype and, where they stay, their exact values."""
    old = {t.name: numpy_helper.to_array(t) for t in before.graph.initializer}
    for tensor in after.graph.initializer:
        if tensor.name in old and old[tensor.name].dtype.kind == "f":
            array = numpy_helper.to_array(tensor)
            assert array.dtype == old[tensor.name].dtype
            assert np.isin(array, old[tensor.name]).all(), f"values of '{tensor.name}' have changed"


def masked(surgery: Surgery) -> onnx.ModelProto:
    """The original, reading zero for what was removed wherever the analysis says that it is dropped."""
    model = onnx.ModelProto()
    model.CopyFrom(surgery.original.model)
    types = _types(model)
    before: dict[int, list[onnx.NodeProto]] = {}
    for k, reader in enumerate(surgery.analysis.readers):
        kept = surgery.kept[reader.place.units]
        if kept.all():
            continue
        node = model.graph.node[reader.node]
        shape = [1] * len(reader.view)
        for axis, length in zip(reader.place.axes, kept.shape, strict=True):
            shape[axis] = length
        name = f"masked{k}"
        source = node.input[reader.input]
        types[name] = types.get(source, TensorProto.FLOAT)
        zero = np.zeros((), helper.tensor_dtype_to_np_dtype(types[name]))
        view = [n if axis or axis in reader.place.axes else -1 for axis, n in enumerate(reader.view)]
        parts = {"keep": kept.reshape(shape), "zero": zero, "view": np.asarray(view)}
        model.graph.initializer.extend(numpy_helper.from_array(v, f"{name}.{p}") for p, v in parts.items())
        before.setdefault(reader.node, []).extend(
            [
                helper.make_node("Shape", [source], [f"{name}.shape"]),
                helper.make_node("Reshape", [source, f"{name}.view"], [f"{name}.seen"]),
                helper.make_node(
                    "Where", [f"{name}.keep", f"{name}.seen", reader.zero or f"{name}.zero"], [f"{name}.new"]
                ),
                helper.make_node("Reshape", [f"{name}.new", f"{name}.shape"], [name]),
            ]
        )
        node.input[reader.input] = name
    nodes = [n for i, node in enumerate(model.graph.node) for n in [*before.get(i, []), node]]
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*inferred.input, *inferred.value_info]}
    return types | {t.name: t.data_type for t in inferred.initializer}
