"""Cleaning a graph before surgery: constant folding, dead nodes, shape arithmetic that is known."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..execution.sessions import open_session
from ..graph import PROTOBUF_LIMIT, Facts, Graph
from ..quality.loss import SQUASHED, squashed, telling
from ..runtime import random_feeds, silence

GROWTH = 1.5
"""Where the file would be so many times as large, what is large is not computed beforehand."""

_LARGE = 100
"""A constant is large from this part of the file on."""

TOLERANCE = 1e-4
"""Relative difference of outputs above which the cleaned graph is dropped."""


def cleaned(graph: Graph, facts: Facts) -> tuple[Graph, str | None]:
    """The graph as onnxslim leaves it, or as it was where that fails or computes something else.

    Returns:
        The graph, and a note if cleaning was dropped.
    """
    if graph.size() > PROTOBUF_LIMIT or graph.is_apart:
        return graph, "cleaning was skipped: the model is larger than 2 GB"
    try:
        candidate = _slim(graph)
        if candidate.size() > GROWTH * graph.size():
            candidate = _slim(graph, size_threshold=graph.size() // _LARGE)
    except Exception as error:  # a cleaner that fails is no reason not to prune
        return graph, f"cleaning was skipped: onnxslim failed ({type(error).__name__})"
    if candidate.inputs != graph.inputs or candidate.outputs != graph.outputs:
        return graph, "cleaning was dropped: it changed inputs or outputs"
    also = [name for name in telling(graph) if name in graph.producer and name in candidate.producer]
    before, after = (open_session(g.tapped(also)) for g in (graph, candidate))
    feeds = random_feeds(before.inputs, np.random.default_rng(0), facts.dims)
    left, right = before.run(feeds), after.run(feeds)
    for name, a in left.items():
        b = right[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            return graph, f"cleaning was dropped: it changed the shape of '{name}'"
        if a.dtype.kind == "f" and a.size:
            behind = squashed(graph, name) if name in graph.outputs else ()
            least = SQUASHED if behind and {*behind} <= {*also} else 0.0
            scale = max(float(np.nanmax(np.abs(a), initial=0.0)), least) or 1.0
            if not np.allclose(a / scale, b / scale, atol=TOLERANCE, rtol=0, equal_nan=True):
                return graph, f"cleaning was dropped: it changed the values of '{name}'"
    return candidate, None


def _slim(graph: Graph, **options: Any) -> Graph:
    import onnxslim

    given = copy.deepcopy(graph.model)
    for output in given.graph.output:  # onnxslim believes what is declared, which may not be true
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    # Weights that happen to be equal stay apart: a plan names them, and another checkpoint's are not.
    with _unheard():
        model = onnxslim.slim(given, skip_optimizations=["weight_tying"], **options)
    model.doc_string = graph.model.doc_string
    _declare_as_before(model.graph, graph)
    return Graph(model, graph.path)


@contextmanager
def _unheard() -> Iterator[None]:
    """Not a line of onnxslim: whenever it is called, it sets up its own log, and turns ONNX Runtime's on."""
    from onnxslim import utils

    set_up = utils.init_logging

    def silenced(verbose: bool = False) -> logging.Logger:
        logger: logging.Logger = set_up(verbose)
        logger.setLevel(logging.CRITICAL + 1)
        utils.G_LOGGER.severity = logging.CRITICAL + 1
        silence()
        return logger

    utils.init_logging = silenced
    try:
        yield
    finally:
        utils.init_logging = set_up


def _declare_as_before(cleaned: Any, graph: Graph) -> None:
    """Shapes that the model declares: onnxslim adds its own, in words that differ from run to run."""
    types = {output.name: output.type for output in graph.model.graph.output}
    for output in cleaned.output:
        if output.name in types:
            output.type.CopyFrom(types[output.name])
    made = {output for node in cleaned.node for output in node.output}
    declared = [v for v in graph.model.graph.value_info if v.name in made]
    del cleaned.value_info[:]
    cleaned.value_info.extend(declared)
