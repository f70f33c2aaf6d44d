"""Sessions for graphs, of any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from ..errors import InputError, LoadFailed, OnnxpruneError, ProofFailed, RunFailed
from ..graph import PROTOBUF_LIMIT, Graph, apart, infer, one_sample
from ..runtime import ExecutionOptions, Feeds, Session, random_feeds


def open_session(graph: Graph, options: ExecutionOptions | None = None) -> Session:
    """A session for a graph; of one too large for protobuf, weights are passed as they are.

    Raises:
        LoadFailed: ONNX Runtime can't load it.
    """
    if graph.size() <= PROTOBUF_LIMIT and not graph.is_apart:
        return Session(graph.serialized(), options, where=graph.where)
    model, weights = apart(graph)
    return Session(model, options, where=graph.where, weights=weights)


def require_runs(
    graph: Graph, dims: Mapping[str, int] | None = None, batches: Iterable[Feeds] | None = None
) -> None:
    """Refuse a model that ONNX Runtime can't load or run, as it is written or optimised.

    Args:
        graph: the model.
        dims: sizes of symbolic dimensions.
        batches: what to run it on; random inputs by default.

    Raises:
        InputError: it is one.
    """
    as_written, optimised = open_session(graph, ExecutionOptions(optimize=False)), open_session(graph)
    if batches is None:
        specs = as_written.inputs
        batches = [random_feeds(specs, np.random.default_rng(0), _sizes(graph, dims or {}))]
    for feeds in batches:
        as_written.run(feeds)
        optimised.run(feeds)


def _sizes(graph: Graph, dims: Mapping[str, int]) -> Mapping[str, int]:
    """Sizes with which the shapes of a graph work out; those that are given, if it contradicts itself."""
    try:
        return infer(graph, {**one_sample(graph), **dims}).dims
    except Exception:
        return dims


@contextmanager
def blaming(
    graph: Graph, dims: Mapping[str, int] | None = None, batches: Iterable[Feeds] | None = None
) -> Iterator[None]:
    """What goes wrong on a model that ONNX Runtime can't run either is told as ONNX Runtime tells it.

    A model may contradict itself in ways that only running it shows (shapes, mostly). To ask costs a session
    and a run, so that is done when something has gone wrong already. On a model that runs it stays as it is.

    Args:
        graph: the model.
        dims: sizes of symbolic dimensions.
        batches: what it is run on; random inputs by default.

    Raises:
        InputError: ONNX Runtime can't load the model, or run it on these inputs.
    """
    try:
        yield
    except (OnnxpruneError, MemoryError):
        raise
    except Exception:
        require_runs(graph, dims, batches)
        raise


@contextmanager
def answering(
    graph: Graph, dims: Mapping[str, int] | None = None, batches: Iterable[Feeds] | None = None
) -> Iterator[None]:
    """As `blaming`; and where ONNX Runtime refuses what was made of a model that runs, that is a bug of ours.

    Args:
        graph: the model.
        dims: sizes of symbolic dimensions.
        batches: what it is run on; random inputs by default.

    Raises:
        InputError: ONNX Runtime can't load the model, or run it on these inputs.
        ProofFailed: it can, but not what was made of it.
    """
    try:
        with blaming(graph, dims, batches):
            yield
    except (LoadFailed, RunFailed) as failed:
        fed = failed.feeds if isinstance(failed, RunFailed) else None
        if fed is not None and fed.keys() >= set(graph.inputs):
            batches = [{name: fed[name] for name in graph.inputs}]
        try:
            require_runs(graph, dims, batches)
        except InputError as own:
            raise (failed if failed.hint else own) from None
        reason = f"the model runs, but not what was made of it: {failed.reason}"
        hint = "this is a bug of onnxprune, please report it; nothing was written"
        raise ProofFailed(reason, where=failed.where, hint=hint) from failed
