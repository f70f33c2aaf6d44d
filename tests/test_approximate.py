"""Widths that a normalisation runs over: only if asked for, marked, and what a narrower layer gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from nets import PRIMES, SQUARE, Dims, Net, run
from onnx import numpy_helper
from surgery import Surgery, operate

from onnxprune import apply, prune
from onnxprune.graph import Graph

EPSILON = 1e-5


def stream(n: Net, normalise: Callable[[Net, str], str]) -> None:
    """Two layers add to a stream, which a third one reads behind a normalisation."""
    x = n.input(n.B, n.H, 3)
    total = n.Add(n.dense(x, 4 * n.C), n.dense(n.Relu(n.dense(x)), 4 * n.C))
    n.output(n.MatMul(normalise(n, total), n.weight(4 * n.C, 6)))


def decomposed(n: Net, x: str) -> str:
    centred = n.Sub(x, n.ReduceMean(x, [-1]))
    variance = n.ReduceMean(n.Mul(centred, centred), [-1])
    return str(n.Mul(n.Div(centred, n.Sqrt(n.Add(variance, EPSILON))), n.weight(4 * n.C)))


def root_mean_square(n: Net, x: str) -> str:
    size = n.Sqrt(n.Add(n.ReduceMean(n.Mul(x, x), [-1]), EPSILON))
    return str(n.Mul(n.weight(4 * n.C), n.Div(x, size)))


def by_groups(n: Net, x: str) -> str:
    """GroupNorm of two groups, as it is exported."""
    first = n.Transpose(x, perm=[0, 2, 1])
    ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
    flat = n.InstanceNormalization(n.Reshape(first, [0, 2, -1]), ones, zeros)
    return str(n.Transpose(n.Reshape(flat, n.Shape(first)), perm=[0, 2, 1]))


def group_norm(n: Net, x: str) -> str:
    first = n.Transpose(x, perm=[0, 2, 1])
    y = n.GroupNormalization(first, n.positive(4 * n.C), n.weight(4 * n.C), num_groups=2)
    return str(n.Transpose(y, perm=[0, 2, 1]))


NORMS: dict[str, Callable[[Net, str], str]] = {
    "LayerNormalization": lambda n, x: n.LayerNormalization(x, n.positive(4 * n.C), n.weight(4 * n.C)),
    "LayerNormalization in parts": decomposed,
    "RMSNormalization": lambda n, x: n.RMSNormalization(x, n.positive(4 * n.C)),
    "RMSNorm in parts": root_mean_square,
    "GroupNormalization": group_norm,
    "GroupNorm in parts": by_groups,
}


def narrower(surgery: Surgery, build: Callable[[Net, str], str], dims: Dims) -> list[np.ndarray]:
    """The stream built with what is left of each weight, which must give what surgery gives."""
    model = Net("stream", dims, 23)
    stream(model, build)
    members = {m.constant: m for m in surgery.analysis.members}
    for tensor in model._initializers:
        array = model.value(tensor.name)
        for place in members[tensor.name].places if tensor.name in members else ():
            array = array.take(np.flatnonzero(surgery.kept[place.units]), place.axes[0])
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return run(model.model(), model.feeds()[0])


@pytest.mark.parametrize("dims", [PRIMES, SQUARE], ids=["primes", "square"])
@pytest.mark.parametrize("name", NORMS)
def test_normalised_width(name: str, dims: Dims) -> None:
    n = Net("stream", dims, 23)
    stream(n, NORMS[name])
    model = n.finished()
    exact = operate(model)
    assert not any(g.approximate for g in exact.analysis.groups)
    loose = operate(model, approximate=True)
    assert sorted(g.approximate for g in loose.analysis.groups) == [False, True]
    units = [sum(g.size for g in s.analysis.groups) for s in (exact, loose)]
    assert units[0] < units[1]
    (found,) = run(loose.pruned.model, n.feeds()[0])
    (expected,) = narrower(loose, NORMS[name], dims)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pruning_marks_what_is_approximate() -> None:
    n = Net("pruned")
    stream(n, NORMS["LayerNormalization"])
    graph = Graph(n.finished())
    exact = prune(graph, ratio=0.5, repair="none", simplify=False, force=True)
    assert exact.verdict.exact
    assert not any(g.approximate for g in exact.plan.groups)
    loose = prune(graph, ratio=0.5, repair="none", simplify=False, allow_approximate=True, force=True)
    assert not loose.verdict.exact
    assert loose.verdict.surgery_error is not None
    assert loose.verdict.surgery_error < 1e-5  # of the part that is exact
    assert [g.approximate for g in loose.plan.groups].count(True) == 1
    assert loose.verdict.after.params < exact.verdict.after.params
    again = apply(graph, loose.plan)
    assert again.graph.serialized() == loose.graph.serialized()
