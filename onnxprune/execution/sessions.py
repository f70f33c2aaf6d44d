"""Sessions for graphs, of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from ..errors import OnnxpruneError
from ..graph import PROTOBUF_LIMIT, Graph, apart
from ..runtime import ExecutionOptions, Session, random_feeds


def open_session(graph: Graph, options: ExecutionOptions | None = None) -> Session:
    """A session for a graph; of one too large for protobuf, weights are passed as they are.

    Raises:
        InputError: ONNX Runtime can't load it.
    """
    if graph.size() <= PROTOBUF_LIMIT and not graph.is_apart:
        return Session(graph.serialized(), options, where=graph.where)
    model, weights = apart(graph)
    return Session(model, options, where=graph.where, weights=weights)


def require_runs(graph: Graph, dims: Mapping[str, int] | None = None) -> None:
    """Refuse a model that ONNX Runtime can't load, or run on random inputs, as it is written.

    Args:
        graph: the model.
        dims: sizes of symbolic dimensions.

    Raises:
        InputError: it is one.
    """
    session = open_session(graph, ExecutionOptions(optimize=False))
    session.run(random_feeds(session.inputs, np.random.default_rng(0), dims))


@contextmanager
def blaming(graph: Graph, dims: Mapping[str, int] | None = None) -> Iterator[None]:
    """If ONNX Runtime can't run the model either, raise its error in place of ours.

    A model may contradict itself in ways that only running it shows (shapes, mostly). To ask costs a session
    and a run, so that is done when something has gone wrong already. On a model that runs it stays as it is.

    Args:
        graph: the model.
        dims: sizes of symbolic dimensions.

    Raises:
        InputError: ONNX Runtime can't load the model, or run it on random inputs.
    """
    try:
        yield
    except (OnnxpruneError, MemoryError):
        raise
    except Exception:
        require_runs(graph, dims)
        raise
