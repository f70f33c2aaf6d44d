"""Small networks and their activations, for tests of calibration and criteria."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from onnxprune import calibration
from onnxprune.contracts.lesson import Lesson
from onnxprune.graph import Graph, Network
from onnxprune.reductions.channels import Channels
from onnxprune.runtime import Session


def build(nodes, inputs, outputs, weights, opset=17):
    """A graph; `inputs` and `outputs` map names to shapes of float32, weights to arrays."""
    proto = make_graph(
        nodes,
        "small",
        [make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )
    model = make_model(proto, ir_version=8, opset_imports=[make_opsetid("", opset)])
    onnx.checker.check_model(model)
    return Graph(model)


def residual_net(seed=0):
    """Coupled, depthwise and plain groups, with BatchNormalization, a pool and a head."""
    r = np.random.default_rng(seed)

    def w(*shape):
        return (r.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    weights = {"stem.w": w(8, 3, 3, 3), "body.w": w(8, 8, 3, 3), "wide.w": w(12, 8, 1, 1)}
    weights |= {"deep.w": w(12, 1, 3, 3), "thin.w": w(6, 12, 1, 1), "head.w": w(5, 6), "wide.b": w(12) / 9}
    for part in ("scale", "shift", "mean", "var"):
        value = r.uniform(0.5, 1.5, 8) if part in ("scale", "var") else r.standard_normal(8) / 4
        weights[f"stem.{part}"] = value.astype(np.float32)
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        make_node("Conv", ["image", "stem.w"], ["stem"], "stem", **same),
        make_node(
            "BatchNormalization",
            ["stem", "stem.scale", "stem.shift", "stem.mean", "stem.var"],
            ["norm"],
            "norm",
        ),
        make_node("Relu", ["norm"], ["a"], "relu_a"),
        make_node("Conv", ["a", "body.w"], ["body"], "body", **same),
        make_node("Add", ["body", "a"], ["sum"], "add"),
        make_node("Relu", ["sum"], ["b"], "relu_b"),
        make_node("Conv", ["b", "wide.w", "wide.b"], ["wide"], "wide"),
        make_node("Relu", ["wide"], ["c"], "relu_c"),
        make_node("Conv", ["c", "deep.w"], ["deep"], "deep", group=12, **same),
        make_node("Relu", ["deep"], ["d"], "relu_d"),
        make_node("Conv", ["d", "thin.w"], ["thin"], "thin"),
        make_node("Relu", ["thin"], ["e"], "relu_e"),
        make_node("GlobalAveragePool", ["e"], ["pooled"], "pool"),
        make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        make_node("Gemm", ["flat", "head.w"], ["logits"], "head", transB=1),
    ]
    return build(nodes, {"image": ["N", 3, 9, 7]}, {"logits": ["N", 5]}, weights)


def images(count=40, seed=1):
    """Smooth random images, so that neighbours are alike as in photos."""
    noise = np.random.default_rng(seed).standard_normal((count, 3, 9, 7))
    smooth = noise + np.roll(noise, 1, 2) + np.roll(noise, 1, 3)
    return smooth.astype(np.float32)


def channels(graph):
    """The channels of a graph that may go."""
    return Channels().find(Network(graph))


def gathered(space, needs, batches, *, positions=None, samples=None, **how):
    """Statistics of a network over samples: those that meet some needs."""
    wanted = space.wanted(frozenset(needs))
    requests = calibration.requests(space.network, wanted, positions=positions, samples=samples)
    batches = list(batches)
    found = calibration.measure(space.network.graph, requests, batches, **how)
    if not wanted.gates:
        return found
    lesson = Lesson([(feeds, None) for feeds in batches])
    return replace(found, slopes=calibration.sloped(space.network, wanted.gates, lesson))


def dumped(graph, feeds, *tensors):
    """Activations as float64, by ONNX Runtime."""
    found = Session(graph.tapped(tensors).serialized()).run(feeds, tensors)
    return [found[t].astype(np.float64) for t in tensors]


def in_batches(feeds, *sizes):
    """The same samples in batches of these sizes, the last one repeated."""
    count = len(next(iter(feeds.values())))
    start, k = 0, 0
    while start < count:
        size = sizes[min(k, len(sizes) - 1)]
        yield {n: a[start : start + size] for n, a in feeds.items()}
        start, k = start + size, k + 1


def rows_of(array, axis=1):
    """(rows, C)."""
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])


def smooth_net(r: np.random.Generator) -> Graph:
    """Two convolutions of one tap with a Sigmoid between them: gradients are easily written out."""
    weights = {
        "a.w": r.standard_normal((6, 4, 1, 1)).astype(np.float32),
        "b.w": r.standard_normal((5, 6, 1, 1)).astype(np.float32),
    }
    nodes = [
        make_node("Conv", ["x", "a.w"], ["a"], "first"),
        make_node("Sigmoid", ["a"], ["s"]),
        make_node("Conv", ["s", "b.w"], ["y"], "second"),
    ]
    return build(nodes, {"x": ["N", 4, 3, 3]}, {"y": ["N", 5, 3, 3]}, weights)
