"""Gradients against central differences of the graph as it was, run by ONNX Runtime as it is written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from onnxprune.gradients import Runner, backward, linear, weights_of
from onnxprune.graph import Facts, Graph, infer, is_floating

STEPS = (2.0**-5, 2.0**-7, 2.0**-9, 2.0**-11)
"""Of these the closest difference counts: rounding and kinks make some of them worse, none of them better."""
WAYS = 3
"""Directions for each tensor."""


def sources(graph: Graph) -> list[str]:
    """Every weight and every input of floating-point numbers."""
    inputs = [v.name for v in graph.model.graph.input if v.type.tensor_type.elem_type in (1, 10, 11)]
    return [*weights_of(graph), *inputs]


def projections(graph: Graph, facts: Facts) -> list[str]:
    return [o for o in graph.outputs if is_floating(facts.dtypes[o])]


def compare(
    model: onnx.ModelProto,
    feeds: dict[str, np.ndarray],
    dims: dict[str, int],
    *,
    wrt: Sequence[str] | None = None,
    tolerance: float = 2e-3,
    steps: Sequence[float] = STEPS,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Hold all gradients of a random projection of all outputs against differences; returns the gradients."""
    graph = Graph(onnx.ModelProto.FromString(model.SerializeToString()))
    facts = infer(graph, dims)
    names = sources(graph) if wrt is None else list(wrt)
    outputs = projections(graph, facts)
    gradient = backward(graph, facts, linear(graph, facts, *outputs), names)
    assert set(gradient.graph.operators()) <= standard(model, gradient.graph)
    moving = _Moving(model, names)
    rng = np.random.default_rng(seed)
    known = moving.run(feeds, {})
    targets = {o: rng.standard_normal(known[o].shape) for o in outputs}
    fed = {f"{o}.target": t.astype(_dtype(facts, o)) for o, t in targets.items()}
    step = Runner(gradient).step({**feeds, **fed})
    for name in names:
        found, start = step.gradients[name], moving.start(name, feeds)
        assert found.shape == start.shape, name
        size = max(float(np.linalg.norm(found.astype(np.float64))), 1e-6)
        for turn in range(WAYS):
            way = unit(rng.standard_normal(start.shape))
            if turn:  # of many weights, a random direction alone sees little of the gradient
                way = unit(way + unit(found.astype(np.float64)))
            told = float(np.vdot(found.astype(np.float64), way))
            seen = [_slope(moving, feeds, name, start, way, s, targets) for s in steps]
            error = min(abs(s - told) for s in seen)
            assert error <= tolerance * size + 2e-4, (name, told, seen)
    return dict(step.gradients)


def unit(way: np.ndarray) -> np.ndarray:
    return np.asarray(way / max(np.linalg.norm(way), 1e-12))


def standard(model: onnx.ModelProto, graph: Graph) -> set[str]:
    """Operators of ai.onnx, and those that the model uses itself."""
    own = {f"{n.domain}:{n.op_type}" for n in model.graph.node if n.domain}
    return own | {op for op in graph.operators() if ":" not in op}


def _dtype(facts: Facts, name: str) -> np.dtype:
    return np.dtype(np.float64) if facts.dtypes[name] == np.float64 else np.dtype(np.float32)


def _slope(moving, feeds, name, start, way, step, targets) -> float:
    values = []
    for sign in (1, -1):
        moved = (start + sign * step * way).astype(start.dtype)
        outputs = moving.run(feeds, {name: moved})
        values.append(sum(float(np.vdot(outputs[o].astype(np.float64), t)) for o, t in targets.items()))
    return (values[0] - values[1]) / (2 * step)


class _Moving:
    """A model whose constants can be fed."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        moved = onnx.ModelProto.FromString(model.SerializeToString())
        self._start = {}
        for tensor in list(moved.graph.initializer):
            if tensor.name in names:
                self._start[tensor.name] = numpy_helper.to_array(tensor)
                moved.graph.initializer.remove(tensor)
                value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                moved.graph.input.append(value)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            moved.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [o.name for o in self._session.get_outputs()]

    def start(self, name: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
        return self._start.get(name, feeds.get(name))

    def run(self, feeds: dict[str, np.ndarray], more: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = {**feeds, **self._start, **more}
        wanted = {i.name for i in self._session.get_inputs()}
        found = self._session.run(self._outputs, {k: v for k, v in given.items() if k in wanted})
        return dict(zip(self._outputs, found, strict=True))
