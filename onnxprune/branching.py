"""Branches of an If taken out beside the rest of the graph, where what is in them can be pruned."""

from __future__ import annotations

import numpy as np

from .errors import InputError
from .graph import Facts, Graph, flattened, holds_weights
from .runtime import random_feeds
from .sessions import open_session


def side_by_side(graph: Graph, facts: Facts) -> tuple[Graph, str | None]:
    """The graph with both branches of each If that has weights computed before it, which only chooses.

    Where a branch can't be computed while the other one is taken (it may be for inputs of another size), the
    graph stays as it is.

    Args:
        graph: the graph.
        facts: its shapes, for inputs to try it on.

    Returns:
        The graph, and a note if it stays.
    """
    flat = flattened(graph, holds_weights)
    if flat is graph:
        return graph, None
    try:
        before, after = open_session(graph), open_session(flat)
        feeds = random_feeds(before.inputs, np.random.default_rng(0), facts.dims)
        left, right = before.run(feeds), after.run(feeds)
    except InputError as error:
        return graph, f"branches stay whole: they can't be computed side by side ({error.reason})"
    for name, value in left.items():
        if not np.array_equal(value, right[name], equal_nan=value.dtype.kind == "f"):
            return graph, f"branches stay whole: side by side they give another '{name}'"
    return flat, None
