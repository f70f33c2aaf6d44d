"""Sessions for graphs, of any size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..graph import PROTOBUF_LIMIT, Graph, save
from ..runtime import ExecutionOptions, Session


@contextmanager
def open_session(graph: Graph, options: ExecutionOptions | None = None) -> Iterator[Session]:
    """A session for a graph; one too large for protobuf goes through a temporary folder."""
    if graph.size() <= PROTOBUF_LIMIT:
        yield Session(graph.serialized(), options, where=graph.where)
        return
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        path = Path(folder) / "model.onnx"
        save(graph, path)
        yield Session(path, options)
