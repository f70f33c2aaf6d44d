"""Cleaning a graph before surgery: constant folding, dead nodes, shape arithmetic that is known."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..contracts.rewrite import NotApplied
from ..graph import PROTOBUF_LIMIT, Graph, Network
from ..runtime import silence

GROWTH = 1.5
"""Where the file would be so many times as large, what is large is not computed beforehand."""

_LARGE = 100
"""A constant is large from this part of the file on."""


@dataclass(frozen=True)
class Cleaning:
    """Constant folding, dead nodes and fusing of BatchNormalization, by onnxslim."""

    name: str = "cleaning"

    def __call__(self, network: Network) -> Network:
        """See `Rewrite`."""
        graph = network.graph
        if graph.size() > PROTOBUF_LIMIT or graph.is_apart:
            raise NotApplied("the model is larger than 2 GB")
        try:
            candidate = _slim(graph)
            if candidate.size() > GROWTH * graph.size():
                candidate = _slim(graph, size_threshold=graph.size() // _LARGE)
        except Exception as error:  # a cleaner that fails is no reason not to prune
            raise NotApplied(f"onnxslim failed ({type(error).__name__})") from error
        return network.of(candidate)


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
    return Graph(model, graph.path, graph.held)


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
    given = graph.model.graph
    types = {value.name: value.type for value in (*given.input, *given.output)}
    for value in (*cleaned.input, *cleaned.output):
        if value.name in types:
            value.type.CopyFrom(types[value.name])
    made = {output for node in cleaned.node for output in node.output}
    declared = [v for v in graph.model.graph.value_info if v.name in made]
    del cleaned.value_info[:]
    cleaned.value_info.extend(declared)
