"""`--masked`: the shapes of the original, and zero where pruning would cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..contracts.analysis import Analysis
from ..execution.sessions import open_session
from ..graph import Array, Edits, Graph
from ..ops.layers import LINEAR
from ..proof.compare import surgery_error
from ..reductions.channels.mask import masked
from ..types import Mask
from .job import Job, Made, inputs
from .judge import size

_AFFINE = {"Add": (0, 1), "BatchNormalization": (1, 2)}
"""Inputs of operators that are no linear layers where a zero for a unit that nobody reads is finite."""


def as_mask(job: Job, made: Made) -> Made:
    """Zeros in place of what was cut: it computes the same, which is checked in ONNX Runtime.

    Where a removed unit is summed over, zero is read. What makes it is zero as well, so that it gets no
    gradient either, unless something on the way turns that zero into no number.

    Args:
        job: the run.
        made: cut, and not repaired.
    """
    ready = job.ready
    read = masked(ready.graph, ready.facts, ready.analysis, made.kept)
    graph = _silent(read, ready.analysis, made.kept)
    mask, cut = open_session(graph), open_session(made.graph)
    if not surgery_error(cut, mask, inputs(job))[1]:
        graph = read
    left, all_ = size(made.graph, job.timing.dims), size(ready.original, job.timing.dims)
    note = (
        f"masked: nothing is smaller yet; cut, it has {left.params / all_.params:.1%} of the parameters, "
        f"{left.macs / (all_.macs or 1):.1%} of the MACs and {left.bytes / all_.bytes:.1%} of the bytes"
    )
    return replace(made, outcome=replace(made.outcome, graph=graph), notes=(*made.notes, note), in_place=True)


def _silent(graph: Graph, analysis: Analysis, kept: Mask) -> Graph:
    """With zeros for units that go in every weight that makes or reads them."""
    arrays: dict[str, Array] = {}
    for member in analysis.members:
        name = member.constant
        alone = member.use is None or len(graph.readers.get(name, ())) == 1
        if not alone or member.untied is not None or not _may_be_zero(graph, name):
            continue
        array = arrays.get(name, graph.array(name)).reshape(member.view).copy()
        for place in member.places:
            front = np.moveaxis(array, place.axes, range(len(place.axes)))
            front[~kept[place.units]] = 0
        arrays[name] = array.reshape(graph.shape_of_constant(name))
    return graph.edited(Edits(constants=arrays))


def _may_be_zero(graph: Graph, name: str) -> bool:
    if name not in graph.constants or not graph.is_weight(name) or graph.dtype(name).kind == "i":
        return False
    return all(i in _made_of(node.op) for node, i in graph.readers[name])


def _made_of(op: str) -> tuple[int, ...]:
    """Inputs where constants may be zero for units that nobody reads: what comes of it is finite."""
    row = LINEAR.get(op)
    if row is None or row.recurrent or row.zero is not None:
        return _AFFINE.get(op, ())
    return row.weights if row.bias is None else (*row.weights, row.bias)
