"""Sessions for graphs, of any size."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..graph import PROTOBUF_LIMIT, Graph, save
from ..runtime import ExecutionOptions, Session


def open_session(graph: Graph, options: ExecutionOptions | None = None) -> Session:
    """A session for a graph; one too large for protobuf takes the way over a temporary folder.

    Raises:
        InputError: ONNX Runtime can't load it.
    """
    if graph.size() <= PROTOBUF_LIMIT:
        return Session(graph.serialized(), options, where=graph.where)
    # What is loaded stays, without its files as well; a system that keeps open files keeps the folder.
    with tempfile.TemporaryDirectory(prefix="onnxprune-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.onnx"
        save(graph, path)
        return Session(path, options)
