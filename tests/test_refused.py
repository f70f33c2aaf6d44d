"""A removal that was not rehearsed and does not fit together: the rest is pruned, and it is said."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import pytest
from nets import Net, run

from onnxprune import Result, prune
from onnxprune.errors import Infeasible
from onnxprune.graph import Graph
from onnxprune.ops.record import Inconsistent
from onnxprune.report import Reduced, report


def scaled(*, behind: bool) -> onnx.ModelProto:
    """16 channels, all times a number that is the same as long as 4 of them are left; 12 may follow."""
    n = Net("scaled", opset=18)
    y = n.conv(n.input("batch", 3, n.H, n.W), 16)
    batch, channels = (n.Gather(n.Shape(y), [axis]) for axis in (0, 1))
    scale = n.Cast(n.Mul(n.Min(channels, [4]), batch), to=onnx.TensorProto.FLOAT)
    z = n.Mul(y, scale)
    n.read(n.Relu(n.conv(z, 12)) if behind else z)
    return n.finished()


def pruned(here, ratio: float, *, behind: bool) -> Result:
    onnx.save(scaled(behind=behind), here / "m.onnx")
    return prune(
        here / "m.onnx", ratio=ratio, simplify=False, repair="none", measure_latency=False, force=True
    )


def test_half_of_it_may_go(tmp_path):
    result = pruned(tmp_path, 0.5, behind=True)
    assert {g.size: g.kept for g in result.plan.groups} == {16: 8, 12: 6}


def test_what_does_not_fit_stays_and_the_rest_goes(tmp_path):
    result = pruned(tmp_path, 0.9, behind=True)
    assert {g.size: g.kept for g in result.plan.groups} == {12: 2}
    assert result.verdict.exact
    assert any("a number computed from a width would change" in w for w in result.verdict.warnings)
    phases = [Reduced(one.search.spaces, one.choice) for one in result.solved]
    told = report(result.plan, result.verdict, phases, result.graph)
    (blocked,) = (b for b in told["blocked"] if b["channels"] == 16)
    assert blocked["by"].startswith("Mul")
    assert blocked["unblock"] == "removing fewer of them"
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 3)).astype(np.float32)
    assert np.isfinite(run(result.model, {result.graph.inputs[0]: x})[0]).all()


def test_where_nothing_else_could_go_that_is_the_reason(tmp_path):
    with pytest.raises(
        Infeasible, match=r"Mul '.*': a number computed.*would change; .*removing fewer of them"
    ):
        pruned(tmp_path, 0.9, behind=False)


def test_it_comes_back_from_another_process():
    graph = Graph(scaled(behind=True))
    trouble = Inconsistent(graph.nodes[0], "widths differ", np.array([3, 1, 3]))
    back = pickle.loads(pickle.dumps(trouble))
    assert str(back) == str(trouble)
    assert back.ids.tolist() == [1, 3]
